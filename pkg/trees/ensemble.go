// Package trees reads gradient-boosted tree ensembles that LightGBM or XGBoost trained, and scores with them what those
// libraries would score. It has no trainer.
//
// A score is exact in the libraries' own sense: the same leaf of every tree, the leaves added in the same order and
// width (float64 in LightGBM, float32 in XGBoost), the same link to a probability. Only the last bit of the exponential
// may differ, since Go's is not the C library's.
//
// What the libraries do beside a plain sum of trees with a logistic link (several classes, linear leaves, ranking and
// count losses, vector leaves, categories of a data frame) is refused when the file is read, with a reason: a wrong score is worse than none.
package trees

import (
	"fmt"
	"math"
	"slices"
)

// Format is the library that wrote an ensemble.
type Format string

// The formats that can be read.
const (
	LightGBM Format = "lightgbm"
	XGBoost  Format = "xgboost"
)

// Ensemble is a sum of trees with a logistic link. It is made by [Import], [ReadLightGBM] or [ReadXGBoost], never
// changes afterwards and is safe for concurrent use.
type Ensemble struct {
	format Format
	names  []string

	// nodes holds the trees one after the other, each breadth first, so that a split's children are neighbours and
	// come after it. Tree t is nodes[roots[t]:roots[t+1]]; roots has one element more than there are trees.
	nodes []node
	roots []uint32
	// used is how many of the trees a score adds, from the first: all of them unless training was stopped early.
	used int
	// sets are the category sets of categorical splits, as spans of words: bit c of a set says that c is in it.
	sets  []span
	words []uint32

	// base is XGBoost's base_score as a margin; LightGBM keeps its own in the leaves of the first tree.
	base float32
	// sigmoid is LightGBM's parameter of that name: the slope of the link. 1 for XGBoost.
	sigmoid float64
	// average divides the sum by the number of trees: LightGBM's random forests.
	average bool
}

// Format is the library that wrote the ensemble.
func (e *Ensemble) Format() Format { return e.format }

// FeatureNames are the inputs, in the order of the vectors that Score takes. An XGBoost model that was trained without
// names gets those that the library itself prints, f0, f1 and so on.
func (e *Ensemble) FeatureNames() []string { return slices.Clone(e.names) }

// Trees is the number of trees that a score adds.
func (e *Ensemble) Trees() int { return e.used }

// AllTrees is the number of trees in the file: more than [Ensemble.Trees] where training went on after its best round.
func (e *Ensemble) AllTrees() int { return len(e.roots) - 1 }

// First returns the ensemble of the first n trees.
func (e *Ensemble) First(n int) (*Ensemble, error) {
	if n < 1 || n > e.AllTrees() {
		return nil, fmt.Errorf("the first %d trees: the file has %d", n, e.AllTrees())
	}
	first := *e
	first.used = n
	return &first, nil
}

// Nodes is the number of splits and leaves in all trees.
func (e *Ensemble) Nodes() int { return len(e.nodes) }

// Splits returns how many splits each feature has in the trees that a score adds, in the order of FeatureNames.
func (e *Ensemble) Splits() []int {
	splits := make([]int, len(e.names))
	for _, n := range e.nodes[:e.roots[e.used]] {
		if n.kind != kindLeaf {
			splits[n.feature]++
		}
	}
	return splits
}

// Score returns the probability in [0,1] for the vector x, which has one value per feature; NaN is a missing value, as
// in both libraries by default. It panics when x is shorter.
//
// The link is LightGBM's BinaryLogloss::ConvertOutput, 1/(1+exp(-sigmoid m)) in float64, or XGBoost's common::Sigmoid,
// the same in float32 with sigmoid 1.
func (e *Ensemble) Score(x []float64) float64 {
	m := e.Margin(x)
	if e.format == XGBoost {
		return float64(1 / (float32(math.Exp(-m)) + 1))
	}
	return 1 / (1 + math.Exp(-e.sigmoid*m))
}

// Margin returns what the link turns into the probability: the sum of the leaves that x falls into, in log-odds when
// sigmoid is 1. It panics when x is shorter than the features.
//
// LightGBM: GBDT::PredictRaw, a float64 sum from zero in the order of the trees; with average_output divided by their
// number, as GBDT::Predict does before the link (and raw_score=True does not). XGBoost: Predictor::InitOutPredictions
// and PredictByAllTrees, a float32 sum in the order of the trees that begins with the margin of base_score.
func (e *Ensemble) Margin(x []float64) float64 {
	_ = x[len(e.names)-1]
	x = x[:len(e.names)]
	roots := e.roots[:e.used]
	if e.format == XGBoost {
		sum := e.base
		for _, r := range roots {
			sum += float32(e.leaf(r, x))
		}
		return float64(sum)
	}
	var sum float64
	for _, r := range roots {
		sum += e.leaf(r, x)
	}
	if e.average {
		sum /= float64(len(roots))
	}
	return sum
}
