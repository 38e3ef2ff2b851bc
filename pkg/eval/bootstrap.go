package eval

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/greenlight-ml/greenlight/pkg/stats"
)

// Bootstrap configures confidence intervals. It draws whole UTC days with replacement, as many as the sample has.
// Labels of neighbouring minutes overlap, so rows are far from independent, and drawing rows would give far too narrow
// intervals.
//
// B. Efron, R. J. Tibshirani (1993), "An Introduction to the Bootstrap": percentile intervals, blocks of a day.
type Bootstrap struct {
	// Replicates is the number of samples to draw, > 0.
	Replicates int
	// Seed seeds the draws: the same seed and data give the same intervals.
	Seed uint64
	// Level is the coverage, in (0,1).
	Level float64
	// MinDays is the minimum number of days for intervals, >= 2.
	MinDays int
}

// DefaultBootstrap draws 1,000 samples at 95 %, given at least 5 days.
func DefaultBootstrap() Bootstrap {
	return Bootstrap{Replicates: 1000, Seed: 1, Level: 0.95, MinDays: 5}
}

// Interval is a confidence interval, low <= high.
type Interval struct {
	Low  float64 `json:"low"`
	High float64 `json:"high"`
}

// Intervals are the confidence intervals of the fields of [Metrics].
type Intervals struct {
	Level         float64  `json:"level"`
	Replicates    int      `json:"replicates"`
	Days          int      `json:"days"`
	Seed          uint64   `json:"seed"`
	AUC           Interval `json:"auc"`
	PrecisionAt20 Interval `json:"precision_at_20"`
	RecallAt20    Interval `json:"recall_at_20"`
	BaseRate      Interval `json:"base_rate"`
	Brier         Interval `json:"brier"`
	LogLoss       Interval `json:"log_loss"`
}

// ErrTooFewDays is returned for a sample with too few days for intervals.
var ErrTooFewDays = errors.New("too few days for intervals")

// Intervals computes the intervals of a sample. It returns an error if the sample is invalid, has only one class
// ([ErrOneClass]) or too few days ([ErrTooFewDays]). A draw without both classes is repeated.
func (b Bootstrap) Intervals(s Sample) (*Intervals, error) {
	r, err := newRanked(s)
	if err != nil {
		return nil, err
	}
	return b.intervals(r)
}

func (b Bootstrap) intervals(r *ranked) (*Intervals, error) {
	blocks, err := b.blocks(r)
	if err != nil {
		return nil, err
	}
	var values [6][]float64
	times := blocks.draws(b)
	for i, c := range newResampler(r, blocks.of, len(blocks.rows)).counts(TopShare, times) {
		var squared, surprise float64
		for j, w := range times[i] {
			squared += w * blocks.squared[j]
			surprise += w * blocks.surprise[j]
		}
		n := c.positives + c.negatives
		for j, v := range [6]float64{c.auc(), c.precision(), c.recall(), c.positives / n, squared / n, surprise / n} {
			values[j] = append(values[j], v)
		}
	}
	return &Intervals{
		Level: b.Level, Replicates: b.Replicates, Days: len(blocks.rows), Seed: b.Seed,
		AUC: b.interval(values[0]), PrecisionAt20: b.interval(values[1]), RecallAt20: b.interval(values[2]),
		BaseRate: b.interval(values[3]), Brier: b.interval(values[4]), LogLoss: b.interval(values[5]),
	}, nil
}

// interval returns the percentile interval of replicates, which it sorts.
func (b Bootstrap) interval(v []float64) Interval {
	slices.Sort(v)
	tail := (1 - b.Level) / 2
	return Interval{stats.Quantile(v, tail), stats.Quantile(v, 1-tail)}
}

// blocks are the days of a sample, numbered from 0.
type blocks struct {
	// of is the block of each row.
	of []int32
	// Per block: rows, positives, and the sums of squared errors and log losses.
	rows, positives, squared, surprise []float64
}

// blocks divides a sample into days, or returns an error if it has too few for intervals.
func (b Bootstrap) blocks(r *ranked) (*blocks, error) {
	if b.Replicates <= 0 || !(b.Level > 0 && b.Level < 1) {
		return nil, fmt.Errorf("bootstrap of %d replicates at level %v: want more than 0, and a level in (0,1)", b.Replicates, b.Level)
	}
	of, k := numbered(r.Days)
	if k < max(2, b.MinDays) {
		return nil, fmt.Errorf("%d days, want %d: %w", k, max(2, b.MinDays), ErrTooFewDays)
	}
	d := &blocks{of, make([]float64, k), make([]float64, k), make([]float64, k), make([]float64, k)}
	for i, j := range of {
		d.rows[j]++
		d.positives[j] += unit(r.Labels[i])
		d.squared[j] += squared(r.Scores[i], r.Labels[i])
		d.surprise[j] += surprise(r.Scores[i], r.Labels[i])
	}
	return d, nil
}

// draws draws as many blocks as there are, with replacement, until both classes are present. It returns how often each
// block is in each replicate. All draws use one random stream, so they do not depend on the number of cores.
func (d *blocks) draws(b Bootstrap) [][]float64 {
	k := len(d.rows)
	all, times := make([]float64, b.Replicates*k), make([][]float64, b.Replicates)
	rng := rand.New(rand.NewPCG(b.Seed, 0))
	for i := range times {
		w := all[i*k : (i+1)*k]
		for n, pos := 0.0, 0.0; pos == 0 || pos == n; n, pos = dot(w, d.rows), dot(w, d.positives) {
			clear(w)
			for range w {
				w[rng.IntN(k)]++
			}
		}
		times[i] = w
	}
	return times
}
