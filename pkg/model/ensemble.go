package model

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/trees"
)

// The families of models.
const (
	FamilyLogistic = "logistic"
	FamilyTrees    = "trees"
)

// TreesSpec names the file of a tree ensemble that LightGBM or XGBoost trained. It is kept as that library wrote it.
type TreesSpec struct {
	// SHA256 is of the file, [EnsembleFile]; since model.json states it, the model's digest covers it.
	SHA256 string `json:"sha256"`
	// Positional says that the library knew no names and the inputs are the schema's features in its order, without
	// bias.
	Positional bool `json:"positional"`
}

// ensemble scores with trees whose inputs are some of the schema's features, in an order of their own.
type ensemble struct {
	trees *trees.Ensemble
	// pick are the positions of the trees' inputs in the schema's vector.
	pick []int
}

// onStack is how many inputs are gathered without an allocation.
const onStack = 64

// Score implements Scorer.
func (e *ensemble) Score(x []float64) float64 {
	var buffer [onStack]float64
	inputs := buffer[:0]
	for _, i := range e.pick {
		inputs = append(inputs, x[i])
	}
	return e.trees.Score(inputs)
}

// newEnsemble reads the file and finds its inputs in the schema.
func newEnsemble(raw []byte, spec *TreesSpec, schema *feature.Schema) (*ensemble, error) {
	if got := digest(raw); got != spec.SHA256 {
		return nil, fmt.Errorf("%s has the digest %.12s, but %s says %.12s: the file was changed or is damaged", EnsembleFile, got, ModelFile, spec.SHA256)
	}
	read, err := trees.Import(EnsembleFile, bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	e := &ensemble{trees: read}
	names := read.FeatureNames()
	if spec.Positional {
		names = slices.DeleteFunc(schema.Names(), func(name string) bool { return name == feature.Bias })
		if len(names) != len(read.FeatureNames()) {
			return nil, fmt.Errorf("%s has %d inputs without names: schema %s has %d besides bias", EnsembleFile, len(read.FeatureNames()), schema.Name, len(names))
		}
	}
	var unknown []string
	for _, name := range names {
		i := schema.Index(name)
		if i < 0 {
			unknown = append(unknown, name)
		}
		e.pick = append(e.pick, i)
	}
	if len(unknown) > 0 {
		return nil, fmt.Errorf("%s has inputs that are not in schema %s: %s", EnsembleFile, schema.Name, strings.Join(unknown, ", "))
	}
	return e, nil
}

// NewTrees makes the spec of a model from the file of a LightGBM or XGBoost model. Inputs are matched to the schema by
// name; where the library knew none (Column_0, f0 and so on), they must be the schema's features in its order, without
// bias.
func NewTrees(raw []byte, schema *feature.Schema, label Label) (Spec, error) {
	read, err := trees.Import("model", bytes.NewReader(raw))
	if err != nil {
		return Spec{}, err
	}
	t := &TreesSpec{SHA256: digest(raw), Positional: unnamed(read.FeatureNames())}
	if _, err := newEnsemble(raw, t, schema); err != nil {
		return Spec{}, err
	}
	return Spec{
		Format: modelFormat, Family: FamilyTrees, Schema: schema.Name, SchemaHash: schema.Hash(), Label: label, Trees: t,
	}, nil
}

// unnamed says whether the names are those that the libraries make up.
func unnamed(names []string) bool {
	for i, name := range names {
		if name != fmt.Sprintf("Column_%d", i) && name != fmt.Sprintf("f%d", i) {
			return false
		}
	}
	return true
}
