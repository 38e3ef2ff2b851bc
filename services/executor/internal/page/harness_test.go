package page

import (
	"context"
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	baselineDigest = "1111111111111111111111111111111111111111111111111111111111111111"
	shadowDigest   = "2222222222222222222222222222222222222222222222222222222222222222"
)

// world is a fake executor whose figures a test may change.
type world struct {
	report  *executorv1.GetShadowReportResponse
	rollout *executorv1.Rollout
	gate    *executorv1.GateStatus
	drift   func(context.Context) (*mlenginev1.GetDriftResponse, error)
	quality *executorv1.QualityJudgment
	bounds  []Bound
	metrics *prometheus.Registry

	baseline, shadow, delta, wait prometheus.Histogram
}

// outcomes lists every outcome, with the given counts.
func outcomes(counts map[executorv1.ShadowOutcome]uint64) []*executorv1.OutcomeCount {
	var all []*executorv1.OutcomeCount
	for o := executorv1.ShadowOutcome_SHADOW_OUTCOME_MATCH; o <= executorv1.ShadowOutcome_SHADOW_OUTCOME_NOT_SAMPLED; o++ {
		all = append(all, &executorv1.OutcomeCount{Outcome: o, Count: counts[o]})
	}
	return all
}

func psi(v, q99 float64, verdict mlenginev1.DriftVerdict, reason string) *mlenginev1.DriftReading {
	return &mlenginev1.DriftReading{Psi: v, NullQ99: &q99, Threshold: 0.2, Verdict: verdict, Reason: reason, Status: "stable"}
}

// newWorld returns an executor with a healthy shadow.
func newWorld(t testing.TB) *world {
	t.Helper()
	counts := map[executorv1.ShadowOutcome]uint64{
		executorv1.ShadowOutcome_SHADOW_OUTCOME_MATCH: 1960, executorv1.ShadowOutcome_SHADOW_OUTCOME_MISMATCH: 30,
		executorv1.ShadowOutcome_SHADOW_OUTCOME_DEADLINE: 10, executorv1.ShadowOutcome_SHADOW_OUTCOME_NOT_SAMPLED: 777,
	}
	now := time.Now()
	rate, low, high, coverage, errors, mean := 1960.0/1990, 0.9786, 0.9894, 0.995, 0.005, -0.0012
	w := &world{
		report: &executorv1.GetShadowReportResponse{
			StartTime: timestamppb.New(now.Add(-time.Hour)), ReportTime: timestamppb.New(now), RequestsTotal: 2777, SamplePercent: 25,
			OutcomesTotal: outcomes(counts),
			Window: &executorv1.ShadowWindow{
				Length: durationpb.New(5 * time.Minute), Outcomes: outcomes(counts), Comparisons: 1990, MatchRate: &rate,
				MatchRateLow: &low, MatchRateHigh: &high, Coverage: &coverage, ErrorRate: &errors, MeanDelta: &mean,
				AbsDelta:  &executorv1.Quantiles{Count: 1990, P50: .01, P95: .04, P99: .06, Max: .2},
				LatencyMs: &executorv1.Quantiles{Count: 1990, P50: 1.25, P95: 4.5, P99: 13, Max: 50},
			},
			Breaker:         &executorv1.BreakerStatus{State: executorv1.BreakerState_BREAKER_STATE_CLOSED, Blind: true, Successes: 12, Failures: 3},
			BaselineVersion: "heuristic-test", BaselineDigest: baselineDigest, ShadowVersion: "v1.8.1-test", ShadowDigest: shadowDigest,
			InstanceId: "instance-1", MatchTolerance: 0.05,
		},
		rollout: &executorv1.Rollout{
			Percent: 25, Mode: executorv1.RolloutMode_ROLLOUT_MODE_OBSERVE_ONLY, Revision: 7, Holder: "canary-42", SetBy: "token",
			Reason: "<b>phase</b> 25 %", LeaseExpireTime: timestamppb.New(now.Add(45 * time.Second)), SetTime: timestamppb.New(now),
		},
		metrics:  prometheus.NewRegistry(),
		baseline: prometheus.NewHistogram(prometheus.HistogramOpts{Name: baselineLatency, Buckets: []float64{.01, .1, 1, 10}}),
		shadow:   prometheus.NewHistogram(prometheus.HistogramOpts{Name: shadowLatency, Buckets: []float64{.1, 1, 10, 60, 100}}),
		delta:    prometheus.NewHistogram(prometheus.HistogramOpts{Name: absDelta, Buckets: []float64{.01, .05, .1, 1}}),
		wait:     prometheus.NewHistogram(prometheus.HistogramOpts{Name: gateWait, Buckets: []float64{1, 2, 5, 10}}),
	}
	none, little := 0.0, 0.0019
	w.report.Challengers = []*executorv1.Challenger{{
		Name: "copy", Window: w.report.GetWindow(), Breaker: w.report.GetBreaker(), ModelVersion: "v1.8.1-test", SameModel: true,
		NoiseFloor: &executorv1.NoiseFloor{Comparisons: 1980, MismatchRate: &none, MismatchRateLow: &none, MismatchRateHigh: &little},
	}, {
		Name: "gbm", Window: &executorv1.ShadowWindow{LatencyMs: &executorv1.Quantiles{}}, Breaker: &executorv1.BreakerStatus{State: executorv1.BreakerState_BREAKER_STATE_OPEN},
	}}
	w.drift = func(context.Context) (*mlenginev1.GetDriftResponse, error) {
		return &mlenginev1.GetDriftResponse{
			Rows: 10080, Days: 7, Overall: psi(0.05, 0.09, mlenginev1.DriftVerdict_DRIFT_VERDICT_PASS, "PSI 0.0512 is below 0.1234"),
			Features: []*mlenginev1.FeatureDrift{
				{Feature: "spread_bp_rel", Role: "feature", Rows: 10080, Reading: psi(0.25, 0.15, mlenginev1.DriftVerdict_DRIFT_VERDICT_FAIL, "above both")},
				{Feature: "zscore_mid_24h", Role: "feature", Rows: 10080, Reading: psi(0.17, 0.31, mlenginev1.DriftVerdict_DRIFT_VERDICT_PASS, "")},
				{Feature: "vol1m", Role: "input"},
			},
		}, nil
	}
	w.metrics.MustRegister(w.baseline, w.shadow, w.delta, w.wait)
	for range 990 {
		w.baseline.Observe(.005)
		w.shadow.Observe(.8)
		w.delta.Observe(.02)
	}
	for range 10 {
		w.baseline.Observe(.5)
		w.shadow.Observe(61)
		w.delta.Observe(.07)
	}
	return w
}

