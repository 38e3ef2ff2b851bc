package gatekeeper

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/group"
	"github.com/greenlight-ml/greenlight/pkg/shadow/wire"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

// Keeper keeps the gates of executors open while it runs.
type Keeper struct {
	run     *Run
	members []*member
	// hold is the group whose executors are the members; nil without one.
	hold *hold
	// timeout bounds every call, interval is the time between two readings of all executors.
	timeout, interval time.Duration
	observe           func(Event)
	// kept is the time of the last reading in the journal, unkept of a later one that is not in it. fault is why the run
	// cannot continue.
	kept   time.Time
	unkept Event
	fault  error
}

const (
	// renewals is the number of renewals per lease.
	renewals = 3
	// callsPerLease and maxTimeout bound a call. A member makes at most three calls per reading.
	callsPerLease = 12
	maxTimeout    = 2 * time.Second
	// maxInterval is the longest time between two readings, and thus the delay until a latch of one executor stops the others.
	// Executors write every reading to their audit log.
	maxInterval = 5 * time.Second
	// keepEvery is the time between two readings in the journal for every keepReadings executors: 256 MiB are 40 days.
	keepEvery    = time.Minute
	keepReadings = 16
	// setReason is the reason of the calls that set and renew a gate, endReason begins the reason of those that end it.
	setReason = "greenlight gate start"
	endReason = setReason + " ends: "
	// retryPause is the time between two attempts to stop the gate.
	retryPause = 100 * time.Millisecond
)

// NewKeeper returns a keeper of the run. It calls no executor. observe, which may be nil, gets every event.
func NewKeeper(r *Run, in *Inspection, observe func(Event)) *Keeper {
	lease := time.Duration(r.Record.Plan.Lease)
	k := &Keeper{run: r, hold: in.hold, timeout: min(maxTimeout, lease/callsPerLease), interval: min(maxInterval, lease/renewals/2), observe: observe}
	if k.hold != nil { // a reading notifies nobody
		k.interval = min(k.interval, group.ReportPeriod)
	}
	for i, e := range in.executors {
		k.add(e, in.answers[i])
	}
	return k
}

// Run keeps the gates open until ctx ends, or until an executor is demoted or taken over. Then it stops the gate everywhere,
// which takes at most a lease. The record of the run has the result. Run returns errors of the journal only.
func (k *Keeper) Run(ctx context.Context) error {
	var decision Decision
	var reason string
	if err := fleet.Guard(func() { decision, reason = k.keep(ctx) }); err != nil {
		decision, reason = Ended, "the keeper failed: "+err.Error()
	}
	if k.fault != nil {
		decision, reason = Ended, k.fault.Error()
	}
	k.emit(Event{Kind: Stopping, Reason: reason})
	k.stop(context.WithoutCancel(ctx), reason)
	k.emit(Event{Kind: Finished, Decision: decision, Reason: reason})
	return k.fault
}

// keep is the main loop. It returns the reason for its end.
func (k *Keeper) keep(ctx context.Context) (Decision, string) {
	started := Event{Kind: Started, Folder: k.run.Record.Folder}
	if k.hold != nil {
		started.Group = k.hold.Group.Group()
	}
	k.emit(started)
	k.read(ctx, true) // the counters at the start
	tick := time.NewTicker(k.interval)
	defer tick.Stop()
	for {
		for _, step := range []func(context.Context) string{k.publish, k.renew, func(ctx context.Context) string { return k.read(ctx, false) }} {
			if ended := step(ctx); ended != "" {
				return Ended, ended
			}
		}
		if k.fault != nil {
			return Ended, k.fault.Error()
		}
		select {
		case <-ctx.Done():
			return Stopped, "it was asked to stop"
		case <-tick.C:
		}
	}
}

// renew renews the due leases in parallel. It returns why the gate must be stopped; empty if it need not be.
func (k *Keeper) renew(ctx context.Context) (ended string) {
	type answer struct {
		events []Event
		err    error
	}
	answers, _ := fleet.Each(k.members, func(m *member) (answer, error) {
		if m.hold == nil && m.open && !m.unreached && time.Since(m.renewed) < time.Duration(m.plan.Lease)/renewals {
			return answer{}, nil
		}
		ctx, cancel := context.WithTimeout(ctx, 3*k.timeout)
		defer cancel()
		events, err := m.renew(ctx, setReason)
		return answer{events, err}, nil
	})
	for i, a := range answers {
		for _, e := range a.events {
			k.emit(e)
		}
		if end := k.met(ctx, k.members[i], a.err); end != "" && ended == "" {
			ended = end
		}
	}
	return ended
}

