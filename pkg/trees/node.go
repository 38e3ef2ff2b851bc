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

// node is a split or a leaf. It has 16 bytes, so four fit into a cache line.
//
// A split compares integers: the key of its threshold with a key of the row, which [Ensemble.prepare] computes once for
// all trees. Both libraries' rules reduce to x <= value, because the reader moves thresholds (see lightGBMThreshold and
// xgboostThreshold), and the keys of missing values go left or right everywhere. So a step has no branch to mispredict.
type node struct {
	// key is the threshold's [keyOf], or the number of a category set, or the bits of a leaf's value.
	key int64
	// left is the index of the left child in Ensemble.nodes; the right child is the next one. A leaf is its own left
	// child and compares the first column, which always goes left: further steps stay there.
	left uint32
	// at is the place of the compared column's keys in a group: the column's number times lanes.
	at uint32
}

func (n *node) value() float64 { return math.Float64frombits(uint64(n.key)) }

// column is a form of an input that splits compare. Most inputs have two: missing values go left in one and right in the
// other. The first column is for leaves.
type column struct {
	// input is the position in the vector.
	input        int
	kind         kind
	missingRight bool
}

// span is a part of Ensemble.words.
type span struct{ start, length uint32 }

// The keys of a missing value, below and above the keys of all numbers.
const (
	alwaysLeft  int64 = math.MinInt64
	alwaysRight int64 = math.MaxInt64
)

// lightGBMZero is LightGBM's kZeroThreshold: the float 1e-35f widened to a double.
const lightGBMZero = float64(float32(1e-35))

// keyOf returns an integer for a number, in the order of the numbers. Both zeros have the same integer.
func keyOf(v float64) int64 {
	b := int64(math.Float64bits(v + 0)) // turns -0 into 0
	return b ^ int64(uint64(b>>63)>>1)
}

// lanes is how many rows walk a tree together. Each waits for memory at every step, and four hide most of that wait.
const lanes = 4

// prepare computes the keys of a vector. keys is a group of rows from the row's lane on: it holds the first column of
// all rows, then the second, and so on.
func (e *Ensemble) prepare(keys []int64, x []float64) {
	for i := range e.columns {
		keys[i*lanes] = e.keyIn(&e.columns[i], x)
	}
}

// keyIn returns the key of a vector in the column.
func (e *Ensemble) keyIn(c *column, x []float64) int64 {
	v := x[c.input]
	switch {
	case c.kind == kindNumber && !math.IsNaN(v):
		return keyOf(v)
	case c.kind == kindLeaf:
		return alwaysLeft
	// LightGBM, Tree::NumericalDecision: missing type Zero treats |x| <= kZeroThreshold as missing.
	case math.IsNaN(v) || c.kind == kindNumberZero && math.Abs(v) <= lightGBMZero:
		if c.missingRight {
			return alwaysRight
		}
		return alwaysLeft
	case c.kind == kindSet:
		return e.category(v)
	}
	return keyOf(v)
}

// category returns the number of a category, or alwaysRight if v is not one.
func (e *Ensemble) category(v float64) int64 {
	if e.format == XGBoost {
		// XGBoost, common::InvalidCat: the value is a float32, and a negative one is not a category.
		v = float64(float32(v))
		if v < 0 {
			return alwaysRight
		}
	}
	// LightGBM, Tree::CategoricalDecision: the value is truncated to an integer, so -0.5 is category 0.
	v = math.Trunc(v)
	if !(v >= 0 && v < 32*maxWords) {
		return alwaysRight
	}
	return int64(v)
}

// outside returns 0 for left if the category is in the set, else 1.
func (e *Ensemble) outside(set, category int64) uint32 {
	s := e.sets[set]
	switch {
	case category == alwaysLeft:
		return 0
	case category >= int64(s.length)*32:
		return 1
	}
	return 1 - e.words[s.start+uint32(category/32)]>>(category%32)&1
}

// add adds each row's leaves to its sum, tree by tree, so that a tree stays in the cache for all rows. keys holds the groups of
// rows one after the other.
func add[T float32 | float64](e *Ensemble, sums []T, keys []int64) {
	if len(sums) == 1 {
		for t, root := range e.roots[:e.used] {
			sums[0] += T(e.leaf(root, int(e.steps[t]), keys))
		}
		return
	}
	group := lanes * len(e.columns)
	for t, root := range e.roots[:e.used] {
		steps := int(e.steps[t])
		for r := 0; r < len(sums); r += lanes {
			k, s := keys[r/lanes*group:][:group], sums[r:]
			if len(s) < lanes {
				for lane := range s {
					s[lane] += T(e.leaf(root, steps, k[lane:]))
				}
				break
			}
			a, b, c, d := e.together(root, steps, k)
			s[0] += T(e.leaf(a, 0, k))
			s[1] += T(e.leaf(b, 0, k[1:]))
			s[2] += T(e.leaf(c, 0, k[2:]))
			s[3] += T(e.leaf(d, 0, k[3:]))
		}
	}
}

// together walks all rows of a group the given number of steps from node i.
func (e *Ensemble) together(i uint32, steps int, keys []int64) (a, b, c, d uint32) {
	nodes := e.nodes
	a, b, c, d = i, i, i, i
	// The number of steps is the same for all rows, so that the processor predicts the end of the loop. A row that
	// reaches its leaf early stays there. The outcome of a split is added rather than branched on.
	for range steps {
		n, right := &nodes[a], uint32(0)
		if keys[n.at] > n.key {
			right = 1
		}
		a = n.left + right
		n, right = &nodes[b], 0
		if keys[n.at+1] > n.key {
			right = 1
		}
		b = n.left + right
		n, right = &nodes[c], 0
		if keys[n.at+2] > n.key {
			right = 1
		}
		c = n.left + right
		n, right = &nodes[d], 0
		if keys[n.at+3] > n.key {
			right = 1
		}
		d = n.left + right
	}
	return a, b, c, d
}

// leaf returns the value of the leaf that a row reaches from node i. It does not test for a leaf in the first steps.
func (e *Ensemble) leaf(i uint32, steps int, keys []int64) float64 {
	nodes := e.nodes
	for range steps {
		n, right := &nodes[i], uint32(0)
		if keys[n.at] > n.key {
			right = 1
		}
		i = n.left + right
	}
	for {
		n, right := &nodes[i], uint32(0)
		switch {
		case n.left == i:
			return n.value()
		case e.columns[n.at/lanes].kind == kindSet:
			right = e.outside(n.key, keys[n.at])
		case keys[n.at] > n.key:
			right = 1
		}
		i = n.left + right
	}
}

// reach returns the value of the leaf that a vector reaches in the tree. It computes only the keys that it compares.
func (e *Ensemble) reach(i uint32, x []float64) float64 {
	for {
		n, right := &e.nodes[i], uint32(0)
		if n.left == i {
			return n.value()
		}
		c := &e.columns[n.at/lanes]
		switch key := e.keyIn(c, x); {
		case c.kind == kindSet:
			right = e.outside(n.key, key)
		case key > n.key:
			right = 1
		}
		i = n.left + right
	}
}
