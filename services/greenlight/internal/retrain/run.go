package retrain

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/plots"
	"github.com/greenlight-ml/greenlight/pkg/train"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/figure"
)

// ErrTaken is the error of a version that the registry has already.
var ErrTaken = errors.New("is in the registry already")

// Hint returns what to do about an error; empty if nothing is known to help.
func Hint(err error) string {
	var refusal *RefusalError
	switch {
	case errors.As(err, &refusal):
		return refusal.Hint
	case errors.Is(err, ErrTaken), errors.Is(err, model.ErrExists):
		return "leave --version out for the next free one"
	case errors.Is(err, train.ErrTooFewDays):
		return "widen --window: 9 days are the fewest that can be trained and tested on"
	}
	return ""
}

// Options configure a retraining.
type Options struct {
	// Registry gets the candidate.
	Registry *model.Registry
	// Schema is the feature schema of the candidate.
	Schema string
	// Version is that of the candidate. Empty is the next free release candidate of the schema.
	Version string
	// WindowDays is the requested number of newest days, for the report; 0 means all.
	WindowDays int
	Limits     Limits
	// Git is the revision of the program.
	Git string
}

// Run is a retraining. Its steps are [Prepare], [Run.Train], [MeasureHoldout], [Run.Register] and [Run.Write], in this
// order. Each fills in its part of the report.
type Run struct {
	Options
	Report    *Report
	Candidate *experiment.Candidate
	Artifact  *model.Artifact

	population *Population
	study      *experiment.Study
}

// Prepare checks that the version is free and that the data fits training. log is nil if the data came from market files.
// The error is a [*RefusalError] if the data does not, and [ErrTaken] if the version is taken.
func Prepare(data *experiment.Data, log *Log, o Options) (*Run, error) {
	if err := o.choose(data.Name); err != nil {
		return nil, err
	}
	r := &Run{Options: o, Report: &Report{
		Version: o.Version, Registered: data.Name + "/" + o.Version, WindowDays: o.WindowDays, Log: log,
	}}
	var err error
	if r.population, err = NewPopulation(data, o.Schema); err != nil {
		return nil, err
	}
	if r.Report.Preconditions, err = o.Limits.Check(r.population); err != nil {
		return nil, err
	}
	r.Report.Validation, err = Validate(r.population)
	return r, err
}

