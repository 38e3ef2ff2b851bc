package oipengine

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/greenlight-ml/greenlight/pkg/rpc"
)

// scheme is the URL scheme of a model server.
const scheme = "oip://"

// IsTarget reports whether the address is a model server's.
func IsTarget(addr string) bool { return strings.HasPrefix(addr, scheme) }

// Target is a model of a model server.
type Target struct {
	// Addr is the gRPC address of the server.
	Addr string
	// Model and Version name the model. The server chooses a missing version.
	Model, Version string
	// Input and Output are the names of the tensors; empty if the choice is unique.
	Input, Output string
	// Column is the output column with the score; -1 if the output has one column.
	Column int
}

// maxColumn limits the columns of an output, and maxParameter the length of a name, in bytes.
const maxColumn, maxParameter = 1 << 10, 256

// ParseTarget reads an address of the form oip://host:port?model=name[&version=][&input=][&output=][&column=]. Any other gRPC
// address may replace host:port.
func ParseTarget(s string) (Target, error) {
	wrong := func(format string, args ...any) (Target, error) {
		return Target{}, fmt.Errorf("address %q: %s: want oip://host:port?model=name and, if needed, version, input, output and column", s, fmt.Sprintf(format, args...))
	}
	addr, query, _ := strings.Cut(strings.TrimPrefix(s, scheme), "?")
	if err := rpc.CheckTarget(addr); !IsTarget(s) || err != nil {
		return wrong("%v", err)
	}
	parameters, err := url.ParseQuery(query)
	if err != nil {
		return wrong("%v", err)
	}
	t := Target{Addr: addr, Column: -1}
	for _, name := range slices.Sorted(maps.Keys(parameters)) {
		values := parameters[name]
		if len(values) > 1 || values[0] == "" || len(values[0]) > maxParameter {
			return wrong("%s must have one value of 1 to %d bytes", name, maxParameter)
		}
		switch value := values[0]; name {
		case "model":
			t.Model = value
		case "version":
			t.Version = value
		case "input":
			t.Input = value
		case "output":
			t.Output = value
		case "column":
			if t.Column, err = strconv.Atoi(value); err != nil || t.Column < 0 || t.Column >= maxColumn {
				return wrong("column %q is not a number from 0 to %d", value, maxColumn-1)
			}
		default:
			return wrong("%q is not a parameter", name)
		}
	}
	if t.Model == "" {
		return wrong("the model is missing")
	}
	return t, nil
}
