package trees

import "math"

// kind is how a node decides.
type kind uint8

const (
	// kindNumber goes left when x <= value.
	kindNumber kind = iota
	// kindNumberZero is kindNumber, but zero counts as missing too.
	kindNumberZero
	// kindSet goes left when the category x is in the set numbered value.
	kindSet
	// kindLeaf ends the walk; value is the tree's contribution.
	kindLeaf
)

// node is a split or a leaf. It has 16 bytes: four fit into a cache line.
//
// Both libraries' rules reduce to x <= value, without rounding or extra tests in the walk, because the reader moves
// thresholds: see lightGBMThreshold and xgboostThreshold.
type node struct {
	value float64
	// left is the index of the left child in Ensemble.nodes; the right child is the next one.
	left    uint32
	feature uint16
	kind    kind
	// missing is added to left when x is missing: 0 goes left, 1 right.
	missing uint8
}

// span is a part of Ensemble.words.
type span struct{ start, length uint32 }

// lightGBMZero is LightGBM's kZeroThreshold: the float 1e-35f widened to a double.
const lightGBMZero = float64(float32(1e-35))

// leaf walks one tree and returns the value of the leaf that x falls into.
func (e *Ensemble) leaf(i uint32, x []float64) float64 {
	for {
		n := &e.nodes[i]
		if n.kind != kindNumber {
			if n.kind == kindLeaf {
				return n.value
			}
			i = n.left + e.rare(n, x[n.feature])
			continue
		}
		v := x[n.feature]
		// The outcome of a split is added rather than branched on, since no processor can predict it.
		var right uint32
		if v > n.value {
			right = 1
		}
		if math.IsNaN(v) {
			right = uint32(n.missing)
		}
		i = n.left + right
	}
}

// rare decides the kinds that few models use: 0 for left, 1 for right.
func (e *Ensemble) rare(n *node, v float64) uint32 {
	if math.IsNaN(v) {
		return uint32(n.missing)
	}
	if n.kind == kindNumberZero {
		// LightGBM, Tree::NumericalDecision: missing type Zero treats |x| <= kZeroThreshold as missing.
		if math.Abs(v) <= lightGBMZero {
			return uint32(n.missing)
		}
		if v <= n.value {
			return 0
		}
		return 1
	}
	if e.format == XGBoost {
		// XGBoost, common::InvalidCat: the value is a float32, and a negative one is not a category.
		v = float64(float32(v))
		if v < 0 {
			return 1
		}
	}
	// LightGBM, Tree::CategoricalDecision: the value is truncated to an integer, so -0.5 is category 0.
	v = math.Trunc(v)
	s := e.sets[int(n.value)]
	if !(v >= 0 && v < float64(s.length)*32) {
		return 1
	}
	c := uint32(v)
	return 1 - e.words[s.start+c/32]>>(c%32)&1
}
