package shadow

import (
	"math"

	"github.com/greenlight-ml/greenlight/pkg/feature"
)

// State is a market state to score: a vector of a schema, values by name, or both.
type State struct {
	// Schema gives Vector its order; nil if the whole state came by name.
	Schema *feature.Schema
	// Vector has one value per feature of Schema, NaN where it is not defined. It must not change after it was submitted.
	Vector []float64
	// Named are values by feature name: the whole state if Schema is nil, or else features that Schema lacks. It must not
	// change either.
	Named map[string]float64
}

// Project returns the values of the features of the schema to, in its order, and reports whether the state has them all.
// If the state already has that schema, it allocates nothing and does not check for NaN.
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

// Value returns the named feature and reports whether the state defines it. Bias is always 1.
func (s State) Value(name string) (float64, bool) {
	if s.Schema != nil {
		if i := s.Schema.Index(name); i >= 0 {
			return s.Vector[i], !math.IsNaN(s.Vector[i])
		}
	}
	v, ok := s.Named[name]
	if !ok {
		return 1, name == feature.Bias
	}
	return v, true
}
