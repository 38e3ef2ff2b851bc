package canary

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/greenlight-ml/greenlight/pkg/rpc"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

// retryError means that the phase must start again, because an executor restarted or its lease lapsed.
type retryError struct{ executor, reason string }

// Error implements error.
func (e *retryError) Error() string { return fmt.Sprintf("executor %s: %s", e.executor, e.reason) }

// takenError means that somebody else has changed the rollout of an executor, or holds the record of a group.
type takenError struct{ who, rollout string }

// Error implements error.
func (e *takenError) Error() string { return e.who + ": " + e.rollout }

// taken returns the [*takenError] for the executor.
func (l *lease) taken(rollout string) error { return &takenError{"executor " + l.Addr, rollout} }

// terms are what all leases of a controller have in common.
type terms struct {
	// holder is the id of the run. mark is the prefix of every reason that this controller gives. No other controller uses it,
	// not even one of the same run.
	holder, mark string
	// length is how long a lease is valid after each renewal.
	length time.Duration
	// plan is the plan of the verdict on live quality; nil without one.
	plan *executorv1.QualityPlan
}

// leases hold the share of executors that are called directly, with one lease each.
type leases []*lease

func newLeases(executors []fleet.Executor, revisions []uint64, common terms) leases {
	var all leases
	for i, e := range executors {
		l := &lease{Executor: e, terms: common}
		if revisions != nil {
			l.revision = revisions[i]
		}
		all = append(all, l)
	}
	return all
}

// renewals implements [holder].
func (leases) renewals() int { return 3 }

// begin implements [holder].
func (all leases) begin() {
	for _, l := range all {
		l.set, l.err = false, nil
	}
}

// renew implements [holder]. It sets the share on every executor, or renews its lease.
func (all leases) renew(ctx context.Context, percent float64, what string) []error {
	_, errs := fleet.Each(all, func(l *lease) (struct{}, error) {
		if l.err = l.renew(ctx, percent, what); l.err == nil {
			l.set = true
		}
		return struct{}{}, l.err
	})
	fleet.Rethrow(errs...)
	return errs
}

// confirmed implements [holder].
func (all leases) confirmed() bool {
	return !slices.ContainsFunc(all, func(l *lease) bool { return !l.set })
}

// confirmers implements [holder].
func (leases) confirmers() string { return "" }

// unheld implements [holder].
func (all leases) unheld() []error {
	var errs []error
	for _, l := range all {
		if l.err != nil {
			errs = append(errs, l.err)
		}
	}
	return errs
}

// check implements [holder].
func (all leases) check(reports []fleet.Counters) error {
	for _, l := range all {
		for _, c := range reports {
			if c.Executor == l.Addr && l.process != "" && c.Process != l.process {
				l.process = "" // the next renewal reads the new process
				return &retryError{l.Addr, fleet.Restarted}
			}
		}
	}
	return nil
}

// count implements [holder]. Every executor must be present and must not have restarted.
func (leases) count(span *fleet.Span, all []fleet.Counters) error {
	err := span.Extend(all)
	if name := span.Absent(all); err == nil && name != "" {
		err = &absentError{name}
	}
	return err
}

// absentError means that an executor has no counts.
type absentError struct{ executor string }

// Error implements error.
func (e *absentError) Error() string {
	return fmt.Sprintf("executor %s is missing from the counts", e.executor)
}

// counted implements [holder].
func (leases) counted(*fleet.Span) *PhaseFleet { return nil }

// unsampled implements [holder].
func (leases) unsampled() float64 { return 0 }

// release implements [holder].
func (all leases) release(ctx context.Context, timeout time.Duration, why string) error {
	_, errs := fleet.Each(all, func(l *lease) (struct{}, error) {
		return struct{}{}, l.release(ctx, timeout, why)
	})
	return errors.Join(errs...)
}

// lease is the rollout of one executor, held by this controller.
type lease struct {
	fleet.Executor
	terms

	// process and revision are from the last answer. process is empty if unknown: before the first answer, and once a report has
	// shown a restart. revision is 0 if unknown.
	process  string
	revision uint64
	// set reports whether the executor has confirmed the current percentage. err is why it has not, or why the last renewal
	// failed.
	set bool
	err error
	// touched reports whether a change may have reached the executor. The lease has lapsed by until, whether or not the
	// calls succeeded.
	touched bool
	until   time.Time
}

// renew sets the percentage or renews the lease. The error is a *takenError, a *retryError, or the error of a call.
func (l *lease) renew(ctx context.Context, percent float64, what string) error {
	if l.revision == 0 {
		got, err := l.Rollout(ctx)
		if err != nil {
			return err
		}
		l.process, l.revision = got.GetInstanceId(), got.GetRollout().GetRevision()
	}
	err := l.request(ctx, percent, what)
	if !refused(err) {
		return err
	}
	// Another caller changed the rollout, the lease lapsed, or an earlier call succeeded although its answer was lost.
	got, err := l.Rollout(ctx)
	if err != nil {
		return err
	}
	if err := l.adopt(got); err != nil {
		return err
	}
	err = l.request(ctx, percent, what)
	if refused(err) {
		return l.taken("others keep changing its rollout")
	}
	return err
}

