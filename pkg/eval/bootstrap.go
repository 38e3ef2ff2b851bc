package eval

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/greenlight-ml/greenlight/pkg/stats"
)

// Bootstrap sets how intervals are made: whole UTC days are drawn with replacement, as many as there are. Labels of
// neighbouring minutes overlap, so rows are far from independent, and drawing rows gives intervals that are far too
// narrow.
//
// B. Efron, R. J. Tibshirani (1993), "An Introduction to the Bootstrap": percentile intervals, blocks of a day.
type Bootstrap struct {
	// Replicates is the number of samples to draw, > 0.
	Replicates int
	// Seed seeds the draws: the same seed and data give the same intervals.
	Seed uint64
	// Level is the coverage, in (0,1).
	Level float64
	// MinDays is the fewest days that give intervals, >= 2.
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
	blocks, err := b.blocks(s)
	if err != nil {
		return nil, err
	}
	var values [6][]float64
	rng := rand.New(rand.NewPCG(b.Seed, 0))
	for range b.Replicates {
		for i, v := range blocks.draw(rng) {
			values[i] = append(values[i], v)
		}
	}
	return &Intervals{
		Level: b.Level, Replicates: b.Replicates, Days: len(blocks.rows), Seed: b.Seed,
		AUC: b.interval(values[0]), PrecisionAt20: b.interval(values[1]), RecallAt20: b.interval(values[2]),
		BaseRate: b.interval(values[3]), Brier: b.interval(values[4]), LogLoss: b.interval(values[5]),
	}, nil
}

// blocks prepares a sample for drawing, or returns an error if the sample is not suitable.
func (b Bootstrap) blocks(s Sample) (*blocks, error) {
	if b.Replicates <= 0 || !(b.Level > 0 && b.Level < 1) {
		return nil, fmt.Errorf("bootstrap of %d replicates at level %v: want more than 0, and a level in (0,1)", b.Replicates, b.Level)
	}
	if err := s.validate(); err != nil {
		return nil, err
	}
	blocks := newBlocks(s)
	if have := len(blocks.rows); have < max(2, b.MinDays) {
		return nil, fmt.Errorf("%d days, want %d: %w", have, max(2, b.MinDays), ErrTooFewDays)
	}
	return blocks, nil
}

// interval returns the percentile interval of replicates, which it sorts.
func (b Bootstrap) interval(v []float64) Interval {
	slices.Sort(v)
	tail := (1 - b.Level) / 2
	return Interval{stats.Quantile(v, tail), stats.Quantile(v, 1-tail)}
}

// blocks is a sample with its days numbered from 0, ranked once, so that a draw is a single pass.
type blocks struct {
	ranking ranking
	// Per day: rows, positives, and the sums of squared errors and log losses.
	rows, positives, squared, surprise []float64
	// times is how often each day is in the current draw.
	times []float64
}

func newBlocks(s Sample) *blocks {
	days := slices.Compact(slices.Sorted(slices.Values(s.Days)))
	number := make(map[int]int32, len(days))
	for i, d := range days {
		number[d] = int32(i)
	}
	k := len(days)
	b := &blocks{
		rows: make([]float64, k), positives: make([]float64, k), squared: make([]float64, k), surprise: make([]float64, k),
		times: make([]float64, k),
	}
	block := make([]int32, s.Len())
	for i, d := range s.Days {
		j := number[d]
		block[i] = j
		b.rows[j]++
		b.positives[j] += unit(s.Labels[i])
		b.squared[j] += squared(s.Scores[i], s.Labels[i])
		b.surprise[j] += surprise(s.Scores[i], s.Labels[i])
	}
	b.ranking = rank(s.Scores, s.Labels, block)
	return b
}

// draw takes days with replacement until both classes are present. It returns AUC, precision and recall at 20 %, base
// rate, Brier score and log loss.
func (b *blocks) draw(rng *rand.Rand) [6]float64 {
	for {
		clear(b.times)
		for range b.times {
			b.times[rng.IntN(len(b.times))]++
		}
		var n, pos, sq, sur float64
		for j, w := range b.times {
			n += w * b.rows[j]
			pos += w * b.positives[j]
			sq += w * b.squared[j]
			sur += w * b.surprise[j]
		}
		if pos == 0 || pos == n {
			continue
		}
		c := b.ranking.count(TopShare, b.times)
		return [6]float64{c.auc(), c.precision(), c.recall(), pos / n, sq / n, sur / n}
	}
}
