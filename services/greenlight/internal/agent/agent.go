// Package agent looks at the services every hour and writes the evidence that is due: the drift, the report of every day,
// the summary of every week, and the suggestion to retrain when drift stays.
package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/twosample"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/driftfleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/report"
)

// Options are what an agent works on.
type Options struct {
	// State is the folder of the journal, Evidence that of the evidence. Who runs an agent owns State.
	State, Evidence string
	// Source says where the requests come from, Git what program wrote the evidence.
	Source evidence.Source
	Git    string
	// CriticalHours is how many hours in a row must have a critical index for a retraining to be suggested, >= 1.
	CriticalHours int
	// Read looks at the services. What could not be read is missing in the sample; the report is nil without drift.
	Read func(ctx context.Context, now time.Time) (report.Sample, *driftfleet.Report)
	// Keep writes the drift to the evidence.
	Keep func(*evidence.Store, *driftfleet.Report) error
	// Classify asks a classifier about the week that ends with a day, and says what it read. Nil asks none.
	Classify func(report.Period) (*twosample.Result, []evidence.Input)
	// Metrics and Logger are told how it goes.
	Metrics *Metrics
	Logger  *slog.Logger
}

// Agent does the work of one tick after the other; it is not safe for concurrent use.
type Agent struct {
	Options

	journal *report.Journal
	episode episode
	// since is the beginning of the oldest period that may not be written yet, before which the journal is not needed; due is
	// when the next report is. Both are zero until a tick has written all that was due.
	since, due time.Time
}

// New opens the journal of the state folder.
func New(o Options) (*Agent, error) {
	if o.CriticalHours < 1 {
		return nil, fmt.Errorf("critical hours %d: want at least 1", o.CriticalHours)
	}
	journal, err := report.OpenJournal(o.State)
	if err != nil {
		return nil, err
	}
	a := &Agent{Options: o, journal: journal}
	if err := report.Scan(o.State, a.episode.add); err != nil {
		return nil, errors.Join(err, journal.Close())
	}
	return a, nil
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
	sample.Source = a.Source
	a.Metrics.missing.Set(float64(len(sample.Missing)))
	for _, m := range sample.Missing {
		a.Logger.Warn("no answer", "service", m.Service, "address", m.Address, "error", m.Reason)
	}
	if err := a.journal.Append(sample); err != nil {
		return a.done("sample", "", false, now, err)
	}
	a.episode.add(sample)
	a.Metrics.succeeded("sample", now)
	a.Metrics.criticalHours.Set(float64(a.episode.Hours))
	if a.due.Sub(now) > 24*time.Hour { // the clock was ahead when that was found
		a.since, a.due = time.Time{}, time.Time{}
		a.Logger.Warn("the clock has gone back: reports of days that were not over are replaced when they are", "now", now)
	}
	if now.Before(a.due) && fleet == nil && a.episode.Hours < a.CriticalHours {
		return nil // there is nothing to write
	}
	store, err := evidence.Open(a.Evidence, evidence.Options{Now: func() time.Time { return now }})
	if err != nil {
		return a.done("evidence", "", false, now, err)
	}
	return errors.Join(a.snapshot(store, fleet, now), a.reports(store, now), a.suggest(store, now), store.Close())
}

// reports writes the reports that are due.
func (a *Agent) reports(store *evidence.Store, now time.Time) error {
	if now.Before(a.due) {
		return nil
	}
	samples, err := report.ReadJournal(a.State, a.since)
	if err != nil {
		return a.done("journal", "", false, now, err)
	}
	samples = slices.DeleteFunc(samples, func(s report.Sample) bool { return s.Time.After(now) }) // of a wrong clock
	if err := errors.Join(a.daily(store, samples, now), a.weekly(store, samples, now)); err != nil {
		return err
	}
	a.since, a.due = report.Week(now).Start, report.Day(now).End
	if week := report.Week(now).End.Add(-weeklyLead); now.Before(week) && week.Before(a.due) {
		a.due = week
	}
	return nil
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

// header is of what was computed from the journal, which is no file of the evidence and still grows: the counts that the
// figures follow from are in the report.
func (a *Agent) header(p report.Period, samples []report.Sample) evidence.Header {
	return evidence.Header{Source: report.SourceOf(p, samples), Git: a.Git}
}

// first is the time from which on periods are looked at.
func (a *Agent) first(samples []report.Sample) time.Time {
	if first := samples[0].Time; first.After(a.since) {
		return first
	}
	return a.since
}

// revisited is how long after its end a report that is there may be replaced by one that has seen more: see [report.Stands].
const revisited = 8 * 24 * time.Hour

// daily writes the reports of all days that are over, from that of the first sample on.
func (a *Agent) daily(store *evidence.Store, samples []report.Sample, now time.Time) error {
	var errs []error
	for p := report.Day(a.first(samples)); !p.End.After(now); p = report.Day(p.End) {
		_, document := report.DailyFiles(p)
		there, err := report.Written(a.Evidence, document)
		if there && now.Sub(p.End) > revisited {
			continue
		}
		var s report.Summary
		if err == nil {
			s = report.Summarize(p, samples)
			there, err = report.Stands(a.Evidence, document, s.Samples)
		}
		if there {
			continue
		}
		if err == nil {
			h := a.header(p, samples)
			if a.Classify != nil {
				s.Classifier, h.Inputs = a.Classify(p)
			}
			there, err = report.WriteDaily(a.Evidence, store, h, s)
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
	for p := report.Week(a.first(samples)); !p.End.Add(-weeklyLead).After(now); p = report.Week(p.End) {
		_, document := report.WeeklyFiles(p)
		if there, err := report.Written(a.Evidence, document); err == nil && there && now.Sub(p.End) > revisited {
			continue
		}
		wrote, err := report.WriteWeekly(a.Evidence, store, a.header(p, samples), p, samples)
		errs = append(errs, a.done("weekly", document, wrote, now, err))
	}
	return errors.Join(errs...)
}
