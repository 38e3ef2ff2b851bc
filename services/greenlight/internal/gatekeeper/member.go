package gatekeeper

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/rpc"
	"github.com/greenlight-ml/greenlight/pkg/shadow/wire"
	"github.com/greenlight-ml/greenlight/pkg/text"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

// endError is why only a person may open the gate of the executor again. Kind is [Demoted] or [Taken].
type endError struct {
	kind   Kind
	reason string
}

// Error implements error.
func (e *endError) Error() string { return e.reason }

// member is the gate of one executor, held by this keeper.
type member struct {
	fleet.Executor

	plan   *Plan
	holder string
	// hold is the group of the executor; nil without one. In a group, the executor's only lease is the record's.
	hold *hold
	// barred is set while the executor has the latch that it joined the group with. lagging is since when it has not obeyed
	// the record; zero if it does. reported is when its last report came, whatever it shows: executors obey the record from
	// their admission.
	barred            bool
	lagging, reported time.Time

	// process and revision come from the last answer; revision 0 means unknown.
	process  string
	revision uint64
	// open reports whether the executor has confirmed the gate since the last lapse or restart. touched reports whether it may
	// have been set at all.
	open, touched bool
	// unreached is set while the executor does not answer. renewed is when the gate was set or renewed last.
	unreached bool
	renewed   time.Time
	// counters come from the last reading.
	counters fleet.Counters
}

const (
	// maxText bounds a text from an executor in an event, in bytes.
	maxText = 400
)

// renew sets or renews the gate, and returns what has happened to it since. The error is an [*endError], or the error of a
// failed call, which may succeed later.
func (m *member) renew(ctx context.Context, reason string) (events []Event, err error) {
	if m.hold != nil {
		return m.confirm()
	}
	resp, err := m.set(ctx, reason)
	if m.refused(err) {
		// The lease lapsed, an earlier call succeeded although its answer was lost, or another caller has changed the rollout.
		got, err := m.Rollout(ctx)
		if err != nil {
			return nil, err
		}
		if events, err = m.adopt(got); err != nil {
			return nil, err
		}
		if resp, err = m.set(ctx, reason); err != nil {
			return events, m.final(err)
		}
	} else if err != nil {
		return nil, m.final(err)
	}
	m.renewed = time.Now()
	return append(events, m.opened(resp.GetInstanceId(), resp.GetRollout().GetRevision())...), nil
}

// opened records the process that has confirmed the gate, and returns what is new.
func (m *member) opened(process string, revision uint64) (events []Event) {
	kind := Resumed
	switch before := m.process; {
	case before == "":
		kind = Opened
	case before != process:
		events = append(events, m.event(Restarted, revision, "it is another process"))
	case m.open:
		kind = ""
	}
	m.process, m.revision, m.open = process, revision, true
	if kind != "" {
		events = append(events, m.event(kind, revision, ""))
	}
	return events
}

// set makes one call. The first one takes any revision that [Inspect] has seen.
func (m *member) set(ctx context.Context, reason string) (*executorv1.SetRolloutResponse, error) {
	req := m.plan.request(m.holder, reason, wire.Plan(m.plan.Quality))
	req.ExpectedRevision = m.revision
	m.touched = true // a failed call may still take effect, now or later
	return m.SetRollout(ctx, req)
}

// refused reports whether the rollout is not what this keeper expects.
func (m *member) refused(err error) bool {
	return slices.Contains([]string{"REVISION_CHANGED", "LEASE_HELD"}, rpc.Reason(err))
}

// final returns an [*endError] for refusals that a retry cannot change, and other errors unchanged.
func (m *member) final(err error) error {
	switch reason := rpc.Reason(err); {
	case reason == "GATE_MODEL" && m.process != "": // ml-engine is restarting, or temporarily has another model, which decides nothing
		return err
	case reason == "GATE_LATCHED":
		return &endError{Demoted, oneLine(err)}
	case reason != "" && reason != "STATE_NOT_WRITTEN", errors.Is(err, fleet.ErrContradicts):
		return &endError{Taken, "the executor refuses the gate: " + oneLine(err)}
	}
	return err
}

