// Package decision is executor's DecisionService. It answers with the baseline's score and hands requests to the shadow.
package decision

import (
	"fmt"
	"strings"

	"github.com/greenlight-ml/greenlight/pkg/dsse"
	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/model"
)

// Baseline is the scorer that makes the decision.
type Baseline struct {
	Version, Digest string
	// inputs are the features that the scorer takes, in order.
	inputs *feature.Schema
	// score is nil if the score that comes with the request decides. Then inputs contains only the constant bias.
	score model.Scorer
	// schema is the schema of a model that decides; nil for the other scorers.
	schema *feature.Schema
	// columns has the indexes of the inputs in each schema that has them all. It does not have schemas learned from
	// ml-engine.
	columns map[*feature.Schema][]int
	// live is the schema computed from quotes: all features of the catalogue, so that any model can be tried. needed are the
	// indexes of the inputs in it; the other inputs come with the request.
	live   *feature.Schema
	needed []int
}

// Inputs returns the features that the baseline takes, in order.
func (b *Baseline) Inputs() *feature.Schema { return b.inputs }

// Forms are the forms of --baseline.
const Forms = "heuristic=<file>, model=<registry entry> or caller=<name>@<version>"

// LoadBaseline loads the baseline that --baseline names: "heuristic=<file>" for a baseline.json, "model=<entry>" for a model of
// the registry folder, or "caller=<name>@<version>" for the score that comes with each request. With keys, the model must be
// signed with one of them; a caller's score cannot be signed.
func LoadBaseline(spec, registry string, keys dsse.Keys) (*Baseline, error) {
	kind, what, ok := strings.Cut(spec, "=")
	switch {
	case ok && kind == "heuristic":
		b, err := loadHeuristic(what, keys)
		if err != nil {
			return nil, err
		}
		return newBaseline(b.Version, b.Digest(), b.Inputs(), b, nil)
	case ok && kind == "model":
		a, err := model.OpenRegistry(registry).Requiring(keys).Load(what)
		if err != nil {
			return nil, err
		}
		return newBaseline(a.Manifest.Version, a.Digest(), a.Schema.Names(), a.Scorer, a.Schema)
	case ok && kind == "caller":
		digest, err := model.CallerDigest(what)
		if err != nil {
			return nil, fmt.Errorf("--baseline caller=%w", err)
		}
		if len(keys) > 0 {
			return nil, fmt.Errorf("--baseline %s cannot be signed: the callers compute the score, so start executor without --require-signature", spec)
		}
		return newBaseline(what, digest, []string{feature.Bias}, nil, nil)
	}
	return nil, fmt.Errorf("--baseline %q: want %s", spec, Forms)
}

func loadHeuristic(path string, keys dsse.Keys) (*model.Baseline, error) {
	if len(keys) > 0 {
		return model.LoadSignedBaseline(path, keys)
	}
	return model.LoadBaseline(path)
}

func newBaseline(version, digest string, inputs []string, score model.Scorer, schema *feature.Schema) (*Baseline, error) {
	own, err := feature.Named("baseline", inputs...)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, f := range feature.Catalogue() {
		all = append(all, f.Name)
	}
	live, err := feature.NewSchema("live", all...)
	if err != nil {
		return nil, err
	}
	b := &Baseline{
		Version: version, Digest: digest, inputs: own, score: score, schema: schema, live: live, columns: map[*feature.Schema][]int{},
	}
	for _, of := range append(feature.Schemas(), live) {
		if columns := columnsOf(of, inputs); len(columns) == len(inputs) {
			b.columns[of] = columns
		}
	}
	b.needed = columnsOf(live, inputs)
	return b, nil
}

// columnsOf returns the indexes of the names that the schema has.
func columnsOf(s *feature.Schema, names []string) []int {
	columns := make([]int, 0, len(names))
	for _, name := range names {
		if i := s.Index(name); i >= 0 {
			columns = append(columns, i)
		}
	}
	return columns
}

// Learn adds the schema of a deciding model to the known schemas.
func (b *Baseline) Learn(known *feature.Known) error {
	if b.schema == nil {
		return nil
	}
	s, err := known.Add(b.schema)
	if err != nil {
		return err
	}
	if columns := columnsOf(s, b.inputs.Names()); len(columns) == b.inputs.Len() {
		b.columns[s] = columns
	}
	return nil
}
