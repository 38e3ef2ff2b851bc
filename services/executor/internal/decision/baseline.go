// Package decision is executor's DecisionService. It answers with the baseline's score and hands requests to the shadow.
package decision

import (
	"fmt"
	"slices"
	"strings"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/model"
)

// Baseline is the scorer whose answer is the decision.
type Baseline struct {
	Version, Digest string
	// inputs are the features that the scorer takes, in order.
	inputs *feature.Schema
	score  model.Scorer
	// columns are the indexes of the inputs in each schema that has them all.
	columns map[*feature.Schema][]int
	// live is computed from quotes. It has the inputs and all features of every known schema, so that any model can be tried.
	live *feature.Schema
}

// Inputs returns the features that the baseline takes, in order.
func (b *Baseline) Inputs() *feature.Schema { return b.inputs }

// LoadBaseline loads the baseline that --baseline names: "heuristic=<file>" for a baseline.json, or "model=<entry>" for a
// model of the registry folder. With keys, the model must be signed with one of them in both cases.
func LoadBaseline(spec, registry string, keys model.Keys) (*Baseline, error) {
	kind, what, ok := strings.Cut(spec, "=")
	switch {
	case ok && kind == "heuristic":
		b, err := loadHeuristic(what, keys)
		if err != nil {
			return nil, err
		}
		return newBaseline(b.Version, b.Digest(), b.Inputs(), b)
	case ok && kind == "model":
		a, err := model.OpenRegistry(registry).Requiring(keys).Load(what)
		if err != nil {
			return nil, err
		}
		return newBaseline(a.Manifest.Version, a.Digest(), a.Schema.Names(), a.Scorer)
	}
	return nil, fmt.Errorf("--baseline %q: want heuristic=<file> or model=<registry entry>", spec)
}

func loadHeuristic(path string, keys model.Keys) (*model.Baseline, error) {
	if len(keys) > 0 {
		return model.LoadSignedBaseline(path, keys)
	}
	return model.LoadBaseline(path)
}

func newBaseline(version, digest string, inputs []string, score model.Scorer) (*Baseline, error) {
	own, err := feature.NewSchema("baseline", inputs...)
	if err != nil {
		return nil, err
	}
	all := slices.Clone(inputs)
	for _, schema := range feature.Schemas() {
		for _, name := range schema.Names() {
			if !slices.Contains(all, name) {
				all = append(all, name)
			}
		}
	}
	live, err := feature.NewSchema("live", all...)
	if err != nil {
		return nil, err
	}
	b := &Baseline{
		Version: version, Digest: digest, inputs: own, score: score, live: live, columns: map[*feature.Schema][]int{},
	}
	for _, schema := range append(feature.Schemas(), live) {
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
	return b, nil
}
