package canary

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/outcome"
	"github.com/greenlight-ml/greenlight/pkg/rpc"
	"github.com/greenlight-ml/greenlight/pkg/shadow"
	"github.com/greenlight-ml/greenlight/pkg/telemetry"
	"github.com/greenlight-ml/greenlight/pkg/testkit/outcometest"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

// health is how the shadows of a fake executor end: the fraction of each outcome, which add up to 1, and the latency.
type health map[shadow.Outcome]struct {
	share float64
	ms    float64
}

var (
	healthy = health{shadow.Match: {0.99, 0.7}, shadow.Mismatch: {0.01, 0.7}}
	// slow is an ml-engine that takes 130 ms, which is beyond the deadline.
	slow = health{shadow.Deadline: {1, 60}}
	// wrong is an ml-engine whose scores are 0.1 off.
	wrong = health{shadow.Mismatch: {1, 0.7}}
	down  = health{shadow.Unavailable: {1, 0.3}}
	// sluggish has a p95 above the SLO and below the abort limit.
	sluggish = health{shadow.Match: {1, 95}}
)

// fakeExecutor is an in-memory executor that implements the contract of RolloutService, including leases, and generates its
// own traffic. It computes its counts when they are read.
type fakeExecutor struct {
	executorv1.ShadowServiceClient
	executorv1.RolloutServiceClient

	addr  string
	store bool // whether its rollout outlives a restart

	mu      sync.Mutex
	network func(ctx context.Context, method string) error
	rate    float64 // requests a second
	health  health

	process   int
	rollout   *executorv1.Rollout
	awaited   *executorv1.Rollout // what a renewal brings back after a restart
	expires   time.Time           // of the lease; zero without one
	model     evidence.Model
	baseline  evidence.Model
	tolerance float64 // 0 if the executor does not report it
	// records are the records of its closed blocks. Older executors have none, and no GetQualityReport.
	records   []outcome.Record
	older     bool
	at        time.Time
	started   time.Time
	carry     map[string]float64 // fractions of requests that are carried over
	outcomes  map[shadow.Outcome]uint64
	latencies []uint64
	requests  uint64
	// truth is the number of comparisons at each percentage, over all processes. lapsed has the times at which a lease lapsed.
	truth  map[float64]uint64
	lapsed []time.Time
	sets   int
}

var (
	testModel    = evidence.Model{Version: "v1.8.1-rc1", Digest: "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}
	testBaseline = evidence.Model{Version: "heuristic-v1", Digest: "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"}
	otherModel   = evidence.Model{Version: "v1.8-b0", Digest: "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"}
)

func newFake(addr string) *fakeExecutor {
	f := &fakeExecutor{addr: addr, rate: 100, health: healthy, model: testModel, baseline: testBaseline, truth: make(map[float64]uint64)}
	f.start()
	return f
}

// start is the start of a process.
func (f *fakeExecutor) start() {
	f.process++
	f.at, f.started, f.requests = time.Now(), time.Now(), 0
	f.carry, f.outcomes = make(map[string]float64), make(map[shadow.Outcome]uint64)
	f.latencies = make([]uint64, len(telemetry.LatencyBucketsMS)+1)
	if f.rollout == nil || !f.store {
		f.rollout = &executorv1.Rollout{Revision: 1, SetBy: "executor", Reason: "start", Mode: executorv1.RolloutMode_ROLLOUT_MODE_OFF}
		f.expires = time.Time{}
		f.awaited = nil
	}
	if r := f.rollout; r.GetHolder() != "" && !r.GetAwaitingRenewal() {
		f.awaited = r
		f.rollout = &executorv1.Rollout{
			Revision: r.GetRevision(), Mode: executorv1.RolloutMode_ROLLOUT_MODE_OFF, Holder: r.GetHolder(), SetBy: r.GetSetBy(), SetFrom: r.GetSetFrom(),
			Reason: r.GetReason(), SetTime: r.GetSetTime(), AwaitingRenewal: true,
		}
	}
}

// restart is a crash and a start.
func (f *fakeExecutor) restart() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.advance()
	f.start()
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

func (f *fakeExecutor) percent() float64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.advance()
	return f.rollout.GetPercent()
}

// advance computes what has happened until now.
func (f *fakeExecutor) advance() {
	now := time.Now()
	if !f.expires.IsZero() && !now.Before(f.expires) {
		f.traffic(f.expires)
		f.lapsed = append(f.lapsed, f.expires)
		f.rollout = &executorv1.Rollout{
			Revision: f.rollout.GetRevision() + 1, Mode: executorv1.RolloutMode_ROLLOUT_MODE_OFF, SetBy: "executor",
			SetTime: timestamppb.New(f.expires), Reason: "the lease of " + f.rollout.GetHolder() + " lapsed",
		}
		f.expires = time.Time{}
	}
	f.traffic(now)
}

