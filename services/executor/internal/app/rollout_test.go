package app_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/greenlight-ml/greenlight/pkg/shadow"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/executor/internal/app"
)

func observe(percent float64) *executorv1.SetRolloutRequest {
	mode := executorv1.RolloutMode_ROLLOUT_MODE_OBSERVE_ONLY
	if percent == 0 {
		mode = executorv1.RolloutMode_ROLLOUT_MODE_OFF
	}
	return &executorv1.SetRolloutRequest{Percent: percent, Mode: mode, Reason: "test"}
}

func TestRolloutNeedsAnOperator(t *testing.T) {
	const token = "let-me-in-let-me-in"
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		change func(*app.Options)
		given  string
		want   codes.Code
		by     string
	}{
		"control is off":   {func(*app.Options) {}, token, codes.PermissionDenied, ""},
		"no token":         {func(o *app.Options) { o.Control.TokenFile = path }, "", codes.Unauthenticated, ""},
		"another token":    {func(o *app.Options) { o.Control.TokenFile = path }, "open-sesame-open-sesame", codes.PermissionDenied, ""},
		"the token":        {func(o *app.Options) { o.Control.TokenFile = path }, token, codes.OK, "token"},
		"open on loopback": {func(o *app.Options) { o.Control.Insecure = true }, "", codes.OK, "loopback"},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t, loopback(t))
			tt.change(o)
			r := start(t, o)
			ctx := t.Context()
			if tt.given != "" {
				ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+tt.given)
			}
			r.reached()
			// Anyone may watch, but only an operator may see features.
			want := tt.want
			if want == codes.Unauthenticated {
				want = codes.PermissionDenied
			}
			for features, want := range map[bool]codes.Code{false: codes.OK, true: want} {
				if got := firstComparison(ctx, r, features); status.Code(got) != want {
					t.Errorf("watch, features %v: got %v, want %s", features, got, want)
				}
			}
			rollouts := executorv1.NewRolloutServiceClient(r.Conn)
			calls := map[string]error{}
			var set *executorv1.SetRolloutResponse
			set, calls["set"] = rollouts.SetRollout(ctx, observe(50))
			_, calls["get"] = rollouts.GetRollout(ctx, &executorv1.GetRolloutRequest{})
			_, calls["abort"] = rollouts.AbortRollout(ctx, &executorv1.AbortRolloutRequest{})
			_, calls["reset"] = executorv1.NewFeedServiceClient(r.Conn).ResetSymbol(ctx, &executorv1.ResetSymbolRequest{Symbol: "none"})
			if status.Code(calls["reset"]) == codes.NotFound { // it was admitted
				calls["reset"] = nil
			}
			for call, err := range calls {
				if status.Code(err) != tt.want {
					t.Errorf("%s: got %v, want %s", call, err, tt.want)
				}
			}
			if tt.want == codes.OK && (set.GetRollout().GetSetBy() != tt.by || !strings.HasPrefix(set.GetRollout().GetSetFrom(), "127.0.0.1:")) {
				t.Errorf("set by %q from %q, want %q and where the call came from", set.GetRollout().GetSetBy(), set.GetRollout().GetSetFrom(), tt.by)
			}
			if got := strings.Count(r.Log(), `msg="control call"`); got != 5 {
				t.Errorf("%d lines of audit, want one for every call, but none for a watch without features:\n%s", got, r.Log())
			}
		})
	}
}

// firstComparison watches until the first comparison, and checks what it has.
func firstComparison(ctx context.Context, r *running, features bool) error {
	stream, err := executorv1.NewShadowServiceClient(r.Conn).WatchComparisons(ctx, &executorv1.WatchComparisonsRequest{IncludeFeatures: features})
	if err != nil {
		return err
	}
	if header, err := stream.Header(); err != nil || header == nil { // it was refused
		_, err = stream.Recv()
		return err
	}
	if features && !strings.Contains(r.Log(), "/greenlight.executor.v1.ShadowService/WatchComparisons") {
		return errors.New("no audit line is written before the first feature")
	}
	_, err = executorv1.NewDecisionServiceClient(r.Conn).PredictWithShadow(ctx, &executorv1.PredictWithShadowRequest{RequestId: "seen", Vector: vector()})
	if err != nil {
		return err
	}
	c, err := stream.Recv()
	if err != nil {
		return err
	}
	if c.GetRequestId() != "seen" || (c.GetFeatures() != nil) != features || features && !slices.Equal(c.GetFeatures().GetValues(), vector().GetValues()) {
		return fmt.Errorf("got %v", c)
	}
	return nil
}