// choose checks the version before any training, or chooses one.
func (o *Options) choose(name string) error {
	if o.Version == "" {
		entries, err := o.Registry.List()
		o.Version = NextCandidate(entries, name, o.Schema)
		return err
	}
	if strings.ContainsAny(o.Version, `/\`) {
		return nil // the registry will refuse it
	}
	if _, err := os.Stat(o.Registry.Dir(model.Entry{Name: name, Version: o.Version})); err == nil {
		return fmt.Errorf("%s/%s %w", name, o.Version, ErrTaken)
	}
	return nil
}

// Train trains the candidate and judges it by the offline gate.
func (r *Run) Train(ctx context.Context, progress func(done, total int)) error {
	var err error
	r.study, err = experiment.Run(ctx, r.population.Data, experiment.Options{Versions: map[string]string{r.Schema: r.Version}, Progress: progress})
	if err != nil {
		return err
	}
	r.Candidate = r.study.Candidates[0]
	if r.Artifact, r.Report.Evaluation, err = r.study.Evaluated(r.Candidate, r.Git, time.Now()); err != nil {
		return err
	}
	card := r.Report.Evaluation.Judge()
	r.Report.Result, r.Report.Checks = card.Verdict(), card.Results
	return nil
}

// Register adds the candidate to the registry, whatever its verdict. It returns the version under which the registry has
// the same model already; empty if there is none.
func (r *Run) Register() (same string, err error) {
	if err := r.Registry.Add(r.Artifact); err != nil {
		return "", err
	}
	entries, err := r.Registry.List()
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		if e.Name != r.Artifact.Manifest.Name || e.Version == r.Version {
			continue
		}
		if m, err := r.Registry.Manifest(e); err == nil && m.Digest == r.Artifact.Digest() { // an unreadable manifest does not matter here
			return e.Version, nil
		}
	}
	return "", nil
}

// Write writes the figures and the report, and returns the source of the data.
func (r *Run) Write(store *evidence.Store) (evidence.Source, error) {
	header := r.study.Header(ReportSchema, r.Artifact)
	if r.Report.Log != nil {
		header.Source = r.Report.Log.Source()
	}
	r.Report.Timestamp = time.Now().UnixMilli()
	figures := r.draw()
	if err := figures.Write(store); err != nil {
		return "", err
	}
	r.Report.Figures = []string{}
	for _, f := range figures.All {
		r.Report.Figures = append(r.Report.Figures, f.Name)
	}
	text, err := r.Report.Markdown(header.Source, figures.All)
	if err != nil {
		return "", err
	}
	if err := store.WriteFile("retrain_report.md", text); err != nil {
		return "", err
	}
	return header.Source, store.WriteJSON("retrain_report.json", header, r.Report)
}

// draw draws the evaluation of the candidate, the drift of its features between the halves of the window, and the drift of
// features and raw inputs in the newest holdout.
func (r *Run) draw() *figure.Set {
	c, made := r.Candidate, ""
	if r.study.Data.Simulated {
		made = " (SIMULATED)"
	}
	d := &figure.Set{Prefix: "retrain/" + c.Version + "/"}
	r.study.Draw(d, c, fmt.Sprintf("%s on %s%s", c.Version, r.study.Data.Name, made))
	psi := func(name, caption, title string, f drift.FeatureReading) {
		d.Add(name, caption, func(w io.Writer) error { return plots.PSI(w, title+made, f) })
	}
	for _, h := range r.Report.Validation.Features {
		if h.InCandidate && h.Halves != nil {
			psi("halves_"+h.Feature, h.Feature+": first half of the window against the second", "first half of the window (grey) and second", *h.Halves)
		}
	}
	if newest := r.Report.Drift.Newest; newest != nil {
		watched := experiment.Watched(c.Schema)
		for _, f := range newest.Features {
			if slices.Contains(watched, f.Feature) {
				psi("psi_"+f.Feature, f.Feature+": newest holdout week against its training days", "newest holdout week", f)
			}
		}
	}
	return d
}

// FourWeeks are the days out of time that a verdict should rest on where the data have them.
const FourWeeks = 28

// Show runs all steps of a retraining, prints what each has found, and writes the evidence to the store, which is that of the
// folder.
func Show(ctx context.Context, c console.Console, store *evidence.Store, folder string, data *experiment.Data, log *Log, o Options) (card gate.Scorecard, err error) {
	run, err := Prepare(data, log, o)
	if err != nil {
		return card, err
	}
	report, facts := run.Report, run.Report.Preconditions
	c.Say("validate  %d features, %d rows of %d days, %d positive; longest gap %.1f h", len(report.Validation.Features), facts.Rows, facts.Days, facts.Positives, facts.LongestGapHours)
	for _, pair := range report.Validation.Correlation.Flagged {
		c.Say("          %s and %s are correlated at %.3f", pair.A, pair.B, pair.R)
	}

	start := time.Now()
	if err := run.Train(ctx, c.Progress("training")); err != nil {
		return card, err
	}
	c.Say("train     %s and the baseline, walk-forward over %d folds, in %s", run.Version, len(run.Candidate.Folds), time.Since(start).Round(10*time.Millisecond))
	if err := c.Indented(report.Evaluation.Table); err != nil {
		return card, err
	}
	c.Say("eval      %s: %s", run.Version, report.Result)
	rows, _ := run.Candidate.Pooled()
	if tested := len(slices.Compact(rows.Days)); tested < FourWeeks {
		c.Say("          note: judged on %d days, in which P@20 follows the base rate; four weeks take --window 43 and the data", tested)
	}

	if report.Drift, err = MeasureHoldout(ctx, run.population, run.Candidate.Folds, c.Progress("drift")); err != nil {
		return card, err
	}
	c.Say("drift     from the training days of each fold to the days after them")
	if err := errors.Join(c.Indented(report.DriftTable().Text), c.Indented(report.FeatureTable().Text)); err != nil {
		return card, err
	}

	same, err := run.Register()
	if err != nil {
		return card, err
	}
	c.Say("registered %s as candidate, digest %.12s", o.Registry.Dir(model.Entry{Name: run.Artifact.Manifest.Name, Version: run.Version}), run.Artifact.Digest())
	if same != "" {
		c.Say("          note: the same model as %s, as it comes of the same data", same)
	}
	source, err := run.Write(store)
	if err != nil {
		return card, err
	}
	c.Say("report    %s (%s), with %d figures", filepath.Join(folder, "retrain_report.md"), source, len(report.Figures))
	return gate.Scorecard{Results: report.Checks}, nil
}
