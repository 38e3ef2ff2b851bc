package retrain

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
)

// ErrTaken is the error of a version that the registry has already.
var ErrTaken = errors.New("is in the registry already")

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

// Run is a retraining. Its steps are [Prepare], [Run.Train], [Run.MeasureDrift], [Run.Register] and [Run.Write], in this
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

// Scorecard returns the judgment of the offline gate.
func (r *Run) Scorecard() gate.Scorecard { return gate.Scorecard{Results: r.Report.Checks} }

// TestedDays returns the number of days that the candidate was judged on.
func (r *Run) TestedDays() int {
	rows, _ := r.Candidate.Pooled()
	return len(slices.Compact(rows.Days))
}

// MeasureDrift measures the drift from the training days of each fold to the days after them.
func (r *Run) MeasureDrift(ctx context.Context, progress func(done, total int)) (err error) {
	r.Report.Drift, err = MeasureHoldout(ctx, r.population, r.Candidate.Folds, progress)
	return err
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
	figures, err := Draw(r.study, r.Candidate, r.Report)
	if err != nil {
		return "", err
	}
	r.Report.Figures = []string{}
	for _, f := range figures {
		if err := store.WriteFile(f.Name, f.SVG); err != nil {
			return "", err
		}
		r.Report.Figures = append(r.Report.Figures, f.Name)
	}
	text, err := r.Report.Markdown(header.Source, figures)
	if err != nil {
		return "", err
	}
	if err := store.WriteFile("retrain_report.md", text); err != nil {
		return "", err
	}
	return header.Source, store.WriteJSON("retrain_report.json", header, r.Report)
}
