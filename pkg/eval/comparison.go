package eval

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// Comparison compares a model with the baseline on the same rows. For two scorers that agree on most rows the
// difference matters; it is known far better than either value.
type Comparison struct {
	// N and Positives are numbers of rows.
	N         int `json:"n"`
	Positives int `json:"positives"`
	// AUC and PrecisionAt20 are defined in [Metrics].
	AUC           Difference `json:"auc"`
	PrecisionAt20 Difference `json:"precision_at_20"`
	// DeLong tests the difference of AUC as if rows were independent, which they are not: see [DeLong]. It is nil if
	// the test is not defined: see [NewDeLongTest].
	DeLong *DeLongTest `json:"auc_delong,omitempty"`
	// Bootstrap describes how the intervals of the differences were made; nil if there are too few days for them.
	Bootstrap *Draws `json:"bootstrap,omitempty"`
}

// Difference holds a measure of the model, of the baseline, and the model's minus the baseline's.
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
	ours, err := Measure(model)
	if err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	theirs, err := Measure(baseline)
	if err != nil {
		return nil, fmt.Errorf("baseline: %w", err)
	}
	if !slices.Equal(model.Labels, baseline.Labels) || !slices.Equal(model.Days, baseline.Days) {
		return nil, errors.New("model and baseline are not of the same rows")
	}
	c := &Comparison{
		N: ours.N, Positives: ours.Positives,
		AUC:           Difference{ours.AUC, theirs.AUC, ours.AUC - theirs.AUC, nil},
		PrecisionAt20: Difference{ours.PrecisionAt20, theirs.PrecisionAt20, ours.PrecisionAt20 - theirs.PrecisionAt20, nil},
	}
	if err := b.compare(model, baseline, c); err != nil && !errors.Is(err, ErrTooFewDays) {
		return nil, err
	}
	c.DeLong, err = NewDeLongTest(model.Scores, baseline.Scores, model.Labels, b.Level)
	if err != nil && !errors.Is(err, ErrOneClass) && !errors.Is(err, ErrNoVariance) {
		return nil, err
	}
	return c, nil
}

// compare adds the intervals of the differences.
func (b Bootstrap) compare(model, baseline Sample, c *Comparison) error {
	ours, err := b.blocks(model)
	if err != nil {
		return err
	}
	theirs := newBlocks(baseline)
	auc, precision := make([]float64, b.Replicates), make([]float64, b.Replicates)
	rng := rand.New(rand.NewPCG(b.Seed, 0))
	for i := range b.Replicates {
		m := ours.draw(rng)
		o := theirs.ranking.count(TopShare, ours.times) // the days drawn for the model
		auc[i], precision[i] = m[0]-o.auc(), m[1]-o.precision()
	}
	c.Bootstrap = &Draws{b.Level, b.Replicates, len(ours.rows), b.Seed}
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
