// Package trees reads gradient-boosted tree ensembles trained by LightGBM or XGBoost, and computes the scores that
// those libraries would. It has no trainer.
//
// Scores are exact in the libraries' sense: the same leaf of every tree, the leaves added in the same order and width
// (float64 in LightGBM, float32 in XGBoost), and the same link to a probability. Only the last bit of the exponential
// may differ, since Go's is not the C library's.
//
// Everything beyond a plain sum of trees with a logistic link (several classes, linear leaves, ranking and count
// losses, vector leaves, categories of a data frame) is refused on reading, with a reason: a wrong score is worse than
// none.
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

// Ensemble is a sum of trees with a logistic link. [Import], [ReadLightGBM] and [ReadXGBoost] create it. It never
// changes and is safe for concurrent use.
type Ensemble struct {
	format Format
	names  []string

	// nodes holds the trees one after the other, each breadth first, so that the children of a split are adjacent and
	// come after it. Tree t is nodes[roots[t]:roots[t+1]]; roots has one element more than there are trees.
	nodes []node
	roots []uint32
	// used is how many trees a score adds, from the first: all of them unless training stopped early.
	used int
	// sets are the category sets of categorical splits, as spans of words: bit c is set if c is in the set.
	sets  []span
	words []uint32

	// base is XGBoost's base_score as a margin; LightGBM includes its own in the leaves of the first tree.
	base float32
	// sigmoid is LightGBM's parameter of that name: the slope of the link. It is 1 for XGBoost.
	sigmoid float64
	// average divides the sum by the number of trees, as in LightGBM's random forests.
	average bool
}

// Format returns the library that wrote the ensemble.
func (e *Ensemble) Format() Format { return e.format }

// FeatureNames returns the inputs, in the order of the vectors that Score takes. An XGBoost model trained without names
// gets the names that the library prints: f0, f1 and so on.
func (e *Ensemble) FeatureNames() []string { return slices.Clone(e.names) }

// Trees returns the number of trees that a score adds.
func (e *Ensemble) Trees() int { return e.used }

// AllTrees returns the number of trees in the file. It exceeds [Ensemble.Trees] if training continued after the best
// round.
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

// Nodes returns the number of splits and leaves in all trees.
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

// Score returns the probability in [0,1] for the vector x, which has one value per feature. NaN is a missing value, the
// default in both libraries. It panics if x is shorter.
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

// Margin returns the input of the link: the sum of the leaves that x falls into, in log-odds if sigmoid is 1. It panics
// if x is shorter than the features.
//
// LightGBM: GBDT::PredictRaw, a float64 sum from zero in the order of the trees. With average_output it is divided by
// their number, as GBDT::Predict does before the link (and raw_score=True does not). XGBoost:
// Predictor::InitOutPredictions and PredictByAllTrees, a float32 sum in the order of the trees that starts with the
// margin of base_score.
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
