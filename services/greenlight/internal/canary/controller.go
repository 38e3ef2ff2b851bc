package canary

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/outcome"
	"github.com/greenlight-ml/greenlight/pkg/shadow/wire"
	"github.com/greenlight-ml/greenlight/pkg/text"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/quality"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
)

// Options configure a controller.
type Options struct {
	// Record is the run so far: a new one, or one whose controller died. Its ID is the holder of the leases. Required.
	Record *Record
	// Controller distinguishes this controller from others of the same run. Required.
	Controller string
	// Source is where the requests come from.
	Source evidence.Source
	// Executors are the executors under control, at least one.
	Executors []fleet.Executor
	// Revisions, which may be nil, are the rollout revisions that the run starts from, in the order of Executors. Any change
	// since then was made by somebody else.
	Revisions []uint64
	// Fleet is the group whose executors are under control, instead of Executors; nil if there is no group.
	Fleet *FleetOptions
	// Metrics is the source of the counts; nil asks the executors.
	Metrics Source
	// Model is the model under trial, Baseline makes the decisions. The run is aborted if either changes.
	Model, Baseline evidence.Model
	// ActiveModels, which may be nil, returns the models that the ml-engines serve now.
	ActiveModels func(context.Context) ([]evidence.Model, error)
	// PSI, which may be nil, returns the overall index of the last 7 days.
	PSI func(context.Context) (float64, error)
	// QualityPlan is sent with every rollout; nil if there is no plan. Quality, which may be nil, returns the verdict on live
	// quality under the plan. FAIL aborts the run.
	QualityPlan *outcome.Plan
	Quality     func(context.Context) *quality.Summary
	// Interval is the time between two polls. Required.
	Interval time.Duration
	// Journal, which may be nil, stores every event before it is observed. A failure ends the run.
	Journal func(Event) error
	// Observe, which may be nil, receives every event. The loop that renews the leases calls it: if Observe hangs, they lapse.
	Observe func(Event)
}

// Controller runs a canary, phase by phase.
type Controller struct {
	opts    Options
	policy  gate.Policy
	record  *Record
	reports Source
	hold    holder
	// timeout bounds every call.
	timeout time.Duration
	// fault is why the run cannot continue.
	fault error
	// ending reports whether 0 % is being set. Nothing may interrupt that.
	ending bool
}

const (
	// callsPerLease and maxTimeout bound a call. A renewal, a poll of the executors and the next renewal take at most
	// 1/3 + 3/6 of a lease. Calls that hang therefore do not make a lease lapse.
	callsPerLease = 6
	maxTimeout    = 2 * time.Second
	// settle is the time from the confirmation of a share to the first counts. A shadow takes at most 60 ms, so all shadows of
	// the previous share have ended by then.
	settle = 250 * time.Millisecond
	// keptPolls bounds the polls of a phase in the journal.
	keptPolls = maxSamples
)

// NewController returns a controller. It calls no executor.
func NewController(opts Options) *Controller {
	c := &Controller{opts: opts, policy: opts.Record.Policy, record: opts.Record}
	length := time.Duration(c.policy.Lease)
	c.timeout = min(maxTimeout, length/callsPerLease)
	var plan outcome.Plan
	if opts.QualityPlan != nil {
		plan = *opts.QualityPlan
	}
	common := terms{plan: wire.Plan(plan), holder: c.record.ID, mark: fmt.Sprintf("canary, controller %s: ", opts.Controller), length: length}
	if opts.Fleet != nil {
		f := newFleetHold(*opts.Fleet, common, func(revision uint64) { c.emit(Event{Kind: Issued, Revision: revision}) })
		c.hold, c.reports = f, f
	} else {
		c.hold, c.reports = newLeases(opts.Executors, opts.Revisions, common), Reports(opts.Executors)
	}
	return c
}

// Run runs the phases that have not passed yet, and then always sets 0 %, even if ctx has ended and however long it takes. The
// record holds the result. The error is from the journal.
func (c *Controller) Run(ctx context.Context) (*Record, error) {
	var decision Decision
	var reason string
	if err := fleet.Guard(func() { decision, reason = c.phases(ctx) }); err != nil {
		decision, reason = Aborted, "the controller failed: "+err.Error()
	}
	if c.fault != nil && decision != Aborted {
		decision, reason = Aborted, c.fault.Error()
	}
	c.end(context.WithoutCancel(ctx), decision, reason)
	return c.record, c.fault
}