// gated sets a gate behind which the model decided 900 of 1,000 requests.
func (w *world) gated() *world {
	w.rollout.Percent, w.rollout.Mode = 95, executorv1.RolloutMode_ROLLOUT_MODE_GATED
	w.rollout.Gate = &executorv1.Gate{ModelDigest: shadowDigest, AllSymbols: true, WaitBudget: durationpb.New(5 * time.Millisecond)}
	w.gate = &executorv1.GateStatus{Allowed: true, Open: true, HourRequests: 5000, HourChanged: 120, HourChangedLimit: 500}
	counts := map[executorv1.FallbackReason]uint64{
		executorv1.FallbackReason_FALLBACK_REASON_UNSPECIFIED: 900, executorv1.FallbackReason_FALLBACK_REASON_NOT_SELECTED: 50,
		executorv1.FallbackReason_FALLBACK_REASON_OUT_OF_DOMAIN: 30, executorv1.FallbackReason_FALLBACK_REASON_DEADLINE: 20,
	}
	for r := range executorv1.FallbackReason(len(executorv1.FallbackReason_name)) {
		by := executorv1.Decider_DECIDER_BASELINE
		if r == executorv1.FallbackReason_FALLBACK_REASON_UNSPECIFIED {
			by = executorv1.Decider_DECIDER_MODEL
		}
		w.gate.Decisions = append(w.gate.Decisions, &executorv1.GateDecisionCount{DecidedBy: by, FallbackReason: r, Count: counts[r]})
	}
	for range 900 {
		w.wait.Observe(1.5)
	}
	return w
}

// killed sets a latch.
func (w *world) killed() *world {
	w.rollout.Mode, w.gate.Open = executorv1.RolloutMode_ROLLOUT_MODE_OBSERVE_ONLY, false
	w.gate.Latches = []*executorv1.GateLatchState{{
		Latch: executorv1.GateLatch_GATE_LATCH_KILLED, SetBy: "token:alice", Reason: "<i>wild</i> orders on port 4020",
		SetTime: timestamppb.New(time.Date(2026, 11, 30, 3, 4, 5, 0, time.UTC)),
	}}
	return w
}

// start returns a page of the world. The caller must stop it.
func (w *world) start() *Page {
	return New(Options{
		Report: func(context.Context, *executorv1.GetShadowReportRequest) (*executorv1.GetShadowReportResponse, error) {
			return w.report, nil
		},
		Rollout: func() *executorv1.Rollout { return w.rollout },
		Gate:    func() *executorv1.GateStatus { return w.gate },
		Quality: func() (*executorv1.QualityJudgment, []Bound) { return w.quality, w.bounds },
		Drift: func(ctx context.Context, _ *mlenginev1.GetDriftRequest, _ ...grpc.CallOption) (*mlenginev1.GetDriftResponse, error) {
			return w.drift(ctx)
		},
		ShadowTimeout: 60 * time.Millisecond, Host: "trader-7", Metrics: w.metrics, Logger: slog.New(slog.DiscardHandler),
	})
}

// decoded returns the received status.
func decoded(t *testing.T, raw []byte) *Status {
	t.Helper()
	s := new(Status)
	if err := json.Unmarshal(raw, s); err != nil {
		t.Fatalf("%v in %s", err, raw)
	}
	return s
}
