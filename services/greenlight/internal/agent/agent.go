// Package agent looks at the services every hour and writes the evidence that is due: the drift, the report of every day,
// the summary of every week, and the suggestion to retrain when drift stays.
package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/driftfleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/report"
)

// Options are what an agent works on.
type Options struct {
	// State is the folder of the journal, Evidence that of the evidence. Who runs an agent owns State.
	State, Evidence string
	// Source says where the figures come from, Git what program wrote them.
	Source evidence.Source
	Git    string
	// CriticalSamples is how many samples in a row must have a critical index for a retraining to be suggested, >= 1.
	CriticalSamples int
	// Read looks at the services. What could not be read is in the sample's errors; the report is nil without drift.
	Read func(ctx context.Context, now time.Time) (report.Sample, *driftfleet.Report)
	// Keep writes the drift to the evidence.
	Keep func(*evidence.Store, *driftfleet.Report) error
	// Metrics and Logger are told how it goes.
	Metrics *Metrics
	Logger  *slog.Logger
}

// Agent does the work of one tick after the other; it is not safe for concurrent use.
type Agent struct {
	Options

	journal *report.Journal
}

// New opens the journal of the state folder.
func New(o Options) (*Agent, error) {
	if o.CriticalSamples < 1 {
		return nil, fmt.Errorf("critical samples %d: want at least 1", o.CriticalSamples)
	}
	journal, err := report.OpenJournal(o.State)
	if err != nil {
		return nil, err
	}
	return &Agent{o, journal}, nil
}

// Close closes the journal.
func (a *Agent) Close() error { return a.journal.Close() }

// Tick takes a sample as of now and writes what is due, also what an earlier tick could not. What fails is counted and
// does not keep the rest from being done; the next tick tries again.
func (a *Agent) Tick(ctx context.Context, now time.Time) error {
	now = now.UTC()
	sample, fleet := a.Read(ctx, now)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	for _, e := range sample.Errors {
		a.Logger.Warn("service not read", "error", e)
	}
	if err := a.journal.Append(sample); err != nil {
		a.Metrics.writeErrors.Inc()
		return fmt.Errorf("append to the journal: %w", err)
	}
	a.Metrics.succeeded("sample", now)
	samples, err := report.ReadJournal(a.State)
	if err != nil {
		return err
	}
	store, err := evidence.Open(a.Evidence, evidence.Options{Now: func() time.Time { return now }})
	if err != nil {
		a.Metrics.writeErrors.Inc()
		return err
	}
	return errors.Join(a.snapshot(store, fleet, now), a.daily(store, samples, now), a.weekly(store, samples, now),
		a.suggest(store, samples, now), store.Close())
}

// done counts the end of a write.
func (a *Agent) done(job, file string, wrote bool, now time.Time, err error) error {
	switch {
	case err != nil:
		a.Metrics.writeErrors.Inc()
		return fmt.Errorf("%s: %w", job, err)
	case wrote:
		a.Metrics.succeeded(job, now)
		a.Logger.Info("evidence written", "job", job, "file", file)
	}
	return nil
}

func (a *Agent) snapshot(store *evidence.Store, fleet *driftfleet.Report, now time.Time) error {
	if fleet == nil {
		return nil
	}
	return a.done("psi_snapshot", "psi_snapshot.json", true, now, a.Keep(store, fleet))
}

// header is of what was computed from the journal, which is no file of the evidence and still grows: the counts are in
// the report.
func (a *Agent) header() evidence.Header {
	return evidence.Header{Source: a.Source, Git: a.Git}
}

// daily writes the reports of all days that are over, from that of the first sample on.
func (a *Agent) daily(store *evidence.Store, samples []report.Sample, now time.Time) error {
	var errs []error
	for p := report.Day(samples[0].Time); !p.End.After(now); p = report.Day(p.End) {
		_, document := report.DailyFiles(p)
		there, err := report.Written(a.Evidence, document)
		if there {
			continue
		}
		if err == nil {
			there, err = report.WriteDaily(a.Evidence, store, a.header(), report.Summarize(p, samples))
		}
		errs = append(errs, a.done("daily", document, there, now, err))
	}
	return errors.Join(errs...)
}

// weeklyLead is how long before its end a week is summed up: Sunday 23:59.
const weeklyLead = time.Minute

// weekly writes the summaries of all weeks that are over but for a minute.
func (a *Agent) weekly(store *evidence.Store, samples []report.Sample, now time.Time) error {
	var errs []error
	for p := report.Week(samples[0].Time); !p.End.Add(-weeklyLead).After(now); p = report.Week(p.End) {
		_, document := report.WeeklyFiles(p)
		wrote, err := report.WriteWeekly(a.Evidence, store, a.header(), p, samples)
		errs = append(errs, a.done("weekly", document, wrote, now, err))
	}
	return errors.Join(errs...)
}
