package shadow

import (
	"math"

	"github.com/greenlight-ml/greenlight/pkg/feature"
)

// State is a market state on its way to the model under trial: numbers by schema, or numbers by name.
type State struct {
	// Schema gives Vector its order; nil when the state came by name.
	Schema *feature.Schema
	// Vector has one value per feature of Schema, NaN where it is not defined. It must not be changed after it was handed
	// over.
	Vector []float64
	// Named is the state by feature name, when Schema is nil. It must not be changed either.
	Named map[string]float64
}

// Project returns the values that the schema to names, in its order, and whether they are all there. It allocates
// nothing, and looks for no NaN, when the state already has that schema.
func (s State) Project(to *feature.Schema) ([]float64, bool) {
	if s.Schema == to {
		return s.Vector, true
	}
	values := make([]float64, to.Len())
	for i, f := range to.Features {
		v, ok := s.Value(f.Name)
		if !ok {
			return nil, false
		}
		values[i] = v
	}
	return values, true
}

// Value returns the named feature and whether the state has it, defined; bias is always there, as 1.
func (s State) Value(name string) (float64, bool) {
	if s.Schema != nil {
		if i := s.Schema.Index(name); i >= 0 {
			return s.Vector[i], !math.IsNaN(s.Vector[i])
		}
		return 1, name == feature.Bias
	}
	v, ok := s.Named[name]
	if !ok {
		return 1, name == feature.Bias
	}
	return v, true
}
