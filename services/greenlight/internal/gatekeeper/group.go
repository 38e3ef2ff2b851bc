package gatekeeper

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/group"
	"github.com/greenlight-ml/greenlight/pkg/shadow/wire"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	fleetv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/fleet/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleetgroup"
)

// hold is the gate of a group: one record for all its executors, which come and go.
type hold struct {
	*fleetgroup.Group

	publisher *fleetgroup.Publisher
	// record represents the record among the members, with its own renewals. Its lease has lapsed by until.
	record *member
	until  time.Time
	// joined holds the executors that are members.
	joined map[string]bool
}

// maxProcesses bounds the processes of a run, because all are in its evidence: reports are not signed, so a server can invent
// more.
const maxProcesses = 20_000

// grace is how long an executor may take to obey the record: long enough to be admitted and to report once more.
const grace = 3 * group.ReportPeriod

// claim makes this process the controller of the group.
func (in *Inspection) claim(ctx context.Context, t Target, lease time.Duration) error {
	g := t.Group
	if err := unkilled(ctx, g); err != nil {
		return err
	}
	p, err := g.Publish(ctx, fleetgroup.Claim{Lease: lease, Waiting: t.Waiting})
	switch {
	case errors.As(err, new(*fleetgroup.TakenError)):
		return fmt.Errorf("%w: %w", errHeld, err)
	case err != nil:
		return err
	}
	if err := unkilled(ctx, g); err != nil { // it may have waited for a lease
		p.Close()
		return err
	}
	in.hold = &hold{
		Group: g, publisher: p, record: &member{Executor: fleet.Executor{Addr: "group " + g.Group()}, open: true}, joined: map[string]bool{},
	}
	return nil
}

// unkilled returns an error if the group stores a kill.
func unkilled(ctx context.Context, g *fleetgroup.Group) error {
	kill, err := g.StoredKill(ctx)
	if err == nil && kill != nil {
		err = fmt.Errorf("%w: group %s stores a kill, which kills every executor that joins: by %s: %s", errLatched, g.Group(), clean(kill.GetIssuer()), clean(kill.GetReason()))
	}
	return err
}

// add makes an executor a member. If it joins with a latch, its gate is not opened, and the run continues.
func (k *Keeper) add(e fleet.Executor, now *executorv1.GetRolloutResponse) {
	r := k.run.Record
	m := &member{Executor: e, plan: &r.Plan, holder: r.ID, hold: k.hold, revision: now.GetRollout().GetRevision(), barred: len(now.GetGate().GetLatches()) > 0}
	if k.members = append(k.members, m); k.hold != nil {
		k.hold.joined[e.Addr], m.reported = true, time.Now()
	}
}

// publish adds the executors that have joined the group, and publishes or renews the record. Without a group it does nothing.
// It returns why the gate must be stopped; empty if it need not be.
func (k *Keeper) publish(ctx context.Context) (ended string) {
	h := k.hold
	if h == nil {
		return ""
	}
	for _, e := range h.Executors() {
		if m, ok := h.Member(e.Addr, time.Now()); ok && m.Err == nil && !h.joined[e.Addr] {
			k.add(e, m.Report.GetRollout())
		}
	}
	k.members = slices.DeleteFunc(k.members, func(m *member) bool {
		forget := m.process == "" && m.gone()
		if forget {
			delete(h.joined, m.Addr)
		}
		return forget
	})
	if n := len(k.run.Record.Processes); n > maxProcesses {
		return k.met(ctx, h.record, &endError{Taken, fmt.Sprintf("%d processes have reported: want at most %d in a run", n, maxProcesses)})
	}
	lease := time.Duration(k.run.Record.Plan.Lease)
	if !h.record.unreached && time.Since(h.record.renewed) < lease/group.PollsPerLease-k.interval/2 {
		ctx, cancel := context.WithTimeout(ctx, k.timeout)
		defer cancel()
		if taken := (*fleetgroup.TakenError)(nil); errors.As(h.publisher.Stopped(ctx), &taken) {
			return k.met(ctx, h.record, &endError{Taken, clean(taken.Reason)})
		}
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, 3*k.timeout)
	defer cancel()
	h.until = time.Now().Add(lease) // a call that fails may succeed later
	var err error
	if h.publisher.Last() == nil {
		r := &k.run.Record.Plan
		q := r.request(k.run.Record.ID, setReason, wire.Plan(r.Quality))
		err = h.publisher.Change(ctx, &fleetv1.Record{
			Mode: q.GetMode(), Percent: q.GetPercent(), Lease: q.GetLease(), Plan: q.GetPlan(), Gate: q.GetGate(), ModelDigest: r.Model.Digest,
			Holder: q.GetHolder(), Reason: q.GetReason(),
		}, func(uint64) {})
	} else {
		err = h.publisher.Renew(ctx)
	}
	if taken := (*fleetgroup.TakenError)(nil); errors.As(err, &taken) {
		err = &endError{Taken, clean(taken.Reason)}
	}
	if err == nil {
		h.record.renewed = time.Now()
	}
	return k.met(ctx, h.record, err)
}