// adopt takes over the rollout that caused a refusal, if the gate may be set again: it is as this keeper left it, or it only
// lapsed.
func (m *member) adopt(got *executorv1.GetRolloutResponse) (events []Event, err error) {
	r := got.GetRollout()
	if latches := got.GetGate().GetLatches(); len(latches) > 0 {
		return nil, demoted(latches)
	}
	switch lapsed := r.GetSetBy() == fleet.SetByExecutor && r.GetHolder() == "" && r.GetGate().GetModelDigest() == m.plan.Model.Digest; {
	case m.revision == 0, r.GetHolder() == m.holder:
	case lapsed && (r.GetRevision() == m.revision+1 || strings.Contains(r.GetReason(), m.holder)): // the gate of a call with a lost answer may have lapsed too
		events = append(events, m.event(Lapsed, r.GetRevision(), clean(r.GetReason())))
		m.open = false
	default:
		return nil, &endError{Taken, fleet.DescribeRollout(r)}
	}
	m.revision = r.GetRevision()
	return events, nil
}

// read reads the gate. The error is an [*endError] if the gate has a latch or is no longer this keeper's, or the error of the
// call.
func (m *member) read(ctx context.Context) (*Reading, error) {
	got, err := m.Rollout(ctx)
	if err != nil {
		return nil, err
	}
	reading := readingOf(m.Addr, got)
	if now, err := m.Counters(ctx); err == nil {
		recent, err := fleet.Delta(m.counters, now, fleet.Rebase)
		if p99 := recent.Latency.Quantile(0.99); err == nil && recent.Latency.Total() > 0 && p99 <= math.MaxFloat64 {
			reading.ShadowP99MS = &p99
		}
		m.counters, reading.Sources = now, now.Sources
	}
	latches := got.GetGate().GetLatches()
	if m.barred = m.barred && len(latches) > 0; len(latches) > 0 && !m.barred {
		return &reading, demoted(latches)
	}
	byItself := func(by string) bool {
		return by == fleet.SetByExecutor || m.hold != nil && by == "group:"+m.hold.Group.Group()
	}
	if r := got.GetRollout(); m.open && r.GetHolder() != m.holder && (!byItself(r.GetSetBy()) || r.GetHolder() != "") {
		return &reading, &endError{Taken, fleet.DescribeRollout(r)}
	}
	return &reading, nil
}

// who is the name of the executor or the group.
func (m *member) who() string {
	if m.Rollouts == nil {
		return m.Addr
	}
	return "executor " + m.Addr
}

func (m *member) event(kind Kind, revision uint64, reason string) Event {
	return Event{Kind: kind, Executor: m.Addr, Revision: revision, Reason: reason}
}

func demoted(latches []*executorv1.GateLatchState) error {
	all := make([]string, len(latches))
	for i, l := range latches {
		all[i] = latchOf(l).String()
	}
	return &endError{Demoted, strings.Join(all, "; ")}
}

func latchOf(l *executorv1.GateLatchState) Latch {
	latch := Latch{Name: fleet.Latch(l.GetLatch()), By: clean(l.GetSetBy()), Reason: clean(l.GetReason()), Time: l.GetSetTime().AsTime()}
	if t := l.GetLastSetTime(); t != nil {
		latch.Last = t.AsTime()
	}
	return latch
}

func clean(s string) string { return text.Clean(s, maxText) }

func oneLine(err error) string { return fleet.OneLine(fleet.Plain(err)) }

// off makes sure that no model decides at the executor, and reads that back: it aborts the rollout, which also ends the lease,
// and sets shadows to observe percent, or leaves them at 0 %. An executor with a latch has demoted itself, and stays at its
// observe percent. plan is the plan of the live quality; it may be nil.
func off(ctx context.Context, e fleet.Executor, observe float64, plan *executorv1.QualityPlan, reason string) error {
	reason = clean(reason)
	got, err := e.Rollout(ctx)
	if err != nil {
		return err
	}
	if r := got.GetRollout(); r.GetMode() != executorv1.RolloutMode_ROLLOUT_MODE_GATED && !r.GetAwaitingRenewal() && r.GetHolder() == "" &&
		r.GetPercent() == observe {
		return nil
	}
	if err := e.AbortRollout(ctx, reason); err != nil {
		return err
	}
	if got, err = e.Rollout(ctx); err != nil {
		return err
	}
	if observe > 0 {
		if _, err := e.SetRollout(ctx, &executorv1.SetRolloutRequest{
			Percent: observe, Mode: executorv1.RolloutMode_ROLLOUT_MODE_OBSERVE_ONLY, Reason: reason, Plan: plan, ExpectedRevision: got.GetRollout().GetRevision(),
		}); err != nil {
			return fmt.Errorf("no model decides, and shadows are at 0 %%: %w", err)
		}
		if got, err = e.Rollout(ctx); err != nil {
			return err
		}
	}
	if gatedPercent(got.GetRollout()) != 0 {
		return &endError{Taken, fleet.DescribeRollout(got.GetRollout())}
	}
	return nil
}
