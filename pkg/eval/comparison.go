package eval

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// Comparison compares a model with the baseline on the same rows. If two scorers agree on most rows, their difference
// is known far more precisely than either value.
type Comparison struct {
	// N and Positives are numbers of rows.
	N         int `json:"n"`
	Positives int `json:"positives"`
	// AUC and PrecisionAt20 are defined in [Metrics].
	AUC           Difference `json:"auc"`
	PrecisionAt20 Difference `json:"precision_at_20"`
	// DeLong tests the difference of AUC as if rows were independent, which they are not: see [DeLong]. It is nil if
	// the test is not defined: see [ErrOneClass] and [ErrNoVariance].
	DeLong *DeLongTest `json:"auc_delong,omitempty"`
	// Bootstrap describes how the intervals of the differences were made; nil if there are too few days for them.
	Bootstrap *Draws `json:"bootstrap,omitempty"`
}

// Difference holds a measure for the model and for the baseline, and the model's minus the baseline's.
type Difference struct {
	Model      float64 `json:"model"`
	Baseline   float64 `json:"baseline"`
	Difference float64 `json:"difference"`
	// Interval is the interval of the difference: model and baseline are measured on the same draw of whole days. It is
	// nil if there are too few days.
	Interval *Interval `json:"difference_interval,omitempty"`
}

// Draws are the settings of a bootstrap, as in [Intervals].
type Draws struct {
	Level      float64 `json:"level"`
	Replicates int     `json:"replicates"`
	Days       int     `json:"days"`
	Seed       uint64  `json:"seed"`
}

// Compare compares two scorers of the same rows. It returns an error if a sample is invalid or has only one class
// ([ErrOneClass]), or if their labels or days differ.
func Compare(model, baseline Sample, b Bootstrap) (*Comparison, error) {
	ours, err := newRanked(model)
	if err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	theirs, err := newRanked(baseline)
	if err != nil {
		return nil, fmt.Errorf("baseline: %w", err)
	}
	if !slices.Equal(model.Labels, baseline.Labels) || !slices.Equal(model.Days, baseline.Days) {
		return nil, errors.New("model and baseline have different rows")
	}
	m, o := ours.count(model.Labels, TopShare), theirs.count(model.Labels, TopShare)
	c := &Comparison{
		N: model.Len(), Positives: int(m.positives),
		AUC:           Difference{m.auc(), o.auc(), m.auc() - o.auc(), nil},
		PrecisionAt20: Difference{m.precision(), o.precision(), m.precision() - o.precision(), nil},
	}
	if err := b.compare(ours, theirs, c); err != nil && !errors.Is(err, ErrTooFewDays) {
		return nil, err
	}
	c.DeLong, err = deLongTest(ours.ranking, theirs.ranking, model.Labels, b.Level)
	if err != nil && !errors.Is(err, ErrOneClass) && !errors.Is(err, ErrNoVariance) {
		return nil, err
	}
	return c, nil
}

// compare adds the intervals of the differences.
func (b Bootstrap) compare(model, baseline *ranked, c *Comparison) error {
	blocks, err := b.blocks(model)
	if err != nil {
		return err
	}
	k := len(blocks.rows)
	times := blocks.draws(b)
	ours := newResampler(model, blocks.of, k).counts(TopShare, times)
	theirs := newResampler(baseline, blocks.of, k).counts(TopShare, times)
	auc, precision := make([]float64, b.Replicates), make([]float64, b.Replicates)
	for i, m := range ours {
		auc[i], precision[i] = m.auc()-theirs[i].auc(), m.precision()-theirs[i].precision()
	}
	c.Bootstrap = &Draws{b.Level, b.Replicates, k, b.Seed}
	a, p := b.interval(auc), b.interval(precision)
	c.AUC.Interval, c.PrecisionAt20.Interval = &a, &p
	return nil
}

// MatchRate returns the share of rows in which two scores differ by at most tolerance, in [0,1]. It measures agreement,
// not correctness. NaN without rows. It panics if the lengths differ.
func MatchRate(a, b []float64, tolerance float64) float64 {
	if len(a) != len(b) {
		panic(fmt.Sprintf("eval: %d scores against %d", len(a), len(b)))
	}
	n := 0
	for i := range a {
		if math.Abs(a[i]-b[i]) <= tolerance {
			n++
		}
	}
	return float64(n) / float64(len(a))
}
