package eval

import (
	"math"
	"slices"
)

// TopShare is the share of rows, by highest score, that a trader would act on: the 20 in P@20.
const TopShare = 0.2

// ranking holds the rows in descending order of score, in groups of equal score.
type ranking struct {
	// order holds row numbers.
	order []int32
	// ends[g] is the position in order after the last row of group g.
	ends []int32
}

func rank(scores []float64) ranking {
	type scored struct {
		score float64
		row   int32
	}
	sorted := make([]scored, len(scores))
	for i, s := range scores {
		sorted[i] = scored{s, int32(i)}
	}
	// Ties are broken by row number, so that the order depends on the data alone.
	slices.SortFunc(sorted, func(a, b scored) int {
		switch {
		case a.score > b.score:
			return -1
		case a.score < b.score:
			return 1
		}
		return int(a.row - b.row)
	})
	r := ranking{order: make([]int32, len(scores))}
	for at, s := range sorted {
		r.order[at] = s.row
		if at+1 == len(sorted) || sorted[at+1].score != s.score {
			r.ends = append(r.ends, int32(at+1))
		}
	}
	return r
}

// ranked is a valid sample with its ranking, so that its measures share the sort.
type ranked struct {
	Sample
	ranking
}

func newRanked(s Sample) (*ranked, error) {
	if err := s.validate(); err != nil {
		return nil, err
	}
	return &ranked{s, rank(s.Scores)}, nil
}

// counts is what ranking measures need from a sample.
type counts struct {
	// pairs is the number of (positive, negative) pairs in the right order, half for a tie.
	pairs float64
	// top is the expected number of positives among the first k rows.
	top, k float64
	// positives and negatives are numbers of rows.
	positives, negatives float64
}

// count walks down the ranking.
func (r ranking) count(labels []bool, share float64) counts {
	rows, pos := float64(len(labels)), float64(positives(labels))
	c := counts{k: topCount(rows, share), positives: pos, negatives: rows - pos}
	left, below, start := c.k, c.negatives, int32(0)
	for _, end := range r.ends {
		var pos float64
		for _, i := range r.order[start:end] {
			pos += unit(labels[i])
		}
		size := float64(end - start)
		start = end
		neg := size - pos
		below -= neg
		c.pairs += pos * (below + neg/2)
		if left > 0 {
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

// topCount returns ceil(share n). The small number compensates for binary rounding: 0.2 is stored as slightly more than
// a fifth.
func topCount(n, share float64) float64 { return math.Ceil(share*n - 1e-9) }

// AUC returns the area under the ROC curve, in [0,1]: the probability that a positive row scores above a negative one,
// ties counting half (Mann-Whitney with mid-ranks). NaN without both classes.
func AUC(scores []float64, labels []bool) float64 {
	sameLength(scores, labels)
	return rank(scores).count(labels, TopShare).auc()
}
