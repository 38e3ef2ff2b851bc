package traffic

import (
	"fmt"
	"maps"
	"math"
	"strings"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/model"
)

// Baseline is the model that an executor decides by.
type Baseline struct {
	evidence.Model

	// Inputs are its features, in order; with a Column, only the column.
	Inputs []string
	// Scorer is nil with a Column, or if the registry lacks the baseline: then its answers cannot be checked.
	Scorer model.Scorer
	// Sent reports whether the executor takes the score from the request. It is computed by Scorer, or read from Column of the
	// data.
	Sent   bool
	Column string
}

// unknown reports whether the score of the baseline is unknown.
func (b Baseline) unknown() bool { return b.Scorer == nil && b.Column == "" }

// scores returns a function that returns the score of a row of the frame, NaN if it is unknown, and adds the inputs that an
// executor needs to named. It reports false if the row lacks an input.
func (b Baseline) scores(frame Frame) (func(i int, named map[string]float64) (float64, bool), error) {
	if b.Column != "" {
		column := frame.Column(b.Column)
		return func(i int, _ map[string]float64) (float64, bool) {
			if i >= len(column) || math.IsNaN(column[i]) {
				return 0, false
			}
			return column[i], true
		}, nil
	}
	inputs, err := feature.Named("inputs", b.Inputs...)
	if err != nil {
		return nil, err
	}
	x := make([]float64, inputs.Len())
	return func(i int, named map[string]float64) (float64, bool) {
		if !frame.Row(i, inputs, x) {
			return 0, false
		}
		if !b.Sent {
			maps.Insert(named, pairs(inputs, x))
		}
		if b.Scorer == nil {
			return math.NaN(), true
		}
		return b.Scorer.Score(x), true
	}, nil
}

// Heuristic returns the baseline that was released with the model.
func Heuristic(a *model.Artifact) Baseline {
	return heuristic(a.Baseline)
}

func heuristic(b *model.Baseline) Baseline {
	return Baseline{Model: evidence.Model{Version: b.Version, Digest: b.Digest()}, Inputs: b.Inputs(), Scorer: b}
}

// Sends reports whether the baseline that an executor names is its callers' own score.
func Sends(named evidence.Model) bool {
	digest, err := model.CallerDigest(named.Version)
	return err == nil && digest == named.Digest
}

// Sending returns the baseline of an executor that takes its callers' score. from names the source of the score:
// heuristic=<file>, model=<entry> of the registry, or column=<name> of the table that is sent.
func Sending(registry *model.Registry, named evidence.Model, from string) (b Baseline, err error) {
	switch kind, what, _ := strings.Cut(from, "="); {
	case what == "":
	case kind == "heuristic":
		loaded, err := model.LoadBaseline(what)
		if err != nil {
			return b, err
		}
		b = heuristic(loaded)
	case kind == "model":
		a, err := registry.Load(what)
		if err != nil {
			return b, err
		}
		b = Baseline{Inputs: a.Schema.Names(), Scorer: a.Scorer}
	case kind == "column":
		b = Baseline{Inputs: []string{what}, Column: what}
	}
	if b.unknown() {
		return b, fmt.Errorf("--baseline %q: want %s", from, SendingForms)
	}
	b.Model, b.Sent = named, true
	return b, nil
}

// SendingForms lists the sources of a caller's score.
const SendingForms = "heuristic=<file>, model=<registry entry> or column=<name> of --table"

// FindBaseline finds the baseline that an executor names: the heuristic of a, a model of the registry, or the heuristic
// of such a model. An unknown baseline has no Scorer, and takes the inputs of the heuristic of a.
func FindBaseline(registry *model.Registry, a *model.Artifact, named evidence.Model) (Baseline, error) {
	if own := Heuristic(a); own.Digest == named.Digest {
		return own, nil
	}
	entries, err := registry.List()
	if err != nil {
		return Baseline{}, err
	}
	for _, e := range entries {
		m, err := registry.Manifest(e)
		if err != nil || m.Digest != named.Digest && m.Files[model.BaselineFile] != named.Digest {
			continue // an unreadable model could not check the answers either
		}
		other, err := registry.Load(e.String())
		if err != nil {
			return Baseline{}, fmt.Errorf("the executor's baseline %s: %w", named.Version, err)
		}
		if m.Digest == named.Digest {
			return Baseline{Model: named, Inputs: other.Schema.Names(), Scorer: other.Scorer}, nil
		}
		return Heuristic(other), nil
	}
	return Baseline{Model: named, Inputs: a.Baseline.Inputs()}, nil
}
