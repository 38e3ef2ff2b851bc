package canary

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/greenlight-ml/greenlight/pkg/text"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

// anewError is an executor with which the phase must begin anew.
type anewError struct{ executor, why string }

// Error implements error.
func (e *anewError) Error() string { return fmt.Sprintf("executor %s: %s", e.executor, e.why) }

// takenError is an executor whose rollout somebody else has changed.
type takenError struct{ executor, who string }

// Error implements error.
func (e *takenError) Error() string { return fmt.Sprintf("executor %s: %s", e.executor, e.who) }

// holding is who sets shares, and for how long each is good.
type holding struct {
	// run is the holder of the leases. mark begins every reason that this controller gives, and no other controller's, not
	// even of the same run.
	run, mark string
	lease     time.Duration
}

// share is what one executor was told, and what is known of it.
type share struct {
	Executor
	holding

	// process and revision are those of its last answer; process is empty when it is not known, before the first and after
	// a restart that somebody else has noticed.
	process  string
	revision uint64
	// set says that it has confirmed the percentage that is wanted now; err why not, or why the last renewal failed.
	set bool
	err error
	// touched says that a change may have reached it. Whatever became of the calls, its lease has lapsed by until.
	touched bool
	until   time.Time
}

// hold sets the percentage, or renews it. The error is a *takenError, an *anewError, or that of an executor that was not
// reached.
func (s *share) hold(ctx context.Context, percent float64, what string) error {
	if s.revision == 0 {
		got, err := s.rollout(ctx)
		if err != nil {
			return err
		}
		s.process, s.revision = got.GetInstanceId(), got.GetRollout().GetRevision()
	}
	err := s.try(ctx, percent, what)
	if !refused(err) {
		return err
	}
	// Somebody has changed the rollout, or its lease lapsed, or an earlier call took effect although its answer was lost.
	got, err := s.rollout(ctx)
	if err != nil {
		return err
	}
	if err := s.explain(got); err != nil {
		return err
	}
	err = s.try(ctx, percent, what)
	if refused(err) {
		return &takenError{s.Addr, "its rollout is changed by others all the time"}
	}
	return err
}

// try makes one call.
func (s *share) try(ctx context.Context, percent float64, what string) error {
	req := &executorv1.SetRolloutRequest{
		Percent: percent, Mode: executorv1.RolloutMode_ROLLOUT_MODE_OBSERVE_ONLY, Lease: durationpb.New(s.lease),
		Holder: s.run, Reason: s.mark + what, ExpectedRevision: s.revision,
	}
	refusal := false
	defer func() { // also when the call panics
		if !refusal {
			// A call that failed otherwise may have taken effect all the same, or may yet.
			s.touched, s.until = true, time.Now().Add(s.lease)
		}
	}()
	resp, err := s.Rollouts.SetRollout(ctx, req)
	refusal = refused(err)
	if err != nil {
		return &callError{s.Addr, err}
	}
	if err := fleet.CheckSet(req, resp); err != nil {
		return contradicts("executor "+s.Addr+", SetRollout", err)
	}
	before := s.process
	s.process, s.revision = resp.GetInstanceId(), resp.GetRollout().GetRevision()
	if before != "" && before != s.process {
		return &anewError{s.Addr, restarted}
	}
	return nil
}

// explain says why a change was refused. nil is that it can be tried again: the rollout is as this controller or a process
// that it knows has ended left it.
func (s *share) explain(got *executorv1.GetRolloutResponse) error {
	r, before := got.GetRollout(), s.process
	ours, nobodys := r.GetHolder() == s.run && strings.HasPrefix(r.GetReason(), s.mark), r.GetSetBy() == setByExecutor && r.GetHolder() == ""
	if !ours && !nobodys {
		return &takenError{s.Addr, described(r)}
	}
	s.process, s.revision = got.GetInstanceId(), r.GetRevision()
	switch {
	case before == "":
		return nil
	case before != s.process:
		return &anewError{s.Addr, restarted}
	case nobodys:
		return &anewError{s.Addr, "its lease lapsed: " + r.GetReason()}
	}
	return nil
}

// restarted is why most phases begin anew.
const restarted = "it restarted"

// setByExecutor is who has set a rollout that nobody did: at the start, and after a lapse.
const setByExecutor = "executor"

// described says who has set a rollout, and to what.
func described(r *executorv1.Rollout) string {
	clean := func(s string) string { return text.Clean(s, maxReason) }
	who := clean(r.GetSetBy())
	if from := r.GetSetFrom(); from != "" {
		who += " at " + clean(from)
	}
	line := fmt.Sprintf("its rollout was set to %g %% by %s", r.GetPercent(), who)
	if h := r.GetHolder(); h != "" {
		line += ", held by " + clean(h)
		if r.GetAwaitingRenewal() {
			line += ", which has not renewed it since a restart"
		}
	}
	if t := r.GetSetTime(); t != nil {
		line += ", at " + t.AsTime().Format(time.TimeOnly) + " UTC"
	}
	return fmt.Sprintf("%s: %q", line, clean(r.GetReason()))
}

// rollout asks for the rollout in force.
func (e Executor) rollout(ctx context.Context) (*executorv1.GetRolloutResponse, error) {
	got, err := e.Rollouts.GetRollout(ctx, &executorv1.GetRolloutRequest{})
	if err != nil {
		return nil, &callError{e.Addr, err}
	}
	if err := fleet.CheckRollout(got.GetInstanceId(), got.GetRollout()); err != nil {
		return nil, contradicts("executor "+e.Addr+", GetRollout", err)
	}
	return got, nil
}

// retryPause is between two tries to reach an executor that is to go to 0 %.
const retryPause = 100 * time.Millisecond

// release sets 0 % and reads it back, again and again until the lease must have lapsed, and once more then. What somebody
// else has set is left alone. nil is that 0 % was read back.
func (s *share) release(ctx context.Context, timeout time.Duration, why string) error {
	if !s.touched {
		return nil
	}
	for {
		var err error
		if broken := guard(func() { err = s.abort(ctx, timeout, why) }); broken != nil {
			err = broken
		}
		if taken := (*takenError)(nil); err == nil || errors.As(err, &taken) || !time.Now().Before(s.until) {
			return err
		}
		time.Sleep(max(0, min(retryPause, time.Until(s.until))))
	}
}

// abort is one try.
func (s *share) abort(ctx context.Context, timeout time.Duration, why string) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	got, err := s.rollout(ctx)
	if err != nil {
		return err
	}
	if r := got.GetRollout(); r.GetHolder() != s.run && r.GetSetBy() != setByExecutor {
		if r.GetPercent() == 0 {
			return nil
		}
		return &takenError{s.Addr, described(r)}
	}
	if _, err := s.Rollouts.AbortRollout(ctx, &executorv1.AbortRolloutRequest{Reason: s.mark + why}); err != nil {
		return &callError{s.Addr, err}
	}
	if got, err = s.rollout(ctx); err != nil {
		return err
	}
	if p := got.GetRollout().GetPercent(); p != 0 {
		return &takenError{s.Addr, described(got.GetRollout())}
	}
	return nil
}

// refused says whether a call was refused because the rollout is not as the caller thought.
func refused(err error) bool {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && slices.Contains([]string{"REVISION_CHANGED", "LEASE_HELD"}, info.GetReason()) {
			return true
		}
	}
	return false
}
