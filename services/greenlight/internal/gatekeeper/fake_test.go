package gatekeeper

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/rpc"
	"github.com/greenlight-ml/greenlight/pkg/shadow"
	"github.com/greenlight-ml/greenlight/pkg/telemetry"
	"github.com/greenlight-ml/greenlight/pkg/testkit/outcometest"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

var (
	testModel    = evidence.Model{Version: "v1.8.1", Digest: strings.Repeat("a", 64)}
	testBaseline = evidence.Model{Version: "heuristic-v1", Digest: strings.Repeat("b", 64)}
)

func testTerms() Terms {
	return Terms{
		Percent: 5, ObservePercent: 50, AllSymbols: true, MaxScore: 1, WaitBudget: gate.Duration(5 * time.Millisecond), ChangedPercent: 10,
		Lease: gate.Duration(30 * time.Second),
	}
}

func testPlan() *PlanFile {
	q := outcometest.Plan()
	return &PlanFile{Folder: "evidence", Input: evidence.Input{Path: "gate_plan_x.json", SHA256: strings.Repeat("c", 64)}, Plan: &Plan{
		Terms: testTerms(), Entry: "simulated/v1.8.1", Model: testModel, Promotion: evidence.Input{Path: "promotion.json", SHA256: strings.Repeat("d", 64)},
		Quality: q, QualityDigest: q.Digest(), Source: evidence.Simulated,
	}}
}

// fakeExecutor is an in-memory executor that follows the contract of RolloutService with a gate: leases, latches, restarts. It
// gets a hundred requests a second, of which the model decides the percentage.
type fakeExecutor struct {
	executorv1.RolloutServiceClient
	executorv1.ShadowServiceClient

	addr string

	mu      sync.Mutex
	network func(ctx context.Context, method string) error
	// forbidden is an executor without --allow-gated.
	forbidden bool
	model     evidence.Model
	process   int
	rollout   *executorv1.Rollout
	awaited   *executorv1.Rollout // restored by a renewal after a restart
	expires   time.Time           // of the lease; zero without one
	latches   []*executorv1.GateLatchState
	at        time.Time
	decisions map[executorv1.FallbackReason]uint64
	// gatedUntil is the last time at which the model could decide.
	gatedUntil time.Time
	sets       int
}

func newFake(addr string) *fakeExecutor {
	f := &fakeExecutor{addr: addr, model: testModel, rollout: &executorv1.Rollout{
		Revision: 7, SetBy: "token:ops", Reason: "as after a promotion", Percent: 50, Mode: executorv1.RolloutMode_ROLLOUT_MODE_OBSERVE_ONLY,
	}}
	f.start()
	return f
}

func (f *fakeExecutor) start() {
	f.process++
	f.at, f.decisions = time.Now(), map[executorv1.FallbackReason]uint64{}
	if r := f.rollout; r.GetHolder() != "" && !r.GetAwaitingRenewal() {
		f.awaited = r
		f.rollout = &executorv1.Rollout{
			Revision: r.GetRevision(), Mode: executorv1.RolloutMode_ROLLOUT_MODE_OFF, Holder: r.GetHolder(), SetBy: r.GetSetBy(), SetTime: r.GetSetTime(),
			Reason: r.GetReason(), AwaitingRenewal: true, Gate: r.GetGate(), LeaseExpireTime: r.GetLeaseExpireTime(),
		}
	}
}

// change changes the fake from now on.
func (f *fakeExecutor) change(fn func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.advance()
	fn()
}

func (f *fakeExecutor) executor() fleet.Executor {
	return fleet.Executor{Addr: f.addr, Rollouts: f, Shadows: f}
}

func (f *fakeExecutor) open() bool {
	r := f.rollout
	return r.GetMode() == executorv1.RolloutMode_ROLLOUT_MODE_GATED && len(f.latches) == 0
}

// advance simulates everything up to now.
func (f *fakeExecutor) advance() {
	now := time.Now()
	if !f.expires.IsZero() && !now.Before(f.expires) {
		f.traffic(f.expires)
		f.rollout = &executorv1.Rollout{
			Revision: f.rollout.GetRevision() + 1, Mode: executorv1.RolloutMode_ROLLOUT_MODE_OFF, SetBy: "executor",
			SetTime: timestamppb.New(f.expires), Reason: "the lease of " + f.rollout.GetHolder() + " lapsed", Gate: f.rollout.GetGate(),
		}
		f.expires = time.Time{}
	}
	f.traffic(now)
}

func (f *fakeExecutor) traffic(until time.Time) {
	n := uint64(100 * until.Sub(f.at).Seconds())
	if n == 0 {
		return
	}
	f.at = until
	if f.open() {
		model := n * uint64(f.rollout.GetPercent()) / 100
		f.decisions[executorv1.FallbackReason_FALLBACK_REASON_UNSPECIFIED] += model
		f.decisions[executorv1.FallbackReason_FALLBACK_REASON_NOT_SELECTED] += n - model
		f.gatedUntil = until
		return
	}
	f.decisions[executorv1.FallbackReason_FALLBACK_REASON_OFF] += n
}

