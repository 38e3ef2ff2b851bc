package eval

import (
	"errors"
	"fmt"
	"math"

	"github.com/greenlight-ml/greenlight/pkg/stats"
)

// DeLong is an AUC with its standard error by the method of DeLong, for rows that are independent.
//
// Minutes are not: their labels look 15 minutes ahead and overlap, and markets are calm or busy for hours. On pooled
// minutes the method counts the same news many times over and is far too narrow. It is given because it is the
// standard that others report; the interval to believe is that of whole days, [Intervals].
//
// E. R. DeLong, D. M. DeLong, D. L. Clarke-Pearson (1988), "Comparing the areas under two or more correlated receiver
// operating characteristic curves", Biometrics 44. X. Sun, W. Xu (2014), "Fast implementation of DeLong's algorithm",
// IEEE Signal Processing Letters 21: the structural components are differences of mid-ranks, which a sort gives.
type DeLong struct {
	AUC           float64 `json:"auc"`
	StandardError float64 `json:"standard_error"`
	// Level is the coverage of the interval AUC +- z StandardError, cut off at 0 and 1. It is not transformed: so it is
	// what others' tools print, and with thousands of rows of each class the logit gives the same.
	Level float64 `json:"level"`
	Interval
}

// DeLongTest is the paired test of two scorers on the same rows, for rows that are independent: see [DeLong].
type DeLongTest struct {
	// Difference is the AUC of the first less that of the second.
	Difference    float64 `json:"difference"`
	StandardError float64 `json:"standard_error"`
	// Z is Difference / StandardError; PValue is the two-sided chance of a |Z| this large between scorers whose true
	// AUC is equal, in [0,1].
	Z      float64 `json:"z"`
	PValue float64 `json:"p_value"`
	// Level is the coverage of the interval Difference +- z StandardError.
	Level float64 `json:"level"`
	Interval
}

// ErrNoVariance is the error of two scorers of which one ranks every row right and the other every row wrong: they
// differ, and there is nothing to measure the difference by.
var ErrNoVariance = errors.New("no variance")

// NewDeLong computes the AUC of scores with its interval at the given level, in (0,1). It fails unless there are two
// rows of either class ([ErrOneClass]).
func NewDeLong(scores []float64, labels []bool, level float64) (*DeLong, error) {
	sameLength(scores, labels)
	if err := deLongUsable(labels, level); err != nil {
		return nil, err
	}
	auc := AUC(scores, labels)
	se := math.Sqrt(variance(placements(scores, labels), labels))
	reach := stats.NormalQuantile((1+level)/2) * se
	return &DeLong{auc, se, level, Interval{max(0, auc-reach), min(1, auc+reach)}}, nil
}

// NewDeLongTest tests a against b, scores of the same rows, with an interval at the given level, in (0,1). It fails
// unless there are two rows of either class ([ErrOneClass]), or with [ErrNoVariance]. Scorers that rank all rows alike
// have Z 0 and PValue 1.
func NewDeLongTest(a, b []float64, labels []bool, level float64) (*DeLongTest, error) {
	sameLength(a, labels)
	sameLength(b, labels)
	if err := deLongUsable(labels, level); err != nil {
		return nil, err
	}
	t := &DeLongTest{Difference: AUC(a, labels) - AUC(b, labels), PValue: 1, Level: level}
	// The variance of a difference of means is that of the mean of differences: nothing cancels, as it would in
	// var(a) + var(b) - 2 cov(a, b) for two scorers that are nearly one.
	d, second := placements(a, labels), placements(b, labels)
	for i, v := range second {
		d[i] -= v
	}
	t.StandardError = math.Sqrt(variance(d, labels))
	// Below this the difference of two equal areas is rounding, and so is its error.
	const rounding = 1e-15
	switch {
	case t.StandardError > rounding:
		t.Z = t.Difference / t.StandardError
		t.PValue = math.Erfc(math.Abs(t.Z) / math.Sqrt2)
	case math.Abs(t.Difference) > rounding:
		return nil, fmt.Errorf("areas differ by %v: %w", t.Difference, ErrNoVariance)
	}
	reach := stats.NormalQuantile((1+level)/2) * t.StandardError
	t.Interval = Interval{t.Difference - reach, t.Difference + reach}
	return t, nil
}

func deLongUsable(labels []bool, level float64) error {
	if !(level > 0 && level < 1) {
		return fmt.Errorf("level %v: want one in (0,1)", level)
	}
	if p := positives(labels); p < 2 || len(labels)-p < 2 {
		return fmt.Errorf("%d rows, %d positive: want two of either class: %w", len(labels), p, ErrOneClass)
	}
	return nil
}

// placements are the structural components, by row: for a positive row the share of negatives that it is above, for a
// negative row the share of positives that are above it, ties counting half. Their mean over either class is the AUC.
func placements(scores []float64, labels []bool) []float64 {
	r := rank(scores, labels, nil)
	p := float64(positives(labels))
	n := float64(len(labels)) - p
	v := make([]float64, len(scores))
	above, below, start := 0.0, n, 0 // positives before the group, negatives after it
	for _, end := range r.ends {
		pos := 0.0
		for _, label := range r.labels[start:end] {
			pos += label
		}
		neg := float64(end-start) - pos
		below -= neg
		for _, i := range r.order[start:end] {
			if labels[i] {
				v[i] = (below + neg/2) / n
			} else {
				v[i] = (above + pos/2) / p
			}
		}
		above += pos
		start = end
	}
	return v
}

// variance is that of an area, or of a difference of areas, given its components: the variance over the positives
// divided by their number, plus the same of the negatives.
func variance(components []float64, labels []bool) float64 {
	var n, mean, squares [2]float64
	for i, v := range components {
		c := int(unit(labels[i]))
		n[c]++
		mean[c] += v
	}
	mean[0] /= n[0]
	mean[1] /= n[1]
	for i, v := range components {
		c := int(unit(labels[i]))
		d := v - mean[c]
		squares[c] += float64(d * d)
	}
	return squares[0]/((n[0]-1)*n[0]) + squares[1]/((n[1]-1)*n[1])
}
