// Package evidencedoc reads an evidence folder as a whole: whether its verdicts follow from its figures, and what a
// reader should know of it, in one document.
package evidencedoc

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
)

// documents are the names of the JSON files of an evidence folder, in order.
func documents(folder string) ([]string, error) {
	var names []string
	for _, pattern := range []string{"*.json", "daily/*.json", "weekly/*.json"} {
		found, err := filepath.Glob(filepath.Join(folder, filepath.FromSlash(pattern)))
		if err != nil {
			return nil, err
		}
		for _, path := range found {
			name, err := filepath.Rel(folder, path)
			if err != nil {
				return nil, err
			}
			names = append(names, filepath.ToSlash(name))
		}
	}
	slices.Sort(names)
	return names, nil
}

// Recheck judges every figure of the folder again that says it passed, wherever it stands in a file, and returns those
// that do not pass by their own value, threshold and number of samples. A verdict may be stricter than its figure, where
// more than the figure was asked; it may not be laxer.
func Recheck(folder string) ([]evidence.Problem, error) {
	names, err := documents(folder)
	if err != nil {
		return nil, err
	}
	var problems []evidence.Problem
	for _, name := range names {
		raw, err := os.ReadFile(filepath.Join(folder, filepath.FromSlash(name)))
		if err != nil {
			return nil, err
		}
		if err := walk(raw, func(r gate.Result) {
			if again := judge(r); r.Verdict == gate.Pass && again.Verdict != gate.Pass {
				problems = append(problems, evidence.Problem{File: name, What: fmt.Sprintf("says that %q is PASS; by its figures it is %s: %s",
					r.Name, again.Verdict, again.Reason)})
			}
		}); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return problems, nil
}

// judge is the result by its own figures.
func judge(r gate.Result) gate.Result {
	seen := gate.Missing("no value")
	if r.Value != nil {
		seen = gate.Measured(*r.Value, r.N)
	}
	return gate.Check(gate.Rule{Name: r.Name, Op: r.Op, Threshold: r.Threshold, Unit: r.Unit, MinSamples: r.MinSamples}, seen)
}

// walk calls found for every result in a JSON value: an object with a name, a verdict, a comparison and a threshold.
func walk(raw json.RawMessage, found func(gate.Result)) error {
	switch strings.TrimSpace(string(raw))[0] {
	case '[':
		var list []json.RawMessage
		if err := json.Unmarshal(raw, &list); err != nil {
			return err
		}
		for _, v := range list {
			if err := walk(v, found); err != nil {
				return err
			}
		}
	case '{':
		var object map[string]json.RawMessage
		if err := json.Unmarshal(raw, &object); err != nil {
			return err
		}
		if object["name"] != nil && object["verdict"] != nil && object["op"] != nil && object["threshold"] != nil {
			var r gate.Result
			if err := json.Unmarshal(raw, &r); err != nil {
				return err
			}
			found(r)
		}
		for _, v := range object {
			if err := walk(v, found); err != nil {
				return err
			}
		}
	}
	return nil
}