// request makes one SetRollout call.
func (l *lease) request(ctx context.Context, percent float64, what string) error {
	req := &executorv1.SetRolloutRequest{
		Percent: percent, Mode: executorv1.RolloutMode_ROLLOUT_MODE_OBSERVE_ONLY, Lease: durationpb.New(l.length),
		Holder: l.holder, Reason: l.mark + what, ExpectedRevision: l.revision, Plan: l.plan,
	}
	refusal := false
	defer func() { // also when the call panics
		if !refusal {
			// A call that failed for another reason may still take effect, now or later.
			l.touched, l.until = true, time.Now().Add(l.length)
		}
	}()
	resp, err := l.SetRollout(ctx, req)
	refusal = refused(err)
	if err != nil {
		return err
	}
	before := l.process
	l.process, l.revision = resp.GetInstanceId(), resp.GetRollout().GetRevision()
	if before != "" && before != l.process {
		return &retryError{l.Addr, fleet.Restarted}
	}
	return nil
}

// adopt takes over the rollout that caused a refusal. It returns nil if the change can be requested again, because this
// controller or the executor itself set the rollout.
func (l *lease) adopt(got *executorv1.GetRolloutResponse) error {
	r, before := got.GetRollout(), l.process
	ours, nobodys := r.GetHolder() == l.holder && strings.HasPrefix(r.GetReason(), l.mark), r.GetSetBy() == fleet.SetByExecutor && r.GetHolder() == ""
	if !ours && !nobodys {
		return l.taken(fleet.DescribeRollout(r))
	}
	l.process, l.revision = got.GetInstanceId(), r.GetRevision()
	switch {
	case before == "":
		return nil
	case before != l.process:
		return &retryError{l.Addr, fleet.Restarted}
	case nobodys:
		return &retryError{l.Addr, "its lease lapsed: " + r.GetReason()}
	}
	return nil
}

// retryPause is the time between two attempts to set 0 %.
const retryPause = 100 * time.Millisecond

// release sets 0 % and reads it back. It retries until the lease must have lapsed, and then once more. It does not change a
// rollout that somebody else has set. nil means that 0 % was read back.
func (l *lease) release(ctx context.Context, timeout time.Duration, why string) error {
	if !l.touched {
		return nil
	}
	for {
		var err error
		if broken := fleet.Guard(func() { err = l.abort(ctx, timeout, why) }); broken != nil {
			err = broken
		}
		if taken := (*takenError)(nil); err == nil || errors.As(err, &taken) || !time.Now().Before(l.until) {
			return err
		}
		time.Sleep(max(0, min(retryPause, time.Until(l.until))))
	}
}

// abort tries once to set 0 %.
func (l *lease) abort(ctx context.Context, timeout time.Duration, why string) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	got, err := l.Rollout(ctx)
	if err != nil {
		return err
	}
	if r := got.GetRollout(); r.GetHolder() != l.holder && r.GetSetBy() != fleet.SetByExecutor {
		if r.GetPercent() == 0 {
			return nil
		}
		return l.taken(fleet.DescribeRollout(r))
	}
	if err := l.AbortRollout(ctx, l.mark+why); err != nil {
		return err
	}
	if got, err = l.Rollout(ctx); err != nil {
		return err
	}
	if p := got.GetRollout().GetPercent(); p != 0 {
		return l.taken(fleet.DescribeRollout(got.GetRollout()))
	}
	return nil
}

// refused reports whether an executor refused a call because its rollout is not what the caller expected.
func refused(err error) bool {
	return slices.Contains([]string{"REVISION_CHANGED", "LEASE_HELD"}, rpc.Reason(err))
}

// holder holds the share of the executors under control: with [leases] if the executors are called directly, or with the
// record of a group.
type holder interface {
	// renewals is the number of renewals per length of a lease.
	renewals() int
	// begin starts an attempt, with nothing confirmed.
	begin()
	// renew sets the share or renews it. Each error is a [*takenError], a [*retryError], or the error of a call.
	renew(ctx context.Context, percent float64, what string) []error
	// confirmed reports whether the share has been confirmed since begin.
	confirmed() bool
	// confirmers describes which executors have confirmed the share; empty means all.
	confirmers() string
	// unheld returns why the share may no longer be in force.
	unheld() []error
	// check returns a [*retryError] if a report is from another process than the one that confirmed the share.
	check(reports []fleet.Counters) error
	// count adds the newest counts to a phase.
	count(span *fleet.Span, all []fleet.Counters) error
	// counted returns the counts of each executor that the record keeps; nil if it keeps none.
	counted(span *fleet.Span) *PhaseFleet
	// unsampled is the fraction of requests that may have no shadow in a phase of 100 %, in [0,1].
	unsampled() float64
	// release sets 0 % and reads it back, unless somebody else holds the share. The timeout is for each call.
	release(ctx context.Context, timeout time.Duration, why string) error
}
