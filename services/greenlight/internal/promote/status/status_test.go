package status

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/oip"
	"github.com/greenlight-ml/greenlight/pkg/oip/gen/inference"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/canary"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

const digest = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// services are an in-memory ml-engine and executor. Their answers are contradictory: some required fields are missing.
type services struct {
	mlenginev1.ScoringServiceClient
	mlenginev1.DriftServiceClient
	executorv1.ShadowServiceClient
	executorv1.RolloutServiceClient

	now                          time.Time
	info, drift, report, rollout error
	noDrift, noShadow, unleased  bool
	noWindow, decides, ofServer  bool
	gate                         *executorv1.GateStatus
}

func (s *services) GetModelInfo(context.Context, *mlenginev1.GetModelInfoRequest, ...grpc.CallOption) (*mlenginev1.GetModelInfoResponse, error) {
	return &mlenginev1.GetModelInfoResponse{Version: "v1.8.1-rc1", Digest: digest, LoadTime: timestamppb.New(s.now.Add(-3 * time.Hour))}, s.info
}

func (s *services) GetDrift(context.Context, *mlenginev1.GetDriftRequest, ...grpc.CallOption) (*mlenginev1.GetDriftResponse, error) {
	if s.noDrift {
		return &mlenginev1.GetDriftResponse{}, s.drift
	}
	reading := func(psi float64) *mlenginev1.DriftReading {
		return &mlenginev1.DriftReading{Psi: psi, NullQ99: proto.Float64(0.3), Verdict: mlenginev1.DriftVerdict_DRIFT_VERDICT_PASS}
	}
	return &mlenginev1.GetDriftResponse{
		Rows: 10080, Days: 7, Overall: reading(0.123),
		Features: []*mlenginev1.FeatureDrift{
			{Feature: "rsi14_z", Role: "feature", Reading: reading(0.1)},
			{Feature: "vol1m_log_rel", Role: "feature", Reading: reading(0.25)},
			{Feature: "mid", Role: "raw", Reading: reading(5)},
		},
	}, s.drift
}

func (s *services) GetShadowReport(context.Context, *executorv1.GetShadowReportRequest, ...grpc.CallOption) (*executorv1.GetShadowReportResponse, error) {
	r := &executorv1.GetShadowReportResponse{
		StartTime: timestamppb.New(s.now.Add(-90 * time.Second)), RequestsTotal: 12345, BaselineVersion: "heuristic-v1", BaselineDigest: digest,
		Breaker: &executorv1.BreakerStatus{State: executorv1.BreakerState_BREAKER_STATE_CLOSED, Blind: s.noShadow},
		Window:  &executorv1.ShadowWindow{Length: durationpb.New(10 * time.Minute)},
	}
	if !s.noShadow {
		r.ShadowVersion, r.ShadowDigest = "v1.8.1-rc1", digest
		if s.ofServer {
			r.ShadowVersion, r.ShadowDigest = oip.Identity("m", "1")
		}
		r.Window.Comparisons, r.Window.MatchRate, r.Window.ErrorRate, r.Window.Coverage = 1000, proto.Float64(0.987), proto.Float64(0), proto.Float64(0.05)
		r.Window.MatchRateLow, r.Window.MatchRateHigh = proto.Float64(0.978), proto.Float64(0.992)
		r.Window.LatencyMs = &executorv1.Quantiles{Count: 1000, P95: 2.5}
	}
	if s.decides {
		r.MatchTolerance, r.DecisionThreshold = 0.1, 0.6
		r.Window.Decisions = &executorv1.DecisionAgreement{Agreement: proto.Float64(0.96), Kappa: proto.Float64(0.9)}
	}
	if s.noWindow {
		r.Window = nil
	}
	return r, s.report
}

func (s *services) GetRollout(context.Context, *executorv1.GetRolloutRequest, ...grpc.CallOption) (*executorv1.GetRolloutResponse, error) {
	r := &executorv1.Rollout{
		Percent: 25, Mode: executorv1.RolloutMode_ROLLOUT_MODE_OBSERVE_ONLY, SetBy: "operator", SetFrom: "10.0.0.1:4", Reason: "phase 3",
		SetTime: timestamppb.New(s.now.Add(-5 * time.Second)),
	}
	if !s.unleased {
		r.Holder, r.LeaseExpireTime = "run-1", timestamppb.New(s.now.Add(20*time.Second))
	}
	if s.gate != nil {
		r.Mode, r.Gate = executorv1.RolloutMode_ROLLOUT_MODE_GATED, &executorv1.Gate{ModelDigest: digest}
	}
	return &executorv1.GetRolloutResponse{Rollout: r, Gate: s.gate}, s.rollout
}

