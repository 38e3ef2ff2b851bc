package train

import (
	"context"
	"fmt"
	"slices"

	"github.com/greenlight-ml/greenlight/pkg/eval"
	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/label"
	"github.com/greenlight-ml/greenlight/pkg/model"
)

// Options are the options of [WalkForward].
type Options struct {
	Fit   FitOptions
	Split Split
	// Label is the rule of the label. A training window ends one horizon before the test, or Split.Purge rows if that is more.
	Label label.Rule
	// Also lists further schemas under which a row must be ready. If one model could score a row and another could not,
	// their results would not be comparable. Use the same set for every run that you compare.
	Also []*feature.Schema
	// Progress, if set, is called before the first fold and after each, from the calling goroutine.
	Progress func(done, total int)
}

// DefaultOptions are the options of the reference study: rows must be ready under v1.8 and v1.8.1. It lists only these two,
// so that a new schema does not change earlier results.
func DefaultOptions() Options {
	o := Options{Fit: DefaultFitOptions(), Split: DefaultSplit(), Label: label.Default()}
	for _, name := range []string{"v1.8", feature.DefaultSchema} {
		if s, ok := feature.Lookup(name); ok {
			o.Also = append(o.Also, s)
		}
	}
	return o
}

// Fold is one model with its out-of-time rows.
type Fold struct {
	Window
	// Model was fitted to TrainRows rows; the label's Threshold was learned from the same rows.
	Model     *model.Logistic
	Threshold float64
	TrainRows int
	// Minute is each out-of-time row's position in the frame.
	Minute    []int
	OutOfTime eval.Sample
}

// Result is a walk-forward run.
type Result struct {
	Folds []Fold
}

// WalkForward fits a model per fold and scores the days after its training window. Threshold, means, standard
// deviations and weights of a fold come only from its training rows.
//
// It returns an error if there is no fold ([ErrTooFewDays]), if a fold cannot be fitted (see [Fit]), or if ctx is done.
func WalkForward(ctx context.Context, f *feature.Frame, s *feature.Schema, o Options) (*Result, error) {
	rule, err := o.Label.Complete()
	if err != nil {
		return nil, err
	}
	o.Split.Purge = max(o.Split.Purge, rule.Horizon)
	return NewDataset(f, rule, s, o.Also...).WalkForward(ctx, o)
}

// WalkForward is like the function [WalkForward], on these rows. It does not use o.Also.
func (d *Dataset) WalkForward(ctx context.Context, o Options) (*Result, error) {
	windows, err := Folds(slices.Compact(slices.Clone(d.Day)), o.Split)
	if err != nil {
		return nil, err
	}
	progress := o.Progress
	if progress == nil {
		progress = func(int, int) {}
	}
	r := &Result{}
	progress(0, len(windows))
	for i, w := range windows {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		fold, err := d.fold(w, o)
		if err != nil {
			return nil, fmt.Errorf("fold %d of %d: %w", i+1, len(windows), err)
		}
		r.Folds = append(r.Folds, fold)
		progress(i+1, len(windows))
	}
	return r, nil
}

func (d *Dataset) fold(w Window, o Options) (Fold, error) {
	from, to := d.From(w.TrainFrom), d.trainEnd(w.TrainTo, o.Split.Purge)
	m, threshold, err := d.Fit(from, to, o.Fit)
	if err != nil {
		return Fold{}, err
	}
	first, end := d.From(w.TestFrom), d.From(w.TestTo)
	fold := Fold{
		Window: w, Model: m, Threshold: threshold, TrainRows: to - from, Minute: d.Minute[first:end:end],
		OutOfTime: eval.Sample{Scores: make([]float64, end-first), Labels: make([]bool, end-first), Days: d.Day[first:end:end]},
	}
	m.Scores(fold.OutOfTime.Scores, d.X[first*d.Schema.Len():])
	for i, z := range d.Z[first:end] {
		fold.OutOfTime.Labels[i] = z > threshold
	}
	return fold, nil
}

// Pooled returns the out-of-time rows of all folds in time order, with the position of each in the frame.
func (r *Result) Pooled() (rows eval.Sample, minutes []int) {
	samples := make([]eval.Sample, len(r.Folds))
	for i, f := range r.Folds {
		samples[i] = f.OutOfTime
		minutes = append(minutes, f.Minute...)
	}
	return eval.Pool(samples...), minutes
}

// Report evaluates the run: see [eval.NewReport].
func (r *Result) Report(b eval.Bootstrap) (*eval.Report, error) {
	folds := make([]eval.Fold, len(r.Folds))
	for i, f := range r.Folds {
		folds[i] = eval.Fold{
			TrainFrom: f.TrainFrom, TrainTo: f.TrainTo, TestFrom: f.TestFrom, TestTo: f.TestTo,
			TrainRows: f.TrainRows, Threshold: f.Threshold, Sample: f.OutOfTime,
		}
	}
	return eval.NewReport(folds, b)
}
