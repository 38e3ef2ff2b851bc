package eval

import (
	"errors"
	"fmt"
	"math"

	"github.com/greenlight-ml/greenlight/pkg/stats"
)

// DeLong is an AUC with its standard error by DeLong's method, which assumes independent rows.
//
// Minutes are not independent: their labels look 15 minutes ahead and overlap, and markets are calm or busy for hours.
// On pooled minutes the method counts the same information many times and its interval is far too narrow. It is included
// because others report it. Trust the interval over whole days instead: [Intervals].
//
// E. R. DeLong, D. M. DeLong, D. L. Clarke-Pearson (1988), "Comparing the areas under two or more correlated receiver
// operating characteristic curves", Biometrics 44. X. Sun, W. Xu (2014), "Fast implementation of DeLong's algorithm",
// IEEE Signal Processing Letters 21: the structural components are differences of mid-ranks, which a sort yields.
type DeLong struct {
	AUC           float64 `json:"auc"`
	StandardError float64 `json:"standard_error"`
	// Level is the coverage of the interval AUC +- z StandardError, cut off at 0 and 1. The interval is not
	// transformed: other tools print this form, and with thousands of rows of each class the logit gives the same.
	Level float64 `json:"level"`
	Interval
}

// DeLongTest is the paired test of two scorers on the same rows, assuming independent rows: see [DeLong].
type DeLongTest struct {
	// Difference is the first scorer's AUC minus the second's.
	Difference    float64 `json:"difference"`
	StandardError float64 `json:"standard_error"`
	// Z is Difference / StandardError. PValue is the two-sided probability of a |Z| this large if the true AUCs are
	// equal, in [0,1].
	Z      float64 `json:"z"`
	PValue float64 `json:"p_value"`
	// Level is the coverage of the interval Difference +- z StandardError.
	Level float64 `json:"level"`
	Interval
}

// ErrNoVariance is returned if one scorer ranks every row right and the other every row wrong: they differ, but there is no
// variance to judge the difference by.
var ErrNoVariance = errors.New("no variance")

// deLong computes the AUC with its interval at the given level. The labels must be usable: see [deLongUsable].
func (r ranking) deLong(labels []bool, level float64) *DeLong {
	auc := r.count(labels, TopShare).auc()
	se := math.Sqrt(variance(r.placements(labels), labels))
	reach := stats.NormalQuantile((1+level)/2) * se
	return &DeLong{auc, se, level, Interval{max(0, auc-reach), min(1, auc+reach)}}
}

// deLongTest tests a against b, rankings of the same rows, with an interval at the given level, in (0,1). It needs two rows
// of each class ([ErrOneClass]), and may return [ErrNoVariance]. Scorers that rank all rows alike have Z 0 and PValue 1.
func deLongTest(a, b ranking, labels []bool, level float64) (*DeLongTest, error) {
	if err := deLongUsable(labels, level); err != nil {
		return nil, err
	}
	t := &DeLongTest{Difference: a.count(labels, TopShare).auc() - b.count(labels, TopShare).auc(), PValue: 1, Level: level}
	// The variance of a difference of means is computed from differences. In var(a) + var(b) - 2 cov(a, b) the terms
	// would cancel for two nearly equal scorers.
	d, second := a.placements(labels), b.placements(labels)
	for i, v := range second {
		d[i] -= v
	}
	t.StandardError = math.Sqrt(variance(d, labels))
	// Below this, the difference of two areas, or its error, is rounding.
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
		return fmt.Errorf("%d rows, %d positive: want two of each class: %w", len(labels), p, ErrOneClass)
	}
	return nil
}

// placements returns the structural components by row: for a positive row the share of negatives below it, for a
// negative row the share of positives above it, ties counting half. Their mean over either class is the AUC.
func (r ranking) placements(labels []bool) []float64 {
	p := float64(positives(labels))
	n := float64(len(labels)) - p
	v := make([]float64, len(labels))
	above, below, start := 0.0, n, int32(0) // positives before the group, negatives after it
	for _, end := range r.ends {
		pos := 0.0
		for _, i := range r.order[start:end] {
			pos += unit(labels[i])
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

// variance returns the variance of an area, or of a difference of areas, from its components: the variance over the
// positives divided by their number, plus the same for the negatives.
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