func (f *fakeExecutor) traffic(until time.Time) {
	share := f.rollout.GetPercent() / 100
	whole := func(key string, n float64) uint64 {
		n += f.carry[key]
		f.carry[key] = n - math.Floor(n)
		return uint64(n)
	}
	n := f.rate * until.Sub(f.at).Seconds()
	f.at = until
	ended := whole("not_sampled", n*(1-share))
	f.outcomes[shadow.NotSampled] += ended
	for o, h := range f.health {
		k := whole(fmt.Sprint(o), n*share*h.share)
		f.outcomes[o] += k
		ended += k
		if o.Compared() {
			f.truth[f.rollout.GetPercent()] += k
		}
		if o.Compared() || o.Failed() {
			b := 0
			for b < len(telemetry.LatencyBucketsMS) && h.ms > telemetry.LatencyBucketsMS[b] {
				b++
			}
			f.latencies[b] += k
		}
	}
	f.requests += ended
}

// call simulates the network before and after a call takes effect.
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

func hangs(ctx context.Context, _ string) error {
	<-ctx.Done()
	return status.FromContextError(ctx.Err()).Err()
}

func (f *fakeExecutor) id() string { return fmt.Sprintf("%s-%d", f.addr, f.process) }

// GetRollout implements RolloutServiceClient.
func (f *fakeExecutor) GetRollout(ctx context.Context, _ *executorv1.GetRolloutRequest, _ ...grpc.CallOption) (*executorv1.GetRolloutResponse, error) {
	if err := f.call(ctx, "GetRollout"); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.advance()
	return &executorv1.GetRolloutResponse{Rollout: f.rollout, InstanceId: f.id()}, nil
}

// SetRollout implements RolloutServiceClient.
func (f *fakeExecutor) SetRollout(ctx context.Context, req *executorv1.SetRolloutRequest, _ ...grpc.CallOption) (*executorv1.SetRolloutResponse, error) {
	if err := f.call(ctx, "SetRollout"); err != nil {
		return nil, err
	}
	return f.set(req)
}

func refusal(code codes.Code, reason executorv1.RolloutErrorReason, message string) error {
	e := &rpc.Error{Code: code, Domain: "executor.greenlight", Reason: reason.String()[len("ROLLOUT_ERROR_REASON_"):], Message: message}
	return e.GRPCStatus().Err()
}

func (f *fakeExecutor) set(req *executorv1.SetRolloutRequest) (*executorv1.SetRolloutResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.advance()
	f.sets++
	was := f.rollout
	switch {
	case was.GetHolder() != "" && was.GetHolder() != req.GetHolder():
		return nil, refusal(codes.FailedPrecondition, executorv1.RolloutErrorReason_ROLLOUT_ERROR_REASON_LEASE_HELD, "held by "+was.GetHolder())
	case req.GetExpectedRevision() != 0 && req.GetExpectedRevision() != was.GetRevision():
		return nil, refusal(codes.Aborted, executorv1.RolloutErrorReason_ROLLOUT_ERROR_REASON_REVISION_CHANGED, "the revision is another one")
	}
	now := &executorv1.Rollout{
		Percent: req.GetPercent(), Mode: req.GetMode(), Revision: was.GetRevision() + 1, Holder: req.GetHolder(),
		SetBy: "loopback", SetFrom: "127.0.0.1:5555", Reason: req.GetReason(), SetTime: timestamppb.Now(), Plan: req.GetPlan(),
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
		Revision: f.rollout.GetRevision() + 1, Mode: executorv1.RolloutMode_ROLLOUT_MODE_OFF, SetBy: "token", SetFrom: "10.0.0.7:4711",
		Reason: req.GetReason(), SetTime: timestamppb.Now(),
	}
	return &executorv1.AbortRolloutResponse{Rollout: f.rollout, InstanceId: f.id()}, nil
}

// GetQualityReport implements ShadowServiceClient.
func (f *fakeExecutor) GetQualityReport(ctx context.Context, req *executorv1.GetQualityReportRequest, _ ...grpc.CallOption) (*executorv1.GetQualityReportResponse, error) {
	if err := f.call(ctx, "GetQualityReport"); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.older {
		return nil, status.Error(codes.Unimplemented, "unknown method GetQualityReport")
	}
	return outcometest.Page(req, f.addr, f.rollout.GetPlan(), f.records), nil
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
		InstanceId: f.id(), StartTime: timestamppb.New(f.started), ReportTime: timestamppb.Now(), RequestsTotal: f.requests, SamplePercent: f.rollout.GetPercent(),
		BaselineVersion: f.baseline.Version, BaselineDigest: f.baseline.Digest, ShadowVersion: f.model.Version, ShadowDigest: f.model.Digest,
		LatencyMsTotal: &executorv1.Histogram{Edges: telemetry.LatencyBucketsMS, Counts: append([]uint64(nil), f.latencies...)},
		Breaker:        &executorv1.BreakerStatus{State: executorv1.BreakerState_BREAKER_STATE_CLOSED},
		MatchTolerance: f.tolerance,
	}
	for _, o := range shadow.Outcomes() {
		r.OutcomesTotal = append(r.OutcomesTotal, &executorv1.OutcomeCount{Outcome: executorv1.ShadowOutcome(o), Count: f.outcomes[o]})
	}
	return r, nil
}
