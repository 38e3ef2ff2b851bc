package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/text"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/driftfleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleetgroup"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/report"
)

// Alarm is a reason to stop a model from deciding.
type Alarm struct {
	Latch executorv1.GateLatch
	// Model is the digest of the model.
	Model  string
	Reason string
}

// Raised is the result of raising an alarm at one executor.
type Raised struct {
	Alarm

	Addr string
	// Err is why the alarm could not be raised; nil if the executor has confirmed it.
	Err error
	// Unasked is true if the executor did not allow the agent to ask whether it has a gate.
	Unasked bool
}

// maxReason is the longest reason that executors accept, in bytes.
const maxReason = 512

// watchDrift remembers whether the sample's index is critical. An unknown or inconclusive index changes nothing.
func (a *Agent) watchDrift(sample *report.Sample, fleet *driftfleet.Report) {
	switch d := sample.Drift; {
	case d == nil || fleet == nil:
	case d.PSI <= drift.CriticalAbove:
		a.drifted = nil
	case d.Verdict == gate.Fail:
		a.drifted = &Alarm{
			executorv1.GateLatch_GATE_LATCH_DRIFT_ALARM, fleet.Model.Digest,
			fmt.Sprintf("overall PSI %.3f over 7 days is above %v and above its noise (%s on %s)", d.PSI, drift.CriticalAbove, text.Count(d.Rows, "row"), text.Count(d.Days, "day")),
		}
	}
}

// raise raises the active alarms at the executors that do not have them yet. Failures are recorded in the sample and retried
// at the next tick. An executor that denies the agent access is not an error: a fleet without gates gives its agent no token.
func (a *Agent) raise(ctx context.Context, sample *report.Sample) error {
	var standing []Alarm
	if a.live.Alarmed() {
		standing = append(standing, Alarm{executorv1.GateLatch_GATE_LATCH_QUALITY_ALARM, a.live.Model, a.live.Line()})
	}
	if a.drifted != nil {
		standing = append(standing, *a.drifted)
	}
	pending := 0
	var errs []error
	if len(standing) > 0 {
		for _, r := range a.Raise(ctx, standing) {
			name := fleet.Latch(r.Latch)
			if r.Err == nil {
				a.Logger.Error("the gate of an executor was shut: no model decides there until a person clears the alarm", "executor", r.Addr, "alarm", name,
					"model", r.Model, "reason", r.Reason)
				continue
			}
			pending++
			sample.Missing = append(sample.Missing, report.Missing{Service: report.GateAlarm, Address: r.Addr, Reason: name + " could not be raised: " + fleet.Plain(r.Err).Error()})
			if !r.Unasked {
				errs = append(errs, fmt.Errorf("executor %s: %s could not be raised: %w", r.Addr, name, r.Err))
			}
		}
	}
	a.Metrics.pending.Set(float64(pending))
	return errors.Join(errs...)
}

// Raise raises the alarms at all executors whose gate is set for the alarm's model. It returns the alarms that it raised,
// those that it failed to raise, and those of executors that it could not read. It skips executors without such a gate, and
// those that have the latch already.
func (s Services) Raise(ctx context.Context, alarms []Alarm) (done []Raised) {
	limit := s.Timeout
	if s.Group != nil { // the executor's next report confirms an alarm
		limit += fleetgroup.Slack
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	services, err := s.executors()
	if err != nil {
		for _, addr := range s.addresses() {
			for _, alarm := range alarms {
				done = append(done, Raised{Alarm: alarm, Addr: addr, Err: err})
			}
		}
		return done
	}
	all, errs := fleet.Each(services.Executors, func(e fleet.Executor) ([]Raised, error) { return raiseAt(ctx, e, alarms), nil })
	_ = services.Close() // all answers have been read
	fleet.Rethrow(errs...)
	return slices.Concat(all...)
}

func raiseAt(ctx context.Context, e fleet.Executor, alarms []Alarm) (done []Raised) {
	got, err := e.Rollout(ctx)
	for _, alarm := range alarms {
		r := Raised{Alarm: alarm, Addr: e.Addr, Err: err, Unasked: fleet.Denied(err)}
		if err == nil {
			if got.GetRollout().GetGate().GetModelDigest() != alarm.Model || latched(got.GetGate(), alarm.Latch) {
				continue
			}
			answer, err := e.Rollouts.RaiseGateAlarm(ctx, &executorv1.RaiseGateAlarmRequest{
				Alarm: alarm.Latch, ModelDigest: alarm.Model, Reason: text.Cut(alarm.Reason, maxReason),
			})
			if r.Err = err; err == nil && !latched(answer.GetGate(), alarm.Latch) {
				r.Err = errors.New("the answer does not confirm it")
			}
		}
		done = append(done, r)
	}
	return done
}

// latched reports whether the latch keeps the gate shut.
func latched(g *executorv1.GateStatus, which executorv1.GateLatch) bool {
	return slices.ContainsFunc(g.GetLatches(), func(l *executorv1.GateLatchState) bool { return l.GetLatch() == which })
}