// read reads all executors in parallel, and keeps their counters: always, or once a minute. It returns why the gate must be
// stopped; empty if it need not be.
func (k *Keeper) read(ctx context.Context, always bool) (ended string) {
	counted, errs := k.readings(ctx)
	for i, err := range errs {
		if err == nil {
			continue
		}
		if end := k.met(ctx, k.members[i], err); end != "" && ended == "" {
			ended = end
		}
	}
	k.count(counted, always || ended != "")
	return ended
}

// readings reads all executors in parallel.
func (k *Keeper) readings(ctx context.Context) (Event, []error) {
	readings, errs := fleet.Each(k.members, func(m *member) (*Reading, error) {
		if m.unreached && m.hold == nil { // renew tries it
			return nil, nil //nolint:nilnil // there is no reading
		}
		ctx, cancel := context.WithTimeout(ctx, k.timeout)
		defer cancel()
		return m.read(ctx)
	})
	counted := Event{Kind: Counted}
	for _, r := range readings {
		if r != nil {
			counted.Readings = append(counted.Readings, *r)
		}
	}
	return counted, errs
}

// met records the result of a call to a member: success, an executor that does not answer, or the end of the run, which it
// returns.
func (k *Keeper) met(ctx context.Context, m *member, err error) (ended string) {
	end := (*endError)(nil)
	switch {
	case errors.As(err, &end):
		k.emit(m.event(end.kind, m.revision, end.reason))
		return m.who() + ": " + end.reason
	case err == nil && m.unreached && m.open:
		m.unreached = false
		k.emit(m.event(Renewed, m.revision, ""))
	case err != nil && ctx.Err() == nil && !m.unreached:
		m.unreached = true
		k.emit(m.event(NotRenewed, m.revision, oneLine(err)))
	}
	return ""
}

// stop stops the gate everywhere, and reads that back. It retries until every lease must have lapsed, and reads the counters a
// last time.
func (k *Keeper) stop(ctx context.Context, why string) {
	if k.hold != nil {
		k.release(ctx, why)
	} else {
		k.stopEach(ctx, why)
	}
	counted, _ := k.readings(ctx) // executors that do not answer now were not read back
	k.count(counted, true)
}

// stopEach stops the gate of every executor, and reads that back.
func (k *Keeper) stopEach(ctx context.Context, why string) {
	until := time.Now().Add(time.Duration(k.run.Record.Plan.Lease))
	quality := wire.Plan(k.run.Record.Plan.Quality)
	_, errs := fleet.Each(k.members, func(m *member) (_ struct{}, err error) {
		for m.touched {
			err = k.off(ctx, m, quality, why)
			if end := (*endError)(nil); err == nil || errors.As(err, &end) || !time.Now().Add(retryPause).Before(until) {
				break
			}
			time.Sleep(retryPause)
		}
		m.unreached, m.open = err != nil, false
		return struct{}{}, err
	})
	for i, m := range k.members {
		if errs[i] != nil {
			k.emit(m.event(NotOff, m.revision, oneLine(errs[i])))
		} else {
			k.emit(m.event(Off, m.revision, ""))
		}
	}
}

// off tries once to stop one member. A rollout changed by somebody else or by a latch is left alone if no model decides.
func (k *Keeper) off(ctx context.Context, m *member, quality *executorv1.QualityPlan, why string) error {
	ctx, cancel := context.WithTimeout(ctx, 3*k.timeout)
	defer cancel()
	got, err := m.Rollout(ctx)
	if err != nil {
		return err
	}
	if r := got.GetRollout(); len(got.GetGate().GetLatches()) > 0 && gatedPercent(r) == 0 || r.GetHolder() != m.holder && r.GetSetBy() != fleet.SetByExecutor {
		return nil
	}
	return off(ctx, m.Executor, m.plan.ObservePercent, quality, endReason+clean(why))
}

// count records a reading.
func (k *Keeper) count(e Event, always bool) {
	if len(e.Readings) == 0 {
		return
	}
	e.Time = time.Now().UTC()
	if always || time.Since(k.kept) >= keepEvery*time.Duration(1+len(e.Readings)/keepReadings) {
		k.kept, k.unkept = time.Now(), Event{}
		k.write(e)
	} else {
		k.unkept = e
	}
	k.show(e)
}

// emit writes an event and shows it. It first writes the pending reading, and lets the next one be written: a process may have
// ended or begun.
func (k *Keeper) emit(e Event) {
	e.Time = time.Now().UTC()
	if len(k.unkept.Readings) > 0 {
		k.write(k.unkept)
	}
	k.kept, k.unkept = time.Time{}, Event{}
	k.write(e)
	k.show(e)
}

// write adds an event to the journal and to the record.
func (k *Keeper) write(e Event) {
	if err := k.run.add(e); err != nil && k.fault == nil {
		k.fault = fmt.Errorf("journal: %w", err)
	}
	k.run.Record.apply(e)
}

func (k *Keeper) show(e Event) {
	if k.observe != nil {
		k.observe(e)
	}
}
