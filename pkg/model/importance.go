package model

import (
	"cmp"
	"math"
	"slices"

	"github.com/greenlight-ml/greenlight/pkg/drift"
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

// Watched returns the features whose drift is watched, in schema order, with their importance; nil if that is unknown. If the
// schema has more than [drift.MaxWatched] features besides bias, only the most important are watched, and their importance
// is scaled to add up to 1.
func Watched(s Scorer, schema *feature.Schema) (names []string, weights map[string]float64) {
	names = slices.DeleteFunc(schema.Names(), func(name string) bool { return name == feature.Bias })
	weights = Importance(s, schema)
	if len(names) <= drift.MaxWatched {
		return names, weights
	}
	byWeight := slices.Clone(names)
	slices.SortStableFunc(byWeight, func(a, b string) int { return cmp.Compare(weights[b], weights[a]) })
	kept, sum := map[string]bool{}, 0.0
	for _, name := range byWeight[:drift.MaxWatched] {
		kept[name] = true
		sum += weights[name]
	}
	names = slices.DeleteFunc(names, func(name string) bool { return !kept[name] })
	if sum == 0 {
		return names, nil
	}
	scaled := make(map[string]float64, len(names))
	for _, name := range names {
		scaled[name] = weights[name] / sum
	}
	return names, scaled
}