func TestInsecureControlIsForLoopback(t *testing.T) {
	o := options(t, loopback(t))
	o.GRPCAddr, o.Control.Insecure = "0.0.0.0:0", true
	if err := app.Run(t.Context(), o, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "--control-token-file") {
		t.Errorf("got %v, want a refusal that names --control-token-file", err)
	}
}

// The percentage changes under load, and the baseline's answers do not. Report, metrics and answers agree, and a restart
// continues with the percentage.
func TestRolloutOfRunningExecutor(t *testing.T) {
	o := options(t, loopback(t))
	o.Control.Insecure, o.StateDir = true, t.TempDir()
	r := start(t, o)
	r.reached()
	decisions, reports := executorv1.NewDecisionServiceClient(r.Conn), executorv1.NewShadowServiceClient(r.Conn)
	rollouts := executorv1.NewRolloutServiceClient(r.Conn)
	var baseline float64
	var sent, sampled uint64
	for _, percent := range []float64{0, 50, 100, 0} {
		if _, err := rollouts.SetRollout(t.Context(), observe(percent)); err != nil {
			t.Fatal(err)
		}
		in := 0
		for i := range 40 {
			resp, err := decisions.PredictWithShadow(t.Context(), &executorv1.PredictWithShadowRequest{RequestId: fmt.Sprint("r", i), Vector: vector()})
			if err != nil {
				t.Fatal(err)
			}
			if sent++; sent == 1 {
				baseline = resp.GetBaseline().GetScore()
			}
			if resp.GetBaseline().GetScore() != baseline {
				t.Errorf("at %g %% the baseline is %v, and it was %v", percent, resp.GetBaseline().GetScore(), baseline)
			}
			if shadow.Outcome(resp.GetOutcome()) != shadow.NotSampled {
				in++
			}
		}
		sampled += uint64(in)
		if (in == 0) != (percent == 0) || (in == 40) != (percent == 100) {
			t.Errorf("at %g %% %d of 40 requests got a shadow", percent, in)
		}
		report, err := reports.GetShadowReport(t.Context(), &executorv1.GetShadowReportRequest{})
		if err != nil || report.GetSamplePercent() != percent || report.GetBaselineTotal() != sent {
			t.Errorf("report: %g %% and %d answers (%v), want %g %% and %d", report.GetSamplePercent(), report.GetBaselineTotal(), err, percent, sent)
		}
		tried := uint64(0)
		for _, n := range report.GetLatencyMsTotal().GetCounts() {
			tried += n
		}
		if h := report.GetLatencyMsTotal(); tried != sampled || len(h.GetCounts()) != len(h.GetEdges())+1 {
			t.Errorf("%d shadows in %d buckets with %d edges, want %d", tried, len(h.GetCounts()), len(h.GetEdges()), sampled)
		}
		if _, body := r.Get("/metrics"); !strings.Contains(body, fmt.Sprintf("\nml_rollout_percent %g\n", percent)) {
			t.Errorf("metrics do not say %g %%", percent)
		}
	}
	lease := observe(100)
	lease.Lease, lease.Holder = durationpb.New(60e9), "run-1"
	set, err := rollouts.SetRollout(t.Context(), lease)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	o.AddressFile += "-again" // the first process has removed its file
	again := start(t, o)
	rollouts = executorv1.NewRolloutServiceClient(again.Conn)
	got, err := rollouts.GetRollout(t.Context(), &executorv1.GetRolloutRequest{})
	if r := got.GetRollout(); err != nil || r.GetPercent() != 0 || !r.GetAwaitingRenewal() || r.GetHolder() != "run-1" || got.GetInstanceId() == set.GetInstanceId() {
		t.Errorf("after a restart: %v (%v), want 0 %% until run-1 renews its lease, of another process", got, err)
	}
	renewed, err := rollouts.SetRollout(t.Context(), lease)
	if r := renewed.GetRollout(); err != nil || r.GetPercent() != 100 || r.GetRevision() != set.GetRollout().GetRevision() {
		t.Errorf("renewed: %v (%v), want %v", renewed, err, set)
	}
	o.AddressFile += "-second"
	if err := app.Run(context.WithoutCancel(t.Context()), o, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "give each executor a separate folder") {
		t.Errorf("a second executor in the folder: got %v", err)
	}
}
