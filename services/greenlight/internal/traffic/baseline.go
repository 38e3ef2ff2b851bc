package traffic

import (
	"fmt"
	"strings"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/model"
)

// Baseline is the model that an executor decides by.
type Baseline struct {
	evidence.Model

	// Inputs are its features, in order.
	Inputs []string
	// Scorer is nil if the registry does not have the baseline. Its answers cannot be checked then.
	Scorer interface{ Score(x []float64) float64 }
	// Sent reports whether the executor takes its score from the request. Scorer then computes what is sent.
	Sent bool
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

// column is the scorer of a baseline whose score is in the data.
type column struct{}

func (column) Score(x []float64) float64 { return x[0] }

// Sending returns the baseline of an executor that takes its callers' score. from is what computes the score: heuristic=<file>,
// model=<entry> of the registry, or column=<name> of the table that is sent.
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
		b = Baseline{Inputs: []string{what}, Scorer: column{}}
	}
	if b.Scorer == nil {
		return b, fmt.Errorf("--baseline %q: want %s", from, SendingForms)
	}
	b.Model, b.Sent = named, true
	return b, nil
}

// SendingForms are the forms of what computes a caller's score.
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
			continue // a model that cannot be read could not check the answers either
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
