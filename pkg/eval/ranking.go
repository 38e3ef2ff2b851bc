package eval

import (
	"cmp"
	"math"
	"slices"
)

// TopShare is the share of rows, by highest score, that a trader would act on: the 20 in P@20.
const TopShare = 0.2

// ranking holds the rows in descending order of score, in groups of equal score. Labels and blocks are copied in that
// order, so that a pass reads memory sequentially.
type ranking struct {
	// order holds row numbers.
	order []int
	// labels are 0 or 1: a branch on a label would be mispredicted every few rows, and a bootstrap reads 10^8 of them.
	labels []float64
	// blocks holds the block of each row, counted from 0: a pass may weigh blocks differently.
	blocks []int32
	// ends[g] is the position in order after the last row of group g.
	ends []int
}

// rank ranks rows; block may be nil if all rows are in block 0.
func rank(scores []float64, labels []bool, block []int32) ranking {
	r := ranking{order: make([]int, len(scores)), labels: make([]float64, len(scores)), blocks: make([]int32, len(scores))}
	for i := range r.order {
		r.order[i] = i
	}
	// Ties are broken by row number, so that the order depends on the data alone.
	slices.SortFunc(r.order, func(a, b int) int {
		return cmp.Or(cmp.Compare(scores[b], scores[a]), cmp.Compare(a, b))
	})
	for at, i := range r.order {
		r.labels[at] = unit(labels[i])
		if block != nil {
			r.blocks[at] = block[i]
		}
		if at+1 == len(r.order) || scores[r.order[at+1]] != scores[i] {
			r.ends = append(r.ends, at+1)
		}
	}
	return r
}

// once is the weight of a sample with one block.
var once = []float64{1}

// counts is what ranking measures need from a (possibly re-weighted) sample.
type counts struct {
	// pairs is the number of (positive, negative) pairs in the right order, half for a tie.
	pairs float64
	// top is the expected number of positives among the first k rows.
	top, k float64
	// positives and negatives are numbers of rows.
	positives, negatives float64
}

// count walks down the ranking; the rows of block b count times[b] times.
func (r ranking) count(share float64, times []float64) counts {
	var c counts
	rows := 0.0
	for at, block := range r.blocks {
		w := times[block]
		rows += w
		c.positives += w * r.labels[at]
	}
	c.negatives = rows - c.positives
	c.k = topCount(rows, share)
	left, below, start := c.k, c.negatives, 0
	for _, end := range r.ends {
		var pos, size float64
		for at := start; at < end; at++ {
			w := times[r.blocks[at]]
			size += w
			pos += w * r.labels[at]
		}
		start = end
		neg := size - pos
		below -= neg
		c.pairs += pos * (below + neg/2)
		if left > 0 && size > 0 {
			take := min(left, size)
			c.top += pos * (take / size)
			left -= take
		}
	}
	return c
}

func (c counts) auc() float64       { return c.pairs / (c.positives * c.negatives) }
func (c counts) precision() float64 { return c.top / c.k }
func (c counts) recall() float64    { return c.top / c.positives }

// topCount returns ceil(share n). The small number undoes the rounding of binary fractions: 0.2 is slightly more than a
// fifth.
func topCount(n, share float64) float64 { return math.Ceil(share*n - 1e-9) }

// AUC returns the area under the ROC curve, in [0,1]: the probability that a positive row scores above a negative one,
// ties counting half (Mann-Whitney with mid-ranks). NaN without both classes.
func AUC(scores []float64, labels []bool) float64 {
	sameLength(scores, labels)
	return rank(scores, labels, nil).count(TopShare, once).auc()
}