func (c *Controller) phases(ctx context.Context) (Decision, string) {
	switch {
	case c.record.StartTime.IsZero():
		c.emit(Event{Kind: Started})
	case c.record.Decision == Interrupted:
		c.emit(Event{Kind: Resumed, Reason: c.record.Reason})
	default:
		c.emit(Event{Kind: Resumed, Reason: "it was killed, or its machine went down"})
	}
	for i := c.record.next(); i < len(c.policy.Phases); i++ {
		if decision, reason := c.phase(ctx, i); decision != Passed {
			return decision, reason
		}
	}
	return Passed, ""
}

// phase runs a phase, and retries it if an executor restarts.
func (c *Controller) phase(ctx context.Context, index int) (Decision, string) {
	var giveUp time.Time
	for first := time.Now(); ; {
		b := &attempt{Controller: c, index: index, percent: c.policy.Phases[index], first: first, giveUp: giveUp}
		c.emit(b.event(PhaseBegun))
		last := b.run(ctx)
		b.keepLast()
		ended := b.event(PhaseEnded)
		ended.Decision, ended.Reason = last.decision, last.reason
		if !b.counting.IsZero() {
			ended.Fleet = c.hold.counted(&b.counted)
		}
		if ended.Decision == Passed || ended.Decision == Stopped {
			var end *ending
			if ended.PSI, ended.PSIReason, end = b.psi(ctx); end != nil {
				last = *end
				ended.Decision, ended.Reason = last.decision, last.reason
			}
		}
		c.emit(ended)
		if !last.retry {
			return last.decision, last.reason
		}
		giveUp = b.giveUp
		switch now := time.Now(); {
		case !giveUp.IsZero() && now.Add(time.Duration(c.policy.PhaseDuration)).After(giveUp), now.After(b.limit()):
			return Stopped, "no time is left to retry the phase: " + last.reason
		case !traffic.Pause(ctx, min(c.opts.Interval, c.timeout)): // limits the rate of retries if an executor keeps restarting
			return Interrupted, stopRequested
		}
	}
}

// end sets 0 % and closes the record.
func (c *Controller) end(ctx context.Context, decision Decision, reason string) {
	why := strings.ToLower(string(decision))
	if reason != "" {
		why += ": " + reason
	}
	c.ending = true
	if p := c.record.running(); p != nil { // left by a panic
		c.emit(Event{Kind: PhaseEnded, Phase: p.Index, Percent: p.Percent, Decision: decision, Reason: reason})
	}
	c.emit(Event{Kind: RollingBack, Decision: decision, Reason: reason})
	start := time.Now()
	err := c.hold.release(ctx, c.timeout, shorten(why))
	rolled := Event{Kind: RolledBack, TookMS: float64(time.Since(start)) / float64(time.Millisecond)}
	if err != nil {
		rolled.Kind, rolled.Reason = NotRolledBack, fleet.OneLine(err)
	}
	c.emit(rolled)
	c.emit(Event{Kind: Finished, Decision: decision, Reason: reason})
	c.record.judge(c.opts.Source)
}

// emit journals an event, adds it to the record and passes it to the observer. A panic in Journal counts as an error of the
// journal. An observer that panics is not called again, and emit passes the panic on unless the run is ending.
func (c *Controller) emit(e Event) {
	e.Time = time.Now().UTC()
	keep := e.Kind != Polled || e.Poll.Keep
	if keep && c.opts.Journal != nil {
		var err error
		if broken := fleet.Guard(func() { err = c.opts.Journal(e) }); broken != nil {
			err = broken
		}
		if err != nil && c.fault == nil {
			c.fault = fmt.Errorf("journal: %w", err)
		}
	}
	c.record.apply(e)
	if c.opts.Observe == nil {
		return
	}
	if err := fleet.Guard(func() { c.opts.Observe(e) }); err != nil {
		c.opts.Observe = nil
		if !c.ending {
			panic(err) //nolint:forbidigo // passes on a panic, which ends the run
		}
	}
}

// stopRequested is why a run is interrupted.
const stopRequested = "the controller was asked to stop"

// maxReason bounds a reason that is sent to an executor, in bytes.
const maxReason = 400

func shorten(s string) string { return text.Cut(s, maxReason) }
