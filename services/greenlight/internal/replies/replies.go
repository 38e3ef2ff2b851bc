// Package replies calls services in parallel, and shows each answer as a line for people and as JSON.
package replies

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/greenlight-ml/greenlight/services/greenlight/internal/canaryview"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

// ErrUnreached means that a part of the status is missing.
var ErrUnreached = errors.New("a part of the status is missing: see above")

// Reply is the JSON of one service's answer.
type Reply struct {
	Address string `json:"address"`
	// Error is why there is no answer.
	Error string `json:"error,omitempty"`
	// Answer is the answer of the contract in its JSON form, with all fields. It is absent if the call returned none.
	Answer json.RawMessage `json:"answer,omitempty"`
}

// Of returns the JSON of an answer of the service at addr, or of its error.
func Of(addr string, answer any, err error) (Reply, error) {
	r := Reply{Address: addr}
	if err != nil {
		r.Error = fleet.Plain(err).Error()
		return r, nil
	}
	if m, ok := answer.(proto.Message); ok {
		r.Answer, err = protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true}.Marshal(m)
	}
	return r, err
}

// Outputs makes the replies the output of a command.
func Outputs(c console.Console, cmd *cobra.Command) func([]Reply) error {
	return console.Outputs[[]Reply](c, cmd, "greenlight/replies/v1")
}

// Each calls all services in parallel, and prints a line for each: its answer as text, or its error. Its own error names those
// that failed.
func Each[T, R any](c console.Console, show func([]Reply) error, kind string, all []T, addr func(T) string, call func(T) (R, error), text func(T, R) string) error {
	answers, errs := fleet.Each(all, call)
	fleet.Rethrow(errs...)
	var failed error
	replies := make([]Reply, len(all))
	for i, one := range all {
		var err error
		if replies[i], err = Of(addr(one), answers[i], errs[i]); err != nil {
			return err
		}
		label := fmt.Sprintf("%-9s %s", strings.TrimPrefix(kind, "ml-"), addr(one))
		if errs[i] != nil {
			c.Say("%s FAILED: %s", label, canaryview.Line(fleet.Plain(errs[i]).Error()))
			failed = errors.Join(failed, fmt.Errorf("%s %s: %w", kind, addr(one), fleet.Plain(errs[i])))
			continue
		}
		c.Say("%s %s", label, text(one, answers[i]))
	}
	return errors.Join(failed, show(replies))
}