func (s *services) pair() *fleet.Services {
	return &fleet.Services{
		Engines:   []fleet.Engine{{Addr: "engine-a", Scoring: s, Drift: s, Inference: modelServer{is: s.ofServer}}},
		Executors: []fleet.Executor{{Addr: "executor-a", Shadows: s, Rollouts: s}},
	}
}

// modelServer is an in-memory model server, or another program.
type modelServer struct {
	inference.GRPCInferenceServiceClient

	is bool
}

func (m modelServer) ServerMetadata(context.Context, *inference.ServerMetadataRequest, ...grpc.CallOption) (*inference.ServerMetadataResponse, error) {
	if !m.is {
		return nil, status.Error(codes.Unimplemented, "unknown service inference.GRPCInferenceService")
	}
	return &inference.ServerMetadataResponse{Name: "triton", Version: "2.46.0"}, nil
}

// folder is evidence with two canaries, the older of which was written last.
func folder(t *testing.T, now time.Time) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "evidence")
	store, err := evidence.Open(dir, evidence.Options{})
	if err != nil {
		t.Fatal(err)
	}
	header := evidence.Header{Schema: "test/v1", Source: evidence.Live, Model: &evidence.Model{Version: "v1.8.1-rc1", Digest: digest}}
	write := func(name string, r canary.Record) error { return store.WriteJSON(name, header, r) }
	err = errors.Join(
		write("canary_run_2.json", canary.Record{StartTime: now.Add(-time.Hour), Decision: canary.Aborted, Reason: "match rate of 85 %"}),
		write("canary_run_1.json", canary.Record{StartTime: now.Add(-2 * time.Hour), Decision: canary.Passed}),
		store.WriteJSON("canary_preflight.json", header, map[string]string{}), store.Close())
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// screen returns the status as shown to people.
func screen(t *testing.T, s *Status) string {
	t.Helper()
	var out bytes.Buffer
	if err := s.Screen(&out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestScreen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // the clock stands still
		s := &services{now: time.Now()}
		dir := folder(t, s.now)
		got := Read(t.Context(), s.pair(), dir, canary.State("no/state"))
		if !got.Reached() {
			t.Errorf("not reached: %+v", got)
		}
		want := `engine    engine-a serves v1.8.1-rc1 (0123456789ab) since 1999-12-31T21:00:00Z (3h ago)
drift     overall PSI 0.123 (null 99 % 0.300) PASS, worst vol1m_log_rel 0.250, 10080 rows of 7 days
executor  executor-a decides by heuristic-v1 (0123456789ab), 12345 requests since 1999-12-31T23:58:30Z (1m30s ago)
shadow    v1.8.1-rc1 (0123456789ab): match rate 98.7 % (97.8 % to 99.20 %) of 1000 in 10m, coverage 5.0 %, error rate 0.0 %, p95 2.5 ms, breaker CLOSED
rollout   25 %, OBSERVE_ONLY, held by run-1 for 20.0 s more, set by operator from 10.0.0.1:4 1999-12-31T23:59:55Z (5s ago): phase 3
evidence  ` + dir + ` holds: 3 files, head ` + got.Evidence.Head + `
canary    run-1 holds executor-a at 25 % for 20.0 s more; it has no journal in no/state: it runs on another machine, or with another --state
canary    ABORTED canary_run_2.json (live), v1.8.1-rc1 (0123456789ab), begun 1999-12-31T23:00:00Z (1h ago): match rate of 85 %
`
		if text := screen(t, got); text != want {
			t.Errorf("got\n%s\nwant\n%s", text, want)
		}
		raw, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		var keys struct {
			Executors []struct {
				Rollout struct {
					LeaseLeftS *float64 `json:"lease_left_s"`
				} `json:"rollout"`
			} `json:"executors"`
		}
		if err := json.Unmarshal(raw, &keys); err != nil || *keys.Executors[0].Rollout.LeaseLeftS != 20 {
			t.Errorf("%s, %v", raw, err)
		}
	})
}

