package app_test

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/greenlight-ml/greenlight/pkg/testkit/tracetest"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/executor/internal/app"
)

func gateOf(digest string) *executorv1.SetRolloutRequest {
	return &executorv1.SetRolloutRequest{
		Percent: 100, Mode: executorv1.RolloutMode_ROLLOUT_MODE_GATED, Lease: durationpb.New(time.Hour), Holder: "gate-1", Reason: "test",
		Plan: &executorv1.QualityPlan{
			DisagreementCap: 1, Margin: 0.01, Alpha: 0.05, LabelSource: executorv1.LabelSource_LABEL_SOURCE_REPORTED, Horizon: durationpb.New(time.Minute),
		},
		// The wait budget is long, so that the model decides even on a slow machine.
		Gate: &executorv1.Gate{ModelDigest: digest, AllSymbols: true, WaitBudget: durationpb.New(10 * time.Second)},
	}
}

func TestAllowGatedNeedsAStateFolder(t *testing.T) {
	o := options(t, loopback(t))
	o.AllowGated = true
	if err := app.Run(t.Context(), o, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "--allow-gated needs --state-dir") {
		t.Errorf("got %v", err)
	}
}

// Without --allow-gated no one can let a model decide.
func TestGateIsNotAllowed(t *testing.T) {
	engine := loopback(t)
	o := options(t, engine)
	o.Control.Insecure, o.StateDir = true, t.TempDir()
	r := start(t, o)
	r.reached()
	_, err := executorv1.NewRolloutServiceClient(r.Conn).SetRollout(t.Context(), gateOf(engine.Model().Digest()))
	if status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "--allow-gated") {
		t.Errorf("got %v", err)
	}
}

// The model decides in the whole program. A signal, and a restart after it, return decisions to the baseline. The spans of
// a decision and of its shadow name who decided.
func TestGateOfRunningExecutor(t *testing.T) {
	engine, collector := loopback(t), tracetest.Start(t)
	o := options(t, engine)
	o.Tracing.Endpoint, o.Tracing.Ratio = collector.Addr, 1
	kill := make(chan os.Signal, 1)
	o.Control.Insecure, o.StateDir, o.AllowGated, o.Kill = true, t.TempDir(), true, kill
	r := start(t, o)
	r.reached()
	decisions, rollouts := executorv1.NewDecisionServiceClient(r.Conn), executorv1.NewRolloutServiceClient(r.Conn)
	if _, err := rollouts.SetRollout(t.Context(), gateOf(engine.Model().Digest())); err != nil {
		t.Fatal(err)
	}
	calm := &executorv1.FeatureVector{Schema: "v1.8.1", Values: []float64{1, 0, 0, 0, 0, 0, 0}}
	decide := func(score float64, reason executorv1.FallbackReason) {
		t.Helper()
		got, err := decisions.Predict(t.Context(), &executorv1.PredictRequest{Vector: calm})
		if err != nil || got.GetScore() != score || got.GetGate().GetFallbackReason() != reason {
			t.Errorf("got %v, %v; want %v, %v", got, err, score, reason)
		}
	}
	baseline, err := decisions.PredictWithShadow(t.Context(), &executorv1.PredictWithShadowRequest{Vector: calm})
	if err != nil {
		t.Fatal(err)
	}
	decide(engine.Model().Scorer.Score(calm.GetValues()), 0)
	if _, page := r.Get("/metrics"); !strings.Contains(page, "\nml_gate_open 1\n") || !strings.Contains(page, `ml_decisions_total{decided_by="model",reason="none"} 1`) || !strings.Contains(page, "\nml_gate_percent 100\n") {
		t.Errorf("the metrics do not have the gate:\n%s", page)
	}
	kill <- syscall.SIGUSR1
	for {
		got, err := rollouts.GetRollout(t.Context(), &executorv1.GetRolloutRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if len(got.GetGate().GetLatches()) > 0 && got.GetRollout().GetMode() == executorv1.RolloutMode_ROLLOUT_MODE_OBSERVE_ONLY {
			break
		}
	}
	decide(baseline.GetBaseline().GetScore(), executorv1.FallbackReason_FALLBACK_REASON_KILLED)
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	spans := collector.Spans()
	const service = "greenlight.executor.v1.DecisionService/"
	for name, want := range map[string][]string{
		service + "Predict": {"baseline killed", "model"}, service + "PredictWithShadow": {"baseline not_selected"},
		"shadow": {"baseline killed", "baseline not_selected", "model"},
	} {
		var got []string
		for _, s := range tracetest.Find(spans, "executor", name) {
			reason, _ := s.Attributes["greenlight.gate.reason"].(string)
			got = append(got, strings.TrimSpace(fmt.Sprint(s.Attributes["greenlight.gate.decided_by"], " ", reason)))
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("the spans %s have %q, want %q", name, got, want)
		}
	}
	o.Tracing.Endpoint = ""
	o.AddressFile = filepath.Join(t.TempDir(), "addresses")
	r = start(t, o)
	r.reached()
	decisions, rollouts = executorv1.NewDecisionServiceClient(r.Conn), executorv1.NewRolloutServiceClient(r.Conn)
	decide(baseline.GetBaseline().GetScore(), executorv1.FallbackReason_FALLBACK_REASON_KILLED)
	got, err := rollouts.GetRollout(t.Context(), &executorv1.GetRolloutRequest{})
	if l := got.GetGate().GetLatches(); err != nil || len(l) != 1 || l[0].GetSetBy() != "signal" || got.GetRollout().GetMode() != executorv1.RolloutMode_ROLLOUT_MODE_OBSERVE_ONLY {
		t.Errorf("after a restart: %v, %v", got, err)
	}
}
