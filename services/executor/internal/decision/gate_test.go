package decision_test

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	pb "google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/executor/internal/gate"
)

const gatedMode = executorv1.RolloutMode_ROLLOUT_MODE_GATED

// openGate is a request for a gate that lets the model of the engine decide everything.
func (e *executor) openGate() *executorv1.SetRolloutRequest {
	return &executorv1.SetRolloutRequest{
		Percent: 100, Mode: gatedMode, Lease: durationpb.New(time.Hour), Holder: "gate-1", Reason: "test",
		Plan: &executorv1.QualityPlan{
			DisagreementCap: 1, Margin: 0.01, Alpha: 0.05, LabelSource: executorv1.LabelSource_LABEL_SOURCE_REPORTED, Horizon: durationpb.New(15 * time.Minute),
		},
		Gate: &executorv1.Gate{ModelDigest: e.engine.Model().Digest(), AllSymbols: true, MaxChangedPercent: pb.Float64(100)},
	}
}

// behindGate starts executor in the folder with an open gate, unless a change makes it another request.
func behindGate(t *testing.T, dir string, engine enginetest.Options, changes ...func(*executorv1.SetRolloutRequest)) *executor {
	t.Helper()
	e := start(t, engine, 100, func(s *setup) { s.gated = dir })
	req := e.openGate()
	for _, change := range changes {
		change(req)
	}
	e.set(req)
	return e
}

func (e *executor) set(req *executorv1.SetRolloutRequest) *executorv1.Rollout {
	e.t.Helper()
	resp, err := e.control.SetRollout(e.t.Context(), req)
	if err != nil {
		e.t.Fatal(err)
	}
	return resp.GetRollout()
}

// calm is a request whose features are within the range of the training data. The shadows of earlier ones have ended.
func (e *executor) calm(id string) *executorv1.PredictRequest {
	time.Sleep(timeout)
	r := e.request(id)
	for i, f := range schema(e.t, "v1.8.1").Features {
		if f.Name != feature.Bias {
			r.Vector.Values[i] /= 4
		}
	}
	return r
}

// scores returns the scores of the baseline and of the model, computed independently of the service.
func (e *executor) scores(r *executorv1.PredictRequest) (baseline, model float64) {
	x := r.GetVector().GetValues()
	return e.baselineOf(schema(e.t, "v1.8.1"), x), e.engine.Model().Scorer.Score(x)
}

// must returns the decision.
func (e *executor) must(r *executorv1.PredictRequest) *executorv1.PredictResponse {
	e.t.Helper()
	resp, err := e.Predict(e.t.Context(), r)
	if err != nil {
		e.t.Fatal(err)
	}
	return resp
}

func reasonWord(r executorv1.FallbackReason) string {
	return strings.ToLower(strings.TrimPrefix(r.String(), "FALLBACK_REASON_"))
}

// wantDecision checks every field of a decision of the request. reason is empty if the model must have decided.
func (e *executor) wantDecision(what string, r *executorv1.PredictRequest, got *executorv1.PredictResponse, reason string) {
	e.t.Helper()
	baseline, model := e.scores(r)
	score, version, digest, by := baseline, e.formula.Version, e.formula.Digest(), executorv1.Decider_DECIDER_BASELINE
	why := executorv1.FallbackReason(executorv1.FallbackReason_value["FALLBACK_REASON_"+strings.ToUpper(reason)])
	if reason == "" {
		score, version, digest, by = model, e.engine.Model().Manifest.Version, e.engine.Model().Digest(), executorv1.Decider_DECIDER_MODEL
	}
	now := e.rollouts.Report()
	want := &executorv1.PredictResponse{
		RequestId: r.GetRequestId(), Score: score, ModelVersion: version, ModelDigest: digest, ShadowSampled: got.GetShadowSampled(),
		Gate: &executorv1.GateDecision{
			DecidedBy: by, FallbackReason: why, BaselineScore: baseline, BaselineDigest: e.formula.Digest(),
			ModelDigest: now.GetGate().GetModelDigest(), RolloutRevision: now.GetRevision(),
		},
	}
	if !pb.Equal(got, want) || math.Float64bits(got.GetScore()) != math.Float64bits(score) {
		e.t.Errorf("%s: got\n%v, want\n%v", what, got, want)
	}
}

