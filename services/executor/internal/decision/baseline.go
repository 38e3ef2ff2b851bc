// Package decision is executor's DecisionService: the baseline's answer, and what is handed to the shadow beside it.
package decision

import (
	"fmt"
	"strings"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/model"
)

// Baseline is the scorer whose answer is the decision.
type Baseline struct {
	Version, Digest string
	// inputs are the features that score takes, in order.
	inputs []string
	score  model.Scorer
	// columns are the positions of inputs in the vectors of each schema that has them all.
	columns map[*feature.Schema][]int
}

// LoadBaseline reads what --baseline names: "heuristic=<file>", a baseline.json, or "model=<entry>", a model of the
// registry folder, such as the incumbent.
func LoadBaseline(spec, registry string) (*Baseline, error) {
	kind, what, ok := strings.Cut(spec, "=")
	switch {
	case ok && kind == "heuristic":
		b, err := model.LoadBaseline(what)
		if err != nil {
			return nil, err
		}
		return newBaseline(b.Version, b.Digest(), b.Inputs(), b), nil
	case ok && kind == "model":
		a, err := model.OpenRegistry(registry).Load(what)
		if err != nil {
			return nil, err
		}
		return newBaseline(a.Manifest.Version, a.Digest(), a.Schema.Names(), a.Scorer), nil
	}
	return nil, fmt.Errorf("--baseline %q: want heuristic=<file> or model=<registry entry>", spec)
}

func newBaseline(version, digest string, inputs []string, score model.Scorer) *Baseline {
	b := &Baseline{Version: version, Digest: digest, inputs: inputs, score: score, columns: map[*feature.Schema][]int{}}
	for _, schema := range feature.Schemas() {
		columns := make([]int, 0, len(inputs))
		for _, name := range inputs {
			if i := schema.Index(name); i >= 0 {
				columns = append(columns, i)
			}
		}
		if len(columns) == len(inputs) {
			b.columns[schema] = columns
		}
	}
	return b
}
