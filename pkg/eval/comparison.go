package eval

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
)

// Comparison sets a model beside the baseline on the same rows. What matters of two scorers that agree on most rows is
// the difference, which is far better known than either.
type Comparison struct {
	// N and Positives are numbers of rows.
	N         int `json:"n"`
	Positives int `json:"positives"`
	// AUC and PrecisionAt20 are those of [Metrics].
	AUC           Difference `json:"auc"`
	PrecisionAt20 Difference `json:"precision_at_20"`
	// DeLong is the test of the difference of AUC as if rows were independent, which they are not: see [DeLong]. Nil
	// when it is not defined: see [NewDeLongTest].
	DeLong *DeLongTest `json:"auc_delong,omitempty"`
	// Bootstrap says how the intervals of the differences were made; nil when there are too few days for them.
	Bootstrap *Draws `json:"bootstrap,omitempty"`
}

// Difference is a measure of the model and of the baseline, and the model's less the baseline's.
type Difference struct {
	Model      float64 `json:"model"`
	Baseline   float64 `json:"baseline"`
	Difference float64 `json:"difference"`
	// Interval is that of the difference: model and baseline are measured on the same draw of whole days. Nil when
	// there are too few days.
	Interval *Interval `json:"difference_interval,omitempty"`
}

// Draws are the settings of a bootstrap, as those of [Intervals].
type Draws struct {
	Level      float64 `json:"level"`
	Replicates int     `json:"replicates"`
	Days       int     `json:"days"`
	Seed       uint64  `json:"seed"`
}

// Compare compares two scorers of the same rows. It fails when a sample is not valid, has one class only
// ([ErrOneClass]), or when their labels or days differ.
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
		o := theirs.ranking.count(TopShare, ours.times) // the days that were drawn for the model
		auc[i], precision[i] = m[0]-o.auc(), m[1]-o.precision()
	}
	c.Bootstrap = &Draws{b.Level, b.Replicates, len(ours.rows), b.Seed}
	a, p := b.interval(auc), b.interval(precision)
	c.AUC.Interval, c.PrecisionAt20.Interval = &a, &p
	return nil
}
