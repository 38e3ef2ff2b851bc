package model

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/text"
	"github.com/greenlight-ml/greenlight/pkg/trees"
)

// The families of models.
const (
	FamilyLogistic = "logistic"
	FamilyTrees    = "trees"
)

// TreesSpec names the file of a tree ensemble trained by LightGBM or XGBoost. It is kept as that library wrote it.
type TreesSpec struct {
	// SHA256 is the digest of [EnsembleFile]; model.json contains it, so the model's digest covers it.
	SHA256 string `json:"sha256"`
	// Used is the number of trees, from the first, that a score sums; 0 means all. It is set if training stopped early
	// and the file has trees after the best round.
	Used int `json:"trees_used,omitempty"`
	// Positional reports that the file has no feature names: the inputs are the schema's features in order, without bias.
	Positional bool `json:"positional"`
}

// newEnsemble reads the file and finds its inputs in the schema. The result scores the schema's vectors.
func newEnsemble(raw []byte, spec *TreesSpec, schema *feature.Schema) (*trees.Ensemble, error) {
	if got := digest(raw); got != spec.SHA256 {
		return nil, fmt.Errorf("%s has the digest %.12s, but %s says %.12s: the file was changed or is damaged", EnsembleFile, got, ModelFile, spec.SHA256)
	}
	// The spec decides which trees count: a model registered earlier keeps its scores.
	read, err := trees.ImportAll(EnsembleFile, bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	if spec.Used != 0 {
		if read, err = read.First(spec.Used); err != nil {
			return nil, fmt.Errorf("%s: %w", EnsembleFile, err)
		}
	}
	names := read.FeatureNames()
	if spec.Positional {
		names = slices.DeleteFunc(schema.Names(), func(name string) bool { return name == feature.Bias })
		if len(names) != len(read.FeatureNames()) {
			return nil, fmt.Errorf("%s has %d inputs without names: schema %s has %d besides bias", EnsembleFile, len(read.FeatureNames()), schema.Name, len(names))
		}
	}
	var unknown []string
	positions := make([]int, len(names))
	for i, name := range names {
		if positions[i] = schema.Index(name); positions[i] < 0 {
			unknown = append(unknown, name)
		}
	}
	if len(unknown) > 0 {
		return nil, fmt.Errorf("%s has inputs that are not in schema %s: %s; the schema has %s",
			EnsembleFile, schema.Name, listed(unknown), listed(schema.Names()))
	}
	return read.Select(positions, schema.Len()), nil
}

// NewTrees makes a model's spec from a LightGBM or XGBoost file. Inputs are matched to the schema by name. If the file has
// no names (Column_0, f0 and so on), they must be the schema's features in order, without bias. Trees after an early stop
// are left out unless all is set. The trees are returned as well.
func NewTrees(raw []byte, schema *feature.Schema, label Label, all bool) (Spec, *trees.Ensemble, error) {
	read := trees.Import
	if all {
		read = trees.ImportAll
	}
	e, err := read("model", bytes.NewReader(raw))
	if err != nil {
		return Spec{}, nil, err
	}
	t := &TreesSpec{SHA256: digest(raw), Positional: unnamed(e.FeatureNames())}
	if e.Trees() < e.AllTrees() {
		t.Used = e.Trees()
	}
	if _, err := newEnsemble(raw, t, schema); err != nil {
		return Spec{}, nil, err
	}
	return Spec{
		Format: modelFormat, Family: FamilyTrees, Schema: schema.Name, SchemaHash: schema.Hash(), Label: label, Trees: t,
	}, e, nil
}

// listed formats names from a file for a message: a few of them, shortened, without control characters.
func listed(names []string) string {
	const most, longest = 20, 64
	var clean []string
	for _, name := range names[:min(len(names), most)] {
		clean = append(clean, text.Clean(name, longest))
	}
	s := strings.Join(clean, ", ")
	if len(names) > most {
		s += fmt.Sprintf(" and %d more", len(names)-most)
	}
	return s
}

// unnamed reports whether LightGBM or XGBoost generated the names.
func unnamed(names []string) bool {
	for i, name := range names {
		if name != fmt.Sprintf("Column_%d", i) && name != fmt.Sprintf("f%d", i) {
			return false
		}
	}
	return true
}

// SchemaOf returns the schema of a tree model's inputs: a built-in schema if it has all inputs or if the file has no names,
// otherwise a schema of the inputs in file order. Its name is name plus the start of its hash, so that different inputs get
// different names.
func SchemaOf(raw []byte, name string) (*feature.Schema, error) {
	e, err := trees.Import("model", bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	standard, err := builtin(feature.DefaultSchema)
	if err != nil {
		return nil, err
	}
	names := e.FeatureNames()
	if unnamed(names) || !slices.ContainsFunc(names, func(name string) bool { return standard.Index(name) < 0 }) {
		return standard, nil
	}
	defs := make([]feature.Def, len(names))
	for i, name := range names {
		defs[i] = feature.Def{Name: name}
	}
	s, err := feature.MakeSchema(name[:min(len(name), 64)], "", 0, defs)
	if err != nil {
		return nil, err
	}
	const digits = 8
	return feature.MakeSchema(name[:min(len(name), 64-1-digits)]+"-"+s.Hash()[:digits], "", 0, defs)
}
