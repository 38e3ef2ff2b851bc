package fleettest

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/shadow"
	"github.com/greenlight-ml/greenlight/pkg/telemetry"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	fleetv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/fleet/v1"
)

// The digests in a report of [Report].
const (
	Model    = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	Baseline = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

// Report returns a valid report with n comparisons.
func Report(instance string, n uint64, percent float64) *executorv1.GetShadowReportResponse {
	r := &executorv1.GetShadowReportResponse{
		InstanceId: instance, StartTime: timestamppb.Now(), ReportTime: timestamppb.Now(), RequestsTotal: n, SamplePercent: percent,
		BaselineVersion: "heuristic-v1", BaselineDigest: Baseline, ShadowVersion: "v1.8.1-rc1", ShadowDigest: Model,
		LatencyMsTotal: &executorv1.Histogram{Edges: telemetry.LatencyBucketsMS, Counts: make([]uint64, len(telemetry.LatencyBucketsMS)+1)},
		Breaker:        &executorv1.BreakerStatus{State: executorv1.BreakerState_BREAKER_STATE_CLOSED},
	}
	r.LatencyMsTotal.Counts[0] = n
	for _, o := range shadow.Outcomes() {
		c := &executorv1.OutcomeCount{Outcome: executorv1.ShadowOutcome(o)}
		if o == shadow.Match {
			c.Count = n
		}
		r.OutcomesTotal = append(r.OutcomesTotal, c)
	}
	return r
}

// Counter is an executor with 100 comparisons. The zero value is at 0 %.
type Counter struct {
	NoBlocks

	mu      sync.Mutex
	percent float64
	until   time.Time
	latches []*executorv1.GateLatchState
	// Gate is the gate that is set; nil without one. Fails, which may be nil, is the error that every command returns.
	Gate  *executorv1.Gate
	Fails error
}

// Change changes the fields.
func (e *Counter) Change(do func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	do()
}

// latch sets a latch, or sets it again.
func (e *Counter) latch(l executorv1.GateLatch, by, reason string) {
	e.latches = slices.Clone(e.latches)
	for i, set := range e.latches {
		if set.GetLatch() == l {
			e.latches[i] = proto.CloneOf(set)
			e.latches[i].LastSetTime = timestamppb.Now()
			return
		}
	}
	e.latches = append(e.latches, &executorv1.GateLatchState{Latch: l, SetBy: by, Reason: reason, SetTime: timestamppb.Now()})
}

// Command implements [member.Executor].
func (e *Counter) Command(c *fleetv1.Admission) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.Fails != nil:
		return e.Fails
	case c.GetAlarm() != 0:
		e.latch(c.GetAlarm(), c.GetIssuer(), c.GetReason())
		return nil
	}
	left := slices.DeleteFunc(slices.Clone(e.latches), func(l *executorv1.GateLatchState) bool {
		i := slices.Index(c.GetClear(), l.GetLatch())
		return i >= 0 && proto.Equal(cmp.Or(l.GetLastSetTime(), l.GetSetTime()), c.GetLastSetTimes()[i])
	})
	if len(e.latches)-len(left) != len(c.GetClear()) {
		return errors.New("a latch is not set, or was set again meanwhile")
	}
	e.latches = left
	return nil
}

// Obey implements [member.Executor].
func (e *Counter) Obey(r *fleetv1.Record, until time.Time, _ string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.percent, e.until = r.GetPercent(), until
	return nil
}

// Killed reports whether the gate is killed.
func (e *Counter) Killed() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.ContainsFunc(e.latches, func(l *executorv1.GateLatchState) bool { return l.GetLatch() == executorv1.GateLatch_GATE_LATCH_KILLED })
}

// Kill implements [member.Executor].
func (e *Counter) Kill(by, _, reason string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.latch(executorv1.GateLatch_GATE_LATCH_KILLED, by, reason)
	return nil
}

// Percent returns the percentage in force.
func (e *Counter) Percent() float64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !time.Now().Before(e.until) {
		return 0
	}
	return e.percent
}

// Report implements [member.Executor].
func (e *Counter) Report(context.Context) (*executorv1.GetShadowReportResponse, *executorv1.GetRolloutResponse, error) {
	percent := e.Percent()
	mode := executorv1.RolloutMode_ROLLOUT_MODE_OFF
	if percent > 0 {
		mode = executorv1.RolloutMode_ROLLOUT_MODE_OBSERVE_ONLY
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	rollout := &executorv1.Rollout{Percent: percent, Mode: mode, Revision: 1, Gate: e.Gate}
	return Report("process", 100, percent), &executorv1.GetRolloutResponse{InstanceId: "process", Gate: &executorv1.GateStatus{Latches: e.latches}, Rollout: rollout}, nil
}
