// Package agent samples the services every hour and writes the evidence that is due: the drift, a report for every day, a
// summary for every week, and a suggestion to retrain if drift persists.
package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/serve"
	"github.com/greenlight-ml/greenlight/pkg/twosample"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/driftfleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/report"
)

// Options configure an agent.
type Options struct {
	// State is the folder of the journal, Evidence the evidence folder. The agent must be the only one to use State.
	State, Evidence string
	// Source is where the requests come from. Git is the revision of the program that writes the evidence.
	Source evidence.Source
	Git    string
	// Seal protects the evidence.
	Seal evidence.Seal
	// CriticalHours is the number of consecutive hours with a critical PSI before retraining is suggested, >= 1.
	CriticalHours int
	// Read samples the services. The sample lists what could not be read. The report is nil if the drift could not be read.
	Read func(ctx context.Context, now time.Time) (report.Sample, *driftfleet.Report)
	// Raise raises alarms at the executors: see [Services.Raise].
	Raise func(context.Context, []Alarm) []Raised
	// Classify runs a classifier on the week that ends with the day, and returns the files that it read. It may be nil.
	Classify func(report.Period) (*twosample.Result, []evidence.Input)

	Metrics *Metrics
	Logger  *slog.Logger
}

// Agent does its work in ticks. It is not safe for concurrent use.
type Agent struct {
	Options

	journal *report.Journal
	episode episode
	// live is the newest verdict on live quality; nil without one.
	live *report.Quality
	// drifted is the alarm for the newest index if it is critical; nil otherwise.
	drifted *Alarm
	// since is the start of the oldest period that may still be due. Older parts of the journal are not read. due is the time of
	// the next report. Both are zero until a tick has written everything that was due.
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
	if err := report.Scan(o.State, func(s report.Sample) {
		a.episode.add(s)
		if s.Quality != nil {
			a.live = s.Quality
		}
	}); err != nil {
		return nil, errors.Join(err, journal.Close())
	}
	return a, nil
}

// Close closes the journal.
func (a *Agent) Close() error { return a.journal.Close() }

// Tick takes a sample as of now and writes all evidence that is due, including what earlier ticks failed to write. A
// failure is counted and does not stop the rest. The next tick retries.
func (a *Agent) Tick(ctx context.Context, now time.Time) (err error) {
	now = now.UTC()
	sample, fleet := a.Read(ctx, now)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	sample.Source = a.Source
	a.watch(&sample)
	a.watchDrift(&sample, fleet)
	alarmed := a.raise(ctx, &sample)
	defer func() { err = errors.Join(alarmed, err) }()
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
	if a.due.Sub(now) > 24*time.Hour { // the clock was ahead when due was computed
		a.since, a.due = time.Time{}, time.Time{}
		a.Logger.Warn("the clock went back: premature reports will be replaced once their day is over", "now", now)
	}
	if now.Before(a.due) && fleet == nil && a.episode.Hours < a.CriticalHours {
		return nil // nothing to write
	}
	store, err := evidence.Open(a.Evidence, evidence.Options{Now: func() time.Time { return now }, Seal: a.Seal})
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
	samples = slices.DeleteFunc(samples, func(s report.Sample) bool { return s.Time.After(now) }) // the clock was wrong
	if err := errors.Join(a.daily(store, samples, now), a.weekly(store, samples, now)); err != nil {
		return err
	}
	a.since, a.due = report.Week(now).Start, report.Day(now).End
	if week := report.Week(now).End.Add(-weeklyLead); now.Before(week) && week.Before(a.due) {
		a.due = week
	}
	return nil
}

// done counts and logs the result of a write.
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
	model := fleet.Model
	_, err := fleet.Write(store, evidence.Header{Schema: driftfleet.Schema, Source: a.Source, Model: &model, Git: a.Git})
	return a.done("psi_snapshot", driftfleet.File, true, now, err)
}

// header returns the evidence header of a report that is computed from the journal. The journal is not listed as an input: it
// is not in the evidence folder and still grows. The report itself contains the counts.
func (a *Agent) header(p report.Period, samples []report.Sample) evidence.Header {
	return evidence.Header{Source: report.SourceOf(p, samples), Git: a.Git}
}

// first returns the time of the first period to write.
func (a *Agent) first(samples []report.Sample) time.Time {
	if first := samples[0].Time; first.After(a.since) {
		return first
	}
	return a.since
}

// replaceable is how long after its period has ended a report may be replaced by one with more samples: see [report.Stands].
const replaceable = 8 * 24 * time.Hour

// daily writes the reports of all completed days since the first sample.
func (a *Agent) daily(store *evidence.Store, samples []report.Sample, now time.Time) error {
	var errs []error
	for p := report.Day(a.first(samples)); !p.End.After(now); p = report.Day(p.End) {
		_, document := report.DailyFiles(p)
		exists, err := report.Written(a.Evidence, document)
		if exists && now.Sub(p.End) > replaceable {
			continue
		}
		var s report.Summary
		if err == nil {
			s = report.Summarize(p, samples)
			exists, err = report.Stands(a.Evidence, document, s.Samples)
		}
		if exists {
			continue
		}
		wrote := false
		if err == nil {
			h := a.header(p, samples)
			if a.Classify != nil {
				s.Classifier, h.Inputs = a.Classify(p)
			}
			wrote, err = report.WriteDaily(a.Evidence, store, h, s)
		}
		if wrote && s.Decisions != nil {
			a.Logger.Info("who decided", "day", p.Name, "decisions", s.Decisions.String())
		}
		if wrote {
			a.Logger.Info("live quality", "day", p.Name, "verdict", s.Quality.Line())
		}
		errs = append(errs, a.done("daily", document, wrote, now, err))
	}
	return errors.Join(errs...)
}

// weeklyLead is how long before its end a week is summarized: Sunday 23:59.
const weeklyLead = time.Minute

// weekly writes the summaries of all weeks whose last minute has begun.
func (a *Agent) weekly(store *evidence.Store, samples []report.Sample, now time.Time) error {
	var errs []error
	for p := report.Week(a.first(samples)); !p.End.Add(-weeklyLead).After(now); p = report.Week(p.End) {
		_, document := report.WeeklyFiles(p)
		if exists, err := report.Written(a.Evidence, document); err == nil && exists && now.Sub(p.End) > replaceable {
			continue
		}
		wrote, err := report.WriteWeekly(a.Evidence, store, a.header(p, samples), p, samples)
		errs = append(errs, a.done("weekly", document, wrote, now, err))
	}
	return errors.Join(errs...)
}

// stopGrace is how long the agent may take to stop.
const stopGrace = 12 * time.Second

// Serve runs the agent and serves the pages at the HTTP address addr until ctx ends. It writes the bound address to the file
// addresses, unless that is empty.
func (a *Agent) Serve(ctx context.Context, pages http.Handler, addr, addresses string) error {
	w := serve.Web{Name: "metrics", Addr: addr, Flag: "--metrics-listen", Addresses: addresses, Handler: pages, Grace: stopGrace, Logger: a.Logger}
	agentCtx, stop := context.WithCancel(ctx)
	defer stop()
	return w.Run(ctx, func(stack *serve.Stack, at net.Addr) {
		stack.OnStop("agent", func(context.Context) error { stop(); return nil })
		stack.Serve("agent", func() error { return a.Run(agentCtx, clockwork.NewRealClock()) })
		a.Logger.Info("listening", "metrics", at.String())
	})
}