// decisions returns the counts of decisions by reason; the model's have none. It checks that they add up to all requests.
func (e *executor) decisions() map[string]uint64 {
	e.t.Helper()
	got, err := e.control.GetRollout(e.t.Context(), &executorv1.GetRolloutRequest{})
	if err != nil {
		e.t.Fatal(err)
	}
	counts, sum := map[string]uint64{}, uint64(0)
	for _, c := range got.GetGate().GetDecisions() {
		sum += c.GetCount()
		if c.GetCount() > 0 {
			counts[strings.TrimPrefix(reasonWord(c.GetFallbackReason()), "unspecified")] = c.GetCount()
		}
		if (c.GetDecidedBy() == executorv1.Decider_DECIDER_MODEL) != (c.GetFallbackReason() == 0) {
			e.t.Errorf("%v", c)
		}
	}
	if r, _ := e.report(); sum != r.GetRequestsTotal() {
		e.t.Errorf("%d requests, but %d decisions: %v", r.GetRequestsTotal(), sum, counts)
	}
	return counts
}

// Each guard of the gate alone makes the baseline decide, with its reason, and without it the model decides.
func TestGateGuards(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		e := behindGate(t, dir, enginetest.Options{})
		kill := func() {
			if _, err := e.control.KillGate(t.Context(), &executorv1.KillGateRequest{Reason: "test"}); err != nil {
				t.Fatal(err)
			}
		}
		alarm := func(which executorv1.GateLatch) func() {
			return func() {
				req := &executorv1.RaiseGateAlarmRequest{Alarm: which, ModelDigest: e.engine.Model().Digest(), Reason: "test"}
				if _, err := e.control.RaiseGateAlarm(t.Context(), req); err != nil {
					t.Fatal(err)
				}
			}
		}
		clear := func(which executorv1.GateLatch) func() {
			return func() {
				req := &executorv1.ClearGateLatchesRequest{Latches: []executorv1.GateLatch{which}, Reason: "test"}
				if _, err := e.control.ClearGateLatches(t.Context(), req); err != nil {
					t.Fatal(err)
				}
			}
		}
		reopen := func(change func(*executorv1.SetRolloutRequest)) {
			if _, err := e.control.AbortRollout(t.Context(), &executorv1.AbortRolloutRequest{}); err != nil {
				t.Fatal(err)
			}
			req := e.openGate()
			req.ExpectedRevision = e.rollouts.Report().GetRevision()
			change(req)
			e.set(req)
		}
		file := filepath.Join(dir, "gate.kill")
		for _, tt := range []struct {
			name, reason string
			// before makes the guard fail, and after ends that.
			before, after func()
			terms         func(*executorv1.SetRolloutRequest)
			request       func(*executorv1.PredictRequest)
			fault         enginetest.Fault
		}{
			{name: "none"},
			{name: "kill", reason: "killed", before: kill, after: clear(executorv1.GateLatch_GATE_LATCH_KILLED)},
			{name: "file", reason: "killed", before: func() {
				if err := os.WriteFile(file, nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}, after: func() {
				if err := os.Remove(file); err != nil {
					t.Fatal(err)
				}
				clear(executorv1.GateLatch_GATE_LATCH_KILLED)()
			}},
			{name: "signal", reason: "killed", before: func() {
				if err := e.gate.Kill(gate.BySignal, "", "user defined signal 1"); err != nil {
					t.Fatal(err)
				}
			}, after: clear(executorv1.GateLatch_GATE_LATCH_KILLED)},
			{name: "quality", reason: "quality_alarm", before: alarm(executorv1.GateLatch_GATE_LATCH_QUALITY_ALARM), after: clear(executorv1.GateLatch_GATE_LATCH_QUALITY_ALARM)},
			{name: "drift", reason: "drift_alarm", before: alarm(executorv1.GateLatch_GATE_LATCH_DRIFT_ALARM), after: clear(executorv1.GateLatch_GATE_LATCH_DRIFT_ALARM)},
			{name: "lapse", reason: "lease_lapsed", before: func() { time.Sleep(time.Hour) }},
			{name: "percent", reason: "not_selected", terms: func(r *executorv1.SetRolloutRequest) { r.Percent = 0 }},
			{name: "symbol", reason: "not_selected", terms: func(r *executorv1.SetRolloutRequest) { r.Gate.AllSymbols, r.Gate.Symbols = false, []string{"T", "SS"} }},
			{name: "symbols", terms: func(r *executorv1.SetRolloutRequest) { r.Gate.AllSymbols, r.Gate.Symbols = false, []string{"T", "S"} }},
			{name: "unobserved", reason: "not_selected", terms: func(r *executorv1.SetRolloutRequest) { r.Percent, r.Gate.ObservePercent = 0, pb.Float64(0) }},
			{name: "model", reason: "model_changed", fault: enginetest.Version("other", strings.Repeat("ab", 32))},
			{name: "old features", reason: "features_stale", request: func(r *executorv1.PredictRequest) { r.EventTime = timestamppb.New(time.Now().Add(-2*time.Minute - 1)) }},
			{name: "just not old", request: func(r *executorv1.PredictRequest) { r.EventTime = timestamppb.New(time.Now().Add(-2 * time.Minute)) }},
			{name: "an invalid time", request: func(r *executorv1.PredictRequest) { r.EventTime = &timestamppb.Timestamp{Seconds: -1} }},
			{name: "out of domain", reason: "out_of_domain", request: func(r *executorv1.PredictRequest) { r.Vector.Values[3] = 9 }},
			{name: "unavailable", reason: "unavailable", fault: enginetest.Fail(codes.Unavailable)},
			{name: "internal", reason: "internal", fault: enginetest.Fail(codes.Internal)},
			{name: "rejected", reason: "rejected", fault: enginetest.Fail(codes.InvalidArgument)},
			{name: "hang", reason: "deadline", fault: enginetest.Hang()},
			{name: "NaN", reason: "invalid_score", fault: enginetest.Answer(math.NaN())},
			{name: "below the range", reason: "invalid_score", terms: func(r *executorv1.SetRolloutRequest) { r.Gate.MinScore = pb.Float64(1) }},
			{name: "above the range", reason: "invalid_score", terms: func(r *executorv1.SetRolloutRequest) { r.Gate.MaxScore = pb.Float64(0) }},
			{name: "disagreement", reason: "disagreement", terms: func(r *executorv1.SetRolloutRequest) { r.Plan.DisagreementCap, r.Plan.Margin = 1e-9, 1e-12 }},
		} {
			if tt.terms != nil {
				reopen(tt.terms)
			}
			if tt.before != nil {
				tt.before()
			}
			e.engine.Break(tt.fault)
			r := e.calm(tt.name)
			if tt.request != nil {
				tt.request(r)
			}
			got := e.must(r)
			e.wantDecision(tt.name, r, got, tt.reason)
			if want := tt.name != "unobserved" && tt.name != "lapse"; got.GetShadowSampled() != want {
				t.Errorf("%s: sampled is %v", tt.name, got.GetShadowSampled())
			}
			time.Sleep(timeout)
			e.engine.Heal()
			if tt.after != nil {
				tt.after()
				r := e.calm("after " + tt.name)
				e.wantDecision("after "+tt.name, r, e.must(r), "lease_lapsed") // clearing opens nothing
			}
			if tt.before != nil || tt.terms != nil {
				reopen(func(*executorv1.SetRolloutRequest) {})
			}
			r = e.calm("again " + tt.name)
			e.wantDecision("again "+tt.name, r, e.must(r), "")
		}
		e.decisions()
	})
}