// confirm returns what the newest report of an executor says about its gate. The error explains why the gate is not open.
func (m *member) confirm() ([]Event, error) {
	now := time.Now()
	r, ok := m.hold.Member(m.Addr, now)
	if ok {
		m.reported = r.At
	}
	if why := m.shut(r, ok); why != nil {
		if m.lagging.IsZero() {
			m.lagging = now
		}
		if ok && !m.unreached && now.Sub(m.lagging) < grace {
			why = nil
		}
		return nil, why
	}
	m.lagging = time.Time{}
	return m.opened(r.Report.GetRollout().GetInstanceId(), r.Report.GetRollout().GetRollout().GetRevision()), nil
}

// shut returns why the gate of the executor is not open; nil if its report shows it open under the record of this run.
func (m *member) shut(of fleetgroup.Member, present bool) error {
	r, g := of.Report.GetRollout().GetRollout(), of.Report.GetRollout().GetGate()
	switch {
	case !present:
		return errors.New("it no longer reports")
	case of.Err != nil:
		return of.Err
	case g.GetOpen() && r.GetHolder() == m.holder && gatedPercent(r) == m.plan.Percent:
		return nil
	case of.Trouble() != "":
		return errors.New(of.Trouble())
	}
	return errors.New(fleet.DescribeRollout(r))
}

// end returns what the newest report says about a run that began to end at began; nothing for an executor that is gone.
func (m *member) end(of fleetgroup.Member, present bool, began time.Time) (Kind, string) {
	switch {
	case present && !of.At.After(began):
		return NotOff, "no report confirms it"
	case present && (of.Err != nil || !fleetgroup.AtZero(of.Report)):
		return NotOff, clean(cmp.Or(of.Trouble(), fleet.DescribeRollout(of.Report.GetRollout().GetRollout())))
	case present:
		return Off, ""
	case !m.gone():
		return NotOff, "it does not report"
	}
	return "", ""
}

// gone reports whether an executor of a group has been silent for longer than a lease and an admission may take.
func (m *member) gone() bool {
	return time.Since(m.reported) >= time.Duration(m.plan.Lease)+2*group.Presence
}

// release ends the record of the group, and reads that back from all present executors. Executors that are gone are not asked.
func (k *Keeper) release(ctx context.Context, why string) {
	h, start := k.hold, time.Now()
	missing, err := h.publisher.Release(ctx, fleetgroup.Release{Holder: k.run.Record.ID, Reason: endReason + clean(why), Timeout: k.timeout, Until: h.until})
	for _, m := range k.members {
		missing = slices.DeleteFunc(missing, func(id string) bool { return id == m.Addr })
		of, present := h.Member(m.Addr, time.Now())
		if kind, reason := m.end(of, present, start); kind != "" {
			k.emit(m.event(kind, m.revision, reason))
		}
	}
	for _, id := range missing { // not yet a member
		k.emit(Event{Kind: NotOff, Executor: id, Reason: "no report confirms it"})
	}
	if err != nil && !errors.As(err, new(*fleetgroup.TakenError)) {
		k.emit(h.record.event(NotOff, 0, "the record of 0 % was not published: "+oneLine(err)))
	}
}
