// Package trees reads gradient-boosted tree ensembles trained by LightGBM or XGBoost, and computes the scores that
// those libraries would. It has no trainer.
//
// Scores are exact in the libraries' sense: the same leaf of every tree, the leaves added in the same order and width
// (float64 in LightGBM, float32 in XGBoost), and the same link to a probability. Only the last bit of the exponential
// may differ, since Go's is not the C library's.
//
// It refuses to read everything beyond a plain sum of trees with a logistic link (several classes, linear leaves, ranking and
// count losses, vector leaves, categories of a data frame), and gives the reason: a wrong score is worse than none.
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

// Ensemble is a sum of trees with a logistic link. [Import] and [ImportAll] create it. It never
// changes and is safe for concurrent use.
type Ensemble struct {
	format Format
	names  []string

	// nodes holds the trees one after the other, each breadth first, so that the children of a split are adjacent and
	// come after it. Tree t is nodes[roots[t]:roots[t+1]]; roots has one element more than there are trees.
	nodes []node
	roots []uint32
	// steps is how many steps a walk of a tree takes before it tests for a leaf: the tree's depth, but at most maxSteps, and
	// 0 if the tree has categorical splits, which take longer than one step.
	steps []uint8
	// columns are the keys computed from a vector; the first is for leaves. width is the length of a vector.
	columns []column
	width   int
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

// Nodes returns the number of splits and leaves in all trees.
func (e *Ensemble) Nodes() int { return len(e.nodes) }

// First returns the ensemble of the first n trees.
func (e *Ensemble) First(n int) (*Ensemble, error) {
	if n < 1 || n > e.AllTrees() {
		return nil, fmt.Errorf("the first %d trees: the file has %d", n, e.AllTrees())
	}
	first := *e
	first.used = n
	return &first, nil
}

// Splits returns how many splits use each value of a vector in the trees that a score adds.
func (e *Ensemble) Splits() []int {
	splits := make([]int, e.width)
	for _, n := range e.nodes[:e.roots[e.used]] {
		if n.at != 0 {
			splits[e.columns[n.at/lanes].input]++
		}
	}
	return splits
}

// Select returns the ensemble for vectors of width values in which input i is at positions[i]. There must be one position,
// below width, for each of FeatureNames.
func (e *Ensemble) Select(positions []int, width int) *Ensemble {
	selected := *e
	selected.width, selected.columns = width, slices.Clone(e.columns)
	for i := range selected.columns {
		c := &selected.columns[i]
		if c.kind != kindLeaf {
			c.input = positions[c.input]
		}
	}
	return &selected
}

// Score returns the probability in [0,1] for the vector x, which has one value per feature. NaN is a missing value, the
// default in both libraries. It panics if x is shorter.
//
// The link is LightGBM's BinaryLogloss::ConvertOutput, 1/(1+exp(-sigmoid m)) in float64, or XGBoost's common::Sigmoid,
// the same in float32 with sigmoid 1.
func (e *Ensemble) Score(x []float64) float64 { return e.link(e.Margin(x)) }

func (e *Ensemble) link(m float64) float64 {
	if e.format == XGBoost {
		return float64(1 / (float32(math.Exp(-m)) + 1))
	}
	return 1 / (1 + math.Exp(-e.sigmoid*m))
}

// Scores sets scores[i] to the Score of row i of x, which holds the vectors one after the other. It is several times
// faster than scoring row by row. It panics if x is shorter.
func (e *Ensemble) Scores(scores, x []float64) {
	rows := min(len(scores), maxRows, max(lanes, maxKeys/len(e.columns)/lanes*lanes))
	keys := make([]int64, e.room(rows))
	for len(scores) > 0 {
		n := min(len(scores), rows)
		e.margins(scores[:n], x, keys)
		for i, m := range scores[:n] {
			scores[i] = e.link(m)
		}
		scores, x = scores[n:], x[n*e.width:]
	}
}

// Margin returns the input of the link: the sum of the leaves that x falls into, in log-odds if sigmoid is 1. It panics
// if x is shorter than the features.
func (e *Ensemble) Margin(x []float64) float64 {
	if e.used < fewTrees {
		return e.lone(x)
	}
	var m [1]float64
	// A small array, because clearing one takes as long as some trees.
	switch n := e.room(1); {
	case n <= 64:
		var keys [64]int64
		e.margins(m[:], x, keys[:])
	case n <= 512:
		var keys [512]int64
		e.margins(m[:], x, keys[:])
	default:
		e.margins(m[:], x, make([]int64, n))
	}
	return m[0]
}

const (
	// maxRows is how many rows are scored together: enough to hide the time to load a tree, and few enough for their
	// keys to stay in the nearest cache. maxKeys limits the rows of models with many features.
	maxRows = 64
	maxKeys = 1 << 16
	// maxSteps limits the steps of a walk without a test. Deeper than this, the depths of rows' leaves differ too much.
	maxSteps = 16
	// fewTrees is the number of trees from which computing all keys of a single row once is faster.
	fewTrees = 3
)

// lone is Margin for a few trees: each computes only the keys that it needs.
func (e *Ensemble) lone(x []float64) float64 {
	_ = x[e.width-1]
	if e.format == XGBoost {
		sum := e.base
		for _, root := range e.roots[:e.used] {
			sum += float32(e.reach(root, x))
		}
		return float64(sum)
	}
	sum := 0.0
	for _, root := range e.roots[:e.used] {
		sum += e.reach(root, x)
	}
	if e.average {
		sum /= float64(e.used)
	}
	return sum
}

// room returns how many keys the rows have, in full groups.
func (e *Ensemble) room(rows int) int { return (rows + lanes - 1) / lanes * lanes * len(e.columns) }

// margins computes the margins of at most maxRows rows. keys is memory with [Ensemble.room].
//
// LightGBM: GBDT::PredictRaw, a float64 sum from zero in the order of the trees. With average_output it is divided by
// their number, as GBDT::Predict does before the link (and raw_score=True does not). XGBoost:
// Predictor::InitOutPredictions and PredictByAllTrees, a float32 sum in the order of the trees that starts with the
// margin of base_score.
func (e *Ensemble) margins(margins, x []float64, keys []int64) {
	_ = x[len(margins)*e.width-1]
	for i := range margins {
		e.prepare(keys[e.room(i&^(lanes-1))+i%lanes:], x[i*e.width:(i+1)*e.width])
	}
	if e.format == XGBoost {
		var buffer [maxRows]float32
		sums := buffer[:len(margins)]
		for i := range sums {
			sums[i] = e.base
		}
		add(e, sums, keys)
		for i, sum := range sums {
			margins[i] = float64(sum)
		}
		return
	}
	clear(margins)
	add(e, margins, keys)
	if e.average {
		for i := range margins {
			margins[i] /= float64(e.used)
		}
	}
}