// latch demotes the gate, as executor does by itself.
func (f *fakeExecutor) latch(l executorv1.GateLatch, by, reason string) {
	f.change(func() {
		f.latches = append(f.latches, &executorv1.GateLatchState{Latch: l, SetBy: by, Reason: reason, SetTime: timestamppb.Now()})
		if r := f.rollout; r.GetGate() != nil {
			f.expires = time.Time{}
			f.rollout = &executorv1.Rollout{
				Revision: r.GetRevision() + 1, Percent: r.GetGate().GetObservePercent(), Mode: executorv1.RolloutMode_ROLLOUT_MODE_OBSERVE_ONLY,
				SetBy: by, Reason: reason, SetTime: timestamppb.Now(), Gate: r.GetGate(), Plan: r.GetPlan(),
			}
		}
	})
}

func (f *fakeExecutor) call(ctx context.Context, method string) error {
	f.mu.Lock()
	network := f.network
	f.mu.Unlock()
	if network != nil {
		if err := network(ctx, method); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func cutOff(context.Context, string) error {
	return status.Error(codes.Unavailable, "connection refused")
}

func (f *fakeExecutor) id() string { return fmt.Sprintf("%s-%d", f.addr, f.process) }

func (f *fakeExecutor) gate() *executorv1.GateStatus {
	g := &executorv1.GateStatus{Allowed: !f.forbidden, Open: f.open(), Latches: f.latches}
	for reason, n := range f.decisions {
		by := executorv1.Decider_DECIDER_BASELINE
		if reason == 0 {
			by = executorv1.Decider_DECIDER_MODEL
		}
		g.Decisions = append(g.Decisions, &executorv1.GateDecisionCount{DecidedBy: by, FallbackReason: reason, Count: n})
	}
	return g
}

// GetRollout implements RolloutServiceClient.
func (f *fakeExecutor) GetRollout(ctx context.Context, _ *executorv1.GetRolloutRequest, _ ...grpc.CallOption) (*executorv1.GetRolloutResponse, error) {
	if err := f.call(ctx, "GetRollout"); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.advance()
	return &executorv1.GetRolloutResponse{Rollout: f.rollout, InstanceId: f.id(), Gate: f.gate()}, nil
}

func refusal(code codes.Code, reason, message string) error {
	return (&rpc.Error{Code: code, Domain: "executor.greenlight", Reason: reason, Message: message}).GRPCStatus().Err()
}

// SetRollout implements RolloutServiceClient.
func (f *fakeExecutor) SetRollout(ctx context.Context, req *executorv1.SetRolloutRequest, _ ...grpc.CallOption) (*executorv1.SetRolloutResponse, error) {
	if err := f.call(ctx, "SetRollout"); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.advance()
	f.sets++
	was, gated := f.rollout, req.GetMode() == executorv1.RolloutMode_ROLLOUT_MODE_GATED
	switch {
	case req.GetExpectedRevision() != 0 && req.GetExpectedRevision() != was.GetRevision():
		return nil, refusal(codes.Aborted, "REVISION_CHANGED", "the revision is another one")
	case was.GetHolder() != "" && was.GetHolder() != req.GetHolder():
		return nil, refusal(codes.FailedPrecondition, "LEASE_HELD", "held by "+was.GetHolder())
	case gated && f.forbidden:
		return nil, refusal(codes.FailedPrecondition, "GATE_NOT_ALLOWED", "started without --allow-gated")
	case gated && len(f.latches) > 0:
		return nil, refusal(codes.FailedPrecondition, "GATE_LATCHED", "a latch is set")
	case gated != (req.GetGate() != nil):
		return nil, refusal(codes.InvalidArgument, "GATE_INVALID", "gate goes with mode GATED")
	case gated && (req.GetPlan() == nil || req.GetLease() == nil):
		return nil, refusal(codes.InvalidArgument, "GATE_INVALID", "a gate needs a plan and a lease")
	}
	now := &executorv1.Rollout{
		Percent: req.GetPercent(), Mode: req.GetMode(), Revision: was.GetRevision() + 1, Holder: req.GetHolder(), SetBy: "token:ops",
		SetFrom: "127.0.0.1:5555", Reason: req.GetReason(), SetTime: timestamppb.Now(), Plan: req.GetPlan(), Gate: req.GetGate(),
	}
	if was.GetAwaitingRenewal() {
		was = f.awaited
	}
	if was.GetPercent() == now.GetPercent() && was.GetMode() == now.GetMode() && was.GetHolder() == now.GetHolder() && was.GetReason() == now.GetReason() {
		now.Revision, now.SetTime = was.GetRevision(), was.GetSetTime()
	}
	f.rollout, f.expires = now, time.Time{}
	if req.GetLease() != nil {
		f.expires = time.Now().Add(req.GetLease().AsDuration())
		now.LeaseExpireTime = timestamppb.New(f.expires)
	}
	return &executorv1.SetRolloutResponse{Rollout: now, InstanceId: f.id()}, nil
}

// AbortRollout implements RolloutServiceClient.
func (f *fakeExecutor) AbortRollout(ctx context.Context, req *executorv1.AbortRolloutRequest, _ ...grpc.CallOption) (*executorv1.AbortRolloutResponse, error) {
	if err := f.call(ctx, "AbortRollout"); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.advance()
	f.expires = time.Time{}
	f.rollout = &executorv1.Rollout{
		Revision: f.rollout.GetRevision() + 1, Mode: executorv1.RolloutMode_ROLLOUT_MODE_OFF, SetBy: "token:ops", SetFrom: "10.0.0.7:4711",
		Reason: req.GetReason(), SetTime: timestamppb.Now(), Plan: f.rollout.GetPlan(),
	}
	return &executorv1.AbortRolloutResponse{Rollout: f.rollout, InstanceId: f.id()}, nil
}

// KillGate implements RolloutServiceClient.
func (f *fakeExecutor) KillGate(ctx context.Context, req *executorv1.KillGateRequest, _ ...grpc.CallOption) (*executorv1.KillGateResponse, error) {
	if err := f.call(ctx, "KillGate"); err != nil {
		return nil, err
	}
	f.latch(executorv1.GateLatch_GATE_LATCH_KILLED, "token:ops", req.GetReason())
	f.mu.Lock()
	defer f.mu.Unlock()
	return &executorv1.KillGateResponse{Gate: f.gate(), InstanceId: f.id()}, nil
}

// ClearGateLatches implements RolloutServiceClient.
func (f *fakeExecutor) ClearGateLatches(ctx context.Context, req *executorv1.ClearGateLatchesRequest, _ ...grpc.CallOption) (*executorv1.ClearGateLatchesResponse, error) {
	if err := f.call(ctx, "ClearGateLatches"); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	kept := f.latches[:0:0]
	cleared := 0
	for _, l := range f.latches {
		keep := true
		for i, c := range req.GetLatches() {
			keep = keep && (c != l.GetLatch() || !proto.Equal(cmp.Or(l.GetLastSetTime(), l.GetSetTime()), req.GetLastSetTimes()[i]))
		}
		if keep {
			kept = append(kept, l)
		} else {
			cleared++
		}
	}
	if cleared != len(req.GetLatches()) {
		return nil, refusal(codes.FailedPrecondition, "GATE_NOT_SET", "one of the latches is not set")
	}
	f.latches = kept
	return &executorv1.ClearGateLatchesResponse{Gate: f.gate(), InstanceId: f.id()}, nil
}

// GetShadowReport implements ShadowServiceClient.
func (f *fakeExecutor) GetShadowReport(ctx context.Context, _ *executorv1.GetShadowReportRequest, _ ...grpc.CallOption) (*executorv1.GetShadowReportResponse, error) {
	if err := f.call(ctx, "GetShadowReport"); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.advance()
	r := &executorv1.GetShadowReportResponse{
		InstanceId: f.id(), StartTime: timestamppb.New(f.at), ReportTime: timestamppb.Now(), SamplePercent: f.rollout.GetPercent(),
		BaselineVersion: testBaseline.Version, BaselineDigest: testBaseline.Digest, ShadowVersion: f.model.Version, ShadowDigest: f.model.Digest,
		LatencyMsTotal: &executorv1.Histogram{Edges: telemetry.LatencyBucketsMS, Counts: make([]uint64, len(telemetry.LatencyBucketsMS)+1)},
		Breaker:        &executorv1.BreakerStatus{State: executorv1.BreakerState_BREAKER_STATE_CLOSED},
	}
	for _, n := range f.decisions {
		r.RequestsTotal += n
	}
	r.SourcesTotal = []*executorv1.SourceCount{{Source: executorv1.Source_SOURCE_SIMULATED, Count: r.GetRequestsTotal()}}
	for _, o := range shadow.Outcomes() {
		count := &executorv1.OutcomeCount{Outcome: executorv1.ShadowOutcome(o)}
		if o == shadow.NotSampled {
			count.Count = r.GetRequestsTotal()
		}
		r.OutcomesTotal = append(r.OutcomesTotal, count)
	}
	return r, nil
}

// trial is a run on fakes.
type trial struct {
	t     *testing.T
	fakes []*fakeExecutor
	plan  *PlanFile
	run   *Run
	state State
	// ended is the result of the run, valid once done is closed.
	done  chan struct{}
	ended error
	stop  context.CancelFunc
}