// Each missing part is reported, hides no other part, and counts as not reached unless it is an answer.
func TestParts(t *testing.T) {
	t.Parallel()
	away := status.Error(codes.Unavailable, "connection refused")
	noEngine := status.Error(codes.Unimplemented, "unknown service greenlight.mlengine.v1.ScoringService")
	for name, test := range map[string]struct {
		services services
		evidence func(*testing.T) string
		want     string
		reached  bool
	}{
		"engine away":       {services: services{info: away}, want: "engine    engine-a does not answer: Unavailable: connection refused"},
		"model server":      {services: services{info: noEngine, drift: noEngine, ofServer: true}, want: "engine    engine-a is a model server of the Open Inference Protocol, triton 2.46.0\ndrift     no PSI: a model server of the Open Inference Protocol reports no drift\n", reached: true},
		"its model":         {services: services{info: noEngine, drift: noEngine, ofServer: true}, want: ") of a model server: match rate", reached: true},
		"another program":   {services: services{info: noEngine, drift: noEngine}, want: "engine    engine-a does not answer: Unimplemented"},
		"drift away":        {services: services{drift: away}, want: "drift     cannot be asked: Unavailable: connection refused"},
		"no profile":        {services: services{drift: status.Error(codes.FailedPrecondition, "the model has no drift profile")}, want: "drift     no PSI: the model has no drift profile", reached: true},
		"nothing scored":    {services: services{noDrift: true}, want: "drift     no PSI: nothing was scored", reached: true},
		"executor away":     {services: services{report: away, rollout: away}, want: "executor  executor-a does not answer: Unavailable"},
		"rollout away":      {services: services{rollout: away}, want: "rollout   cannot be asked: Unavailable"},
		"no shadow yet":     {services: services{noShadow: true}, want: "shadow    no model has answered yet; breaker CLOSED (too few requests to judge)", reached: true},
		"decisions":         {services: services{decides: true}, want: "match rate 98.7 % (97.8 % to 99.20 %) within 0.1 of 1000 in 10m, same decision at 0.6 in 96.0 % (kappa 0.900), coverage 5.0 %", reached: true},
		"no window":         {services: services{noWindow: true}, want: "match rate", reached: true},
		"nobody's":          {services: services{unleased: true}, want: "rollout   25 %, OBSERVE_ONLY, set by operator", reached: true},
		"a gate":            {services: services{gate: gateStatus(true)}, want: "decides   the model, behind an open gate; decisions since start: model 240, baseline 760 (not_selected 750, deadline 10); changed 3 of 900 requests in the last hour, at most 100\n", reached: true},
		"a latch":           {services: services{gate: gateStatus(false)}, want: "decides   the baseline, because the gate is shut: killed by token:alice at 2026-11-30T03:04:05Z: wild\ufffd orders; decisions since start: model 240", reached: true},
		"no evidence":       {evidence: func(*testing.T) string { return "nowhere" }, want: "evidence  nowhere cannot be read: there is no folder nowhere"},
		"evidence damaged":  {evidence: damaged, want: "DOES NOT VERIFY: ", reached: true},
		"no canary":         {services: services{unleased: true}, evidence: empty, want: "canary    none yet", reached: true},
		"canary unreadable": {evidence: unreadable, want: "canary    canary_run_1.json cannot be read: ", reached: true},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			s := test.services
			s.now = time.Now()
			var dir string
			if test.evidence != nil {
				dir = test.evidence(t)
			} else {
				dir = folder(t, s.now)
			}
			got := Read(t.Context(), s.pair(), dir, canary.State("no/state"))
			if text := screen(t, got); !strings.Contains(text, test.want) || strings.Count(text, "\n") < 4 {
				t.Errorf("want %q in\n%s", test.want, text)
			}
			if got.Reached() != test.reached {
				t.Errorf("reached %v", got.Reached())
			}
		})
	}
}

// gateStatus is the state of a gate that was open; it is killed unless it is still.
func gateStatus(open bool) *executorv1.GateStatus {
	g := &executorv1.GateStatus{Allowed: true, Open: open, HourRequests: 900, HourChanged: 3, HourChangedLimit: 100, Decisions: []*executorv1.GateDecisionCount{
		{DecidedBy: executorv1.Decider_DECIDER_MODEL, Count: 240},
		{DecidedBy: executorv1.Decider_DECIDER_BASELINE, FallbackReason: executorv1.FallbackReason_FALLBACK_REASON_NOT_SELECTED, Count: 750},
		{DecidedBy: executorv1.Decider_DECIDER_BASELINE, FallbackReason: executorv1.FallbackReason_FALLBACK_REASON_DEADLINE, Count: 10},
	}}
	if !open {
		g.Latches = []*executorv1.GateLatchState{{
			Latch: executorv1.GateLatch_GATE_LATCH_KILLED, SetBy: "token:alice", Reason: "wild\x1b orders",
			SetTime: timestamppb.New(time.Date(2026, 11, 30, 3, 4, 5, 0, time.UTC)),
		}}
	}
	return g
}

func damaged(t *testing.T) string {
	t.Helper()
	dir := folder(t, time.Now())
	if err := os.WriteFile(filepath.Join(dir, "canary_run_1.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func empty(t *testing.T) string { return written(t, "note.txt", "seen") }

func unreadable(t *testing.T) string {
	t.Helper()
	dir := empty(t)
	if err := os.WriteFile(filepath.Join(dir, "canary_run_1.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// written is evidence with one file.
func written(t *testing.T, name, text string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "evidence")
	store, err := evidence.Open(dir, evidence.Options{})
	if err == nil {
		err = errors.Join(store.WriteFile(name, []byte(text)), store.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}
