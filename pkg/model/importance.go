package model

import (
	"math"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/trees"
)

// Importance returns each feature's share of the model's total importance, by name and without bias; the shares add up
// to 1. For a logistic model it is the absolute weight of the standardised input, for trees the number of splits. It
// returns nil if that is unknown or the scorer uses no feature.
func Importance(s Scorer, schema *feature.Schema) map[string]float64 {
	uses := make([]float64, schema.Len())
	switch m := s.(type) {
	case *Logistic:
		for i, w := range m.Weight {
			uses[schema.Index(m.Features[i])] = math.Abs(w)
		}
	case *trees.Ensemble:
		for i, n := range m.Splits() {
			uses[i] = float64(n)
		}
	default:
		return nil
	}
	sum := 0.0
	shares := make(map[string]float64, len(uses))
	for i, name := range schema.Names() {
		if name != feature.Bias {
			shares[name] = uses[i]
			sum += uses[i]
		}
	}
	if sum == 0 || math.IsInf(sum, 0) {
		return nil
	}
	for name := range shares {
		shares[name] /= sum
	}
	return shares
}
