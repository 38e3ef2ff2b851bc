package eval

import (
	"errors"
	"fmt"
	"time"
)

// Metrics are the measures of one sample.
type Metrics struct {
	// N and Positives are numbers of rows; BaseRate is Positives / N, in (0,1).
	N         int     `json:"n"`
	Positives int     `json:"positives"`
	BaseRate  float64 `json:"base_rate"`
	// AUC is in [0,1], 0.5 for uninformative scores: see [AUC].
	AUC float64 `json:"auc"`
	// PrecisionAt20 and RecallAt20, in [0,1], are for the ceil(0.2 n) rows with the highest scores. Rows
	// that tie at the cut share the remaining places in proportion.
	PrecisionAt20 float64 `json:"precision_at_20"`
	RecallAt20    float64 `json:"recall_at_20"`
	// Lift is PrecisionAt20 / BaseRate, >= 0, 1 for uninformative scores.
	Lift float64 `json:"lift"`
	// Brier and ECE are in [0,1], LogLoss in nats.
	Brier   float64 `json:"brier"`
	LogLoss float64 `json:"log_loss"`
	ECE     float64 `json:"ece"`
}

// Measure computes the metrics of a sample. It returns an error if the sample is invalid or has only one class
// ([ErrOneClass]). Every number it returns is finite.
func Measure(s Sample) (Metrics, error) {
	r, err := newRanked(s)
	if err != nil {
		return Metrics{}, err
	}
	return r.measure(), nil
}

func (s *ranked) measure() Metrics {
	c := s.count(s.Labels, TopShare)
	base := BaseRate(s.Labels)
	return Metrics{
		N: s.Len(), Positives: int(c.positives), BaseRate: base,
		AUC: c.auc(), PrecisionAt20: c.precision(), RecallAt20: c.recall(), Lift: c.precision() / base,
		Brier: Brier(s.Scores, s.Labels), LogLoss: LogLoss(s.Scores, s.Labels), ECE: ECE(s.Scores, s.Labels),
	}
}

// Fold holds the rows of one out-of-time test and how its model was trained.
type Fold struct {
	// TrainFrom, TrainTo, TestFrom and TestTo are UTC days since 1970-01-01; the To days are excluded.
	TrainFrom, TrainTo, TestFrom, TestTo int
	// TrainRows is how many rows the model was fitted on.
	TrainRows int
	// Threshold is the label's c, learned from those rows.
	Threshold float64
	Sample    Sample
}

// FoldReport is one fold of a [Report]. If the metrics cannot be computed, Metrics is nil and Problem is the reason.
type FoldReport struct {
	// Dates are the first and the last UTC day, YYYY-MM-DD, both included.
	TrainFirst string  `json:"train_first"`
	TrainLast  string  `json:"train_last"`
	TestFirst  string  `json:"test_first"`
	TestLast   string  `json:"test_last"`
	TrainRows  int     `json:"train_rows"`
	Threshold  float64 `json:"threshold"`
	Problem    string  `json:"problem,omitempty"`
	*Metrics
	// Intervals are the intervals of the fold's metrics; nil if it has too few days. A week is few: use them as a rough
	// guide.
	Intervals *Intervals `json:"confidence_intervals,omitempty"`
}

// Report is an out-of-time evaluation: the pooled metrics, at the top level in JSON, and the metrics of each fold.
type Report struct {
	Metrics
	// Intervals are the intervals of the pooled metrics; nil if there are too few days.
	Intervals *Intervals `json:"confidence_intervals,omitempty"`
	// DeLong is the interval of the pooled AUC as if rows were independent, at the level of Intervals. It is too
	// narrow, and included only for comparison with what others report. It is nil without two rows of each class.
	DeLong *DeLong `json:"auc_delong,omitempty"`
	// Comparison compares with the baseline on the same rows. It is nil unless the caller sets it with [Compare].
	Comparison *Comparison `json:"comparison_with_baseline,omitempty"`
	// Reliability is the reliability of the pooled rows.
	Reliability []Bin        `json:"reliability"`
	Folds       []FoldReport `json:"folds"`
}

// NewReport evaluates the pooled rows of the folds and each fold. It returns an error if the pooled rows are empty,
// invalid or of one class; a fold of one class has a Problem instead of metrics.
func NewReport(folds []Fold, b Bootstrap) (*Report, error) {
	samples := make([]Sample, len(folds))
	for i, f := range folds {
		samples[i] = f.Sample
	}
	pooled, err := newRanked(Pool(samples...))
	if err != nil {
		return nil, fmt.Errorf("pooled rows of %d folds: %w", len(folds), err)
	}
	r := &Report{Metrics: pooled.measure(), Reliability: Reliability(pooled.Scores, pooled.Labels), Folds: make([]FoldReport, len(folds))}
	r.Intervals, err = b.intervals(pooled)
	if err != nil && !errors.Is(err, ErrTooFewDays) {
		return nil, fmt.Errorf("intervals: %w", err)
	}
	if err := deLongUsable(pooled.Labels, b.Level); err == nil {
		r.DeLong = pooled.deLong(pooled.Labels, b.Level)
	} else if !errors.Is(err, ErrOneClass) {
		return nil, fmt.Errorf("interval by DeLong: %w", err)
	}
	for i, f := range folds {
		fr := FoldReport{
			TrainFirst: date(f.TrainFrom), TrainLast: date(f.TrainTo - 1),
			TestFirst: date(f.TestFrom), TestLast: date(f.TestTo - 1),
			TrainRows: f.TrainRows, Threshold: f.Threshold,
		}
		switch ranked, err := newRanked(f.Sample); {
		case errors.Is(err, ErrOneClass):
			fr.Problem = err.Error()
		case err != nil:
			return nil, fmt.Errorf("fold %d: %w", i, err)
		default:
			m := ranked.measure()
			fr.Metrics = &m
			fr.Intervals, err = b.intervals(ranked)
			if err != nil && !errors.Is(err, ErrTooFewDays) {
				return nil, fmt.Errorf("intervals of fold %d: %w", i, err)
			}
		}
		r.Folds[i] = fr
	}
	return r, nil
}

// date formats a day number as YYYY-MM-DD.
func date(day int) string { return time.Unix(int64(day)*86400, 0).UTC().Format(time.DateOnly) }
