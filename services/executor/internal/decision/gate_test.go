package decision_test

import (
	"context"
	"encoding/hex"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cespare/xxhash/v2"
	"google.golang.org/grpc/codes"
	pb "google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
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

// behindGate starts executor in the folder with an open gate; changes may modify the request that opens it.
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

// calm is a request whose features are within the range of the training data. Earlier shadows have ended when it returns.
func (e *executor) calm(id string) *executorv1.PredictRequest {
	time.Sleep(timeout)
	return e.calmNow(id)
}

func (e *executor) calmNow(id string) *executorv1.PredictRequest {
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

// Each guard of the gate alone makes the baseline decide, with its reason; otherwise the model decides.
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
		unlatch := func(which executorv1.GateLatch) func() {
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
			{name: "kill", reason: "killed", before: kill, after: unlatch(executorv1.GateLatch_GATE_LATCH_KILLED)},
			{name: "file", reason: "killed", before: func() {
				if err := os.WriteFile(file, nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}, after: func() {
				if err := os.Remove(file); err != nil {
					t.Fatal(err)
				}
				unlatch(executorv1.GateLatch_GATE_LATCH_KILLED)()
			}},
			{name: "signal", reason: "killed", before: func() {
				if err := e.gate.Kill(gate.BySignal, "", "user defined signal 1"); err != nil {
					t.Fatal(err)
				}
			}, after: unlatch(executorv1.GateLatch_GATE_LATCH_KILLED)},
			{name: "quality", reason: "quality_alarm", before: alarm(executorv1.GateLatch_GATE_LATCH_QUALITY_ALARM), after: unlatch(executorv1.GateLatch_GATE_LATCH_QUALITY_ALARM)},
			{name: "drift", reason: "drift_alarm", before: alarm(executorv1.GateLatch_GATE_LATCH_DRIFT_ALARM), after: unlatch(executorv1.GateLatch_GATE_LATCH_DRIFT_ALARM)},
			{name: "lapse", reason: "lease_lapsed", before: func() { time.Sleep(time.Hour) }},
			{name: "percent", reason: "not_selected", terms: func(r *executorv1.SetRolloutRequest) { r.Percent = 0 }},
			{name: "symbol", reason: "not_selected", terms: func(r *executorv1.SetRolloutRequest) { r.Gate.AllSymbols, r.Gate.Symbols = false, []string{"T", "SS"} }},
			{name: "symbols", terms: func(r *executorv1.SetRolloutRequest) { r.Gate.AllSymbols, r.Gate.Symbols = false, []string{"T", "S"} }},
			{name: "unobserved", reason: "not_selected", terms: func(r *executorv1.SetRolloutRequest) { r.Percent, r.Gate.ObservePercent = 0, pb.Float64(0) }},
			{name: "model", reason: "model_changed", fault: enginetest.Version("other", strings.Repeat("ab", 32))},
			{name: "no time", request: func(r *executorv1.PredictRequest) { r.EventTime = nil }},
			{name: "old features", reason: "features_stale", request: func(r *executorv1.PredictRequest) { r.EventTime = timestamppb.New(time.Now().Add(-2*time.Minute - 1)) }},
			{name: "just not old", request: func(r *executorv1.PredictRequest) { r.EventTime = timestamppb.New(time.Now().Add(-2 * time.Minute)) }},
			{name: "an invalid time", reason: "features_stale", request: func(r *executorv1.PredictRequest) { r.EventTime = &timestamppb.Timestamp{Seconds: -1} }},
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
				baseline, _ := e.scores(r)
				if got := e.must(r); got.GetGate() != nil || got.GetScore() != baseline { // clearing ends the gate and does not open another
					t.Errorf("after %s: %v", tt.name, got)
				}
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

// guards models the gate as the contract describes it, for sequential requests.
type guards struct {
	*executor

	moves   int                           // one request in five or six of so many comes after a change of the gate
	set     *executorv1.SetRolloutRequest // nil without a gate
	lapsed  bool
	latches map[executorv1.GateLatch]bool
	// requests and changes are the minutes of all requests, and of the requests that the model has changed.
	begin             time.Time
	requests, changes []int
	// answer changes the model's scores and its digest. late is its delay.
	answer func(float64) float64
	digest string
	late   time.Duration
	fails  codes.Code
	// broken is set while the breaker is open.
	broken bool
}

// hour returns how many of the minutes are among the last sixty.
func hour(minutes []int, now int) (n int) {
	for _, m := range minutes {
		if m > now-60 {
			n++
		}
	}
	return n
}

// want returns the expected reason of the decision on the request; none, with the score, if the model must decide.
func (g *guards) want(r *executorv1.PredictRequest, baseline, score float64) (reason string, changes bool) {
	now := int(time.Since(g.begin) / time.Minute)
	g.requests = append(g.requests, now)
	latched := func() string {
		for _, l := range []executorv1.GateLatch{1, 2, 3, 4} {
			if g.latches[l] {
				return strings.ToLower(strings.TrimPrefix(l.String(), "GATE_LATCH_"))
			}
		}
		return ""
	}
	terms := pb.Clone(g.set.GetGate()).(*executorv1.Gate)
	if terms != nil && terms.MaxScore == nil {
		terms.MaxScore = pb.Float64(1)
	}
	hash := xxhash.Sum64String("salt\x00" + r.GetRequestId())
	switch {
	case g.set == nil:
		return "off", false
	case g.lapsed:
		return "lease_lapsed", false
	case latched() != "":
		return latched(), false
	case float64(hash)/math.MaxUint64*100 >= g.set.GetPercent(), !terms.GetAllSymbols() && !slices.Contains(terms.GetSymbols(), r.GetSymbol()):
		return "not_selected", false
	case terms.GetModelDigest() != g.engine.Model().Digest():
		return "model_changed", false
	case r.GetEventTime() != nil && time.Since(r.GetEventTime().AsTime()) > 2*time.Minute:
		return "features_stale", false
	}
	for i, allowed := range g.engine.Model().Ranges() {
		if x := r.GetVector().GetValues()[i]; x < allowed.Low || x > allowed.High {
			return "out_of_domain", false
		}
	}
	switch {
	case g.broken:
		return "breaker_open", false
	case g.late > terms.GetWaitBudget().AsDuration():
		return "deadline", false
	case g.fails != codes.OK:
		return map[codes.Code]string{codes.Internal: "internal", codes.Unavailable: "unavailable", codes.InvalidArgument: "rejected"}[g.fails], false
	case math.IsNaN(score) || score < 0 || score > 1:
		return "invalid_score", false
	case g.digest != "":
		return "model_changed", false
	case score < terms.GetMinScore() || score > terms.GetMaxScore():
		return "invalid_score", false
	case math.Abs(score-baseline) > g.set.GetPlan().GetDisagreementCap():
		return "disagreement", false
	case math.Abs(score-baseline) <= 0.05:
		return "", false
	}
	n := hour(g.requests, now)
	limit := 100
	if n >= 1000 {
		limit = int(float64(n) * terms.GetMaxChangedPercent() / 100)
	}
	if hour(g.changes, now) >= limit {
		g.latches[4] = true
		return "budget_spent", false
	}
	g.changes = append(g.changes, now)
	return "", true
}

// A decision is one of the two scores, bit for bit. If every guard holds, it is the model's, no further from the baseline than the
// cap. Otherwise it is the baseline's, with the reason of the first guard that fails. The test uses random states of the gate,
// terms, market states, and answers of ml-engine.
func TestGateProperty(t *testing.T) {
	reasons := map[string]int{}
	for seed := range uint64(2) {
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			e := start(t, enginetest.Options{}, 100, func(s *setup) { s.gated = dir })
			e.rng = rand.New(rand.NewPCG(seed, 17))
			// Odd seeds move the gate rarely, so that the model spends its budget.
			g := &guards{executor: e, latches: map[executorv1.GateLatch]bool{}, begin: time.Now(), moves: 30 + 600*int(seed%2)}
			stream := e.decides(t.Context())
			for i := range 500 {
				g.move(i)
				g.disturb()
				r := g.state(fmt.Sprint(i))
				before := proto3(r)
				baseline, model := e.scores(r)
				score := g.answer(model)
				want, _ := g.want(r, baseline, score)
				reasons[want]++
				begin := time.Now()
				var got *executorv1.PredictResponse
				if e.rng.IntN(2) == 0 {
					got = e.must(r)
				} else {
					got = ask(t, stream, &executorv1.DecideRequest{Request: r}).GetResponse()
				}
				if !pb.Equal(before, r) {
					t.Fatal("the request was changed")
				}
				expected := baseline
				if want == "" {
					expected = score
				}
				reason := strings.TrimPrefix(reasonWord(got.GetGate().GetFallbackReason()), "unspecified")
				if got.GetGate() == nil {
					reason = "off"
				}
				if math.Float64bits(got.GetScore()) != math.Float64bits(expected) || reason != want {
					t.Fatalf("seed %d, request %d: got %v by %q, want %v by %q (baseline %v, model %v)\n%v", seed, i, got.GetScore(), reason, expected, want, baseline, score, g.set)
				}
				if d := math.Abs(got.GetScore() - baseline); got.GetGate() != nil && d > g.set.GetPlan().GetDisagreementCap() {
					t.Fatalf("seed %d, request %d: %v from the baseline", seed, i, d)
				}
				if took := time.Since(begin); took > g.set.GetGate().GetWaitBudget().AsDuration() {
					t.Fatalf("seed %d, request %d: took %v", seed, i, took)
				}
			}
			e.decisions()
		})
	}
	t.Log(reasons)
	for _, reason := range []string{
		"", "off", "lease_lapsed", "killed", "quality_alarm", "drift_alarm", "budget_spent", "not_selected", "model_changed", "features_stale",
		"out_of_domain", "breaker_open", "unavailable", "deadline", "rejected", "internal", "invalid_score", "disagreement",
	} {
		if reasons[reason] < 5 {
			t.Errorf("%q comes %d times: too few to tell", reason, reasons[reason])
		}
	}
}

func proto3(r *executorv1.PredictRequest) *executorv1.PredictRequest {
	return pb.Clone(r).(*executorv1.PredictRequest)
}

// move may change the gate.
func (g *guards) move(i int) {
	g.t.Helper()
	ctx, model := g.t.Context(), g.engine.Model().Digest()
	gated := g.set != nil && !g.lapsed && len(g.latches) == 0
	switch k := g.rng.IntN(g.moves); {
	case i > 0 && k > 5 && (gated || g.rng.IntN(15) > 0):
		return
	case k == 0 && gated:
		which := executorv1.GateLatch(2 + g.rng.IntN(2))
		if _, err := g.control.RaiseGateAlarm(ctx, &executorv1.RaiseGateAlarmRequest{Alarm: which, ModelDigest: model}); err != nil {
			g.t.Fatal(err)
		}
		g.latches[which] = true
		return
	case k == 1 && gated:
		if _, err := g.control.KillGate(ctx, &executorv1.KillGateRequest{}); err != nil {
			g.t.Fatal(err)
		}
		g.latches[executorv1.GateLatch_GATE_LATCH_KILLED] = true
		return
	case k == 2 && gated:
		time.Sleep(time.Minute)
		g.lapsed = true
		return
	case k == 3:
		g.set, g.lapsed = nil, false
		if _, err := g.control.AbortRollout(ctx, &executorv1.AbortRolloutRequest{}); err != nil {
			g.t.Fatal(err)
		}
		return
	}
	var set []executorv1.GateLatch
	for l := range g.latches {
		set = append(set, l)
	}
	if len(set) > 0 {
		if _, err := g.control.ClearGateLatches(ctx, &executorv1.ClearGateLatchesRequest{Latches: set, Reason: "test"}); err != nil {
			g.t.Fatal(err)
		}
		clear(g.latches)
	}
	g.set = g.openGate()
	g.set.Lease = durationpb.New(time.Minute)
	g.set.ExpectedRevision = g.rollouts.Report().GetRevision()
	g.set.Percent = []float64{100, 100, 100, 60}[g.rng.IntN(4)]
	g.set.Plan.DisagreementCap = []float64{1, 0.3, 0.1}[g.rng.IntN(3)]
	g.set.Plan.Margin = g.set.Plan.GetDisagreementCap() / 100
	terms := g.set.GetGate()
	terms.MinScore, terms.MaxScore = pb.Float64([]float64{0, 0.2}[g.rng.IntN(2)]), pb.Float64([]float64{1, 0.7}[g.rng.IntN(2)])
	terms.WaitBudget = durationpb.New(time.Duration(2+g.rng.IntN(20)) * time.Millisecond)
	if g.moves > 100 {
		g.set.Percent, g.set.Plan.DisagreementCap, terms.MinScore, terms.MaxScore = 100, 1, nil, nil
	} else if g.rng.IntN(3) == 0 {
		terms.AllSymbols, terms.Symbols = false, []string{"S", "U"}
	}
	g.executor.set(g.set)
	g.lapsed = false
}

// disturb may change ml-engine's answers. Shadows of earlier requests have ended.
func (g *guards) disturb() {
	time.Sleep(timeout)
	g.repair()
	if _, revision := g.rollouts.Plan(); g.set != nil && !g.lapsed && len(g.latches) == 0 && g.rng.IntN(2) == 0 && revision > 0 {
		g.executor.set(g.set2()) // renew
	}
	if expires := g.rollouts.Report().GetLeaseExpireTime(); expires == nil && g.set != nil && len(g.latches) == 0 {
		g.lapsed = true
	}
	g.answer, g.digest, g.late, g.fails = func(s float64) float64 { return s }, "", 0, codes.OK
	shift := g.rng.Float64() - 0.5
	switch g.rng.IntN(16) {
	case 0:
		g.answer = func(float64) float64 { return math.NaN() }
	case 1:
		g.answer = func(float64) float64 { return 1 + 1e-9 }
	case 2:
		g.digest = strings.Repeat("cd", 32)
	case 3:
		g.late = time.Duration(1+g.rng.IntN(40)) * time.Millisecond
		if g.late == g.set.GetGate().GetWaitBudget().AsDuration() {
			g.late++ // with both, either result is allowed
		}
	case 4:
		g.fails = []codes.Code{codes.Internal, codes.Unavailable, codes.InvalidArgument}[g.rng.IntN(3)]
	case 5, 6, 7, 8, 9:
		g.answer = func(s float64) float64 { return max(0, min(1, s+shift)) }
	case 11, 12, 13:
		if g.moves > 100 {
			g.answer = func(s float64) float64 { return max(0, min(1, s+0.09)) }
		}
	case 10:
		g.answer = func(float64) float64 { return math.Copysign(0, -1) }
	}
	answer, digest, late, fails := g.answer, g.digest, g.late, g.fails
	g.engine.Break(enginetest.Fault{
		Before: func(ctx context.Context) error {
			if err := enginetest.Delay(late).Before(ctx); err != nil || fails == codes.OK {
				return err
			}
			return enginetest.Fail(fails).Before(ctx)
		},
		After: func(r *mlenginev1.BatchPredictResponse) {
			for i, s := range r.GetScores() {
				r.Scores[i] = answer(s)
			}
			if digest != "" {
				r.ModelDigest = digest
			}
		},
	})
}

// repair closes the breaker, or leaves it open for the next request.
func (g *guards) repair() {
	g.broken = false
	for {
		r, _ := g.report()
		b := r.GetBreaker()
		if b.GetState() == executorv1.BreakerState_BREAKER_STATE_CLOSED || r.GetSamplePercent() == 0 {
			return
		}
		if time.Until(b.GetNextProbeTime().AsTime()) > time.Second && g.rng.IntN(4) > 0 {
			g.broken = true
			return
		}
		time.Sleep(15 * time.Second)
		g.engine.Heal()
		g.requests = append(g.requests, int(time.Since(g.begin)/time.Minute))
		if _, err := g.PredictWithShadow(g.t.Context(), &executorv1.PredictWithShadowRequest{Vector: g.calm("").GetVector()}); err != nil {
			g.t.Fatal(err)
		}
		time.Sleep(timeout)
	}
}

// set2 repeats the call, like a renewal.
func (g *guards) set2() *executorv1.SetRolloutRequest {
	again := pb.Clone(g.set).(*executorv1.SetRolloutRequest)
	again.ExpectedRevision = 0
	return again
}

// state is a random market state.
func (g *guards) state(id string) *executorv1.PredictRequest {
	r := g.request(id)
	if g.rng.IntN(10) > 0 {
		for i, f := range schema(g.t, "v1.8.1").Features {
			if f.Name != feature.Bias {
				r.Vector.Values[i] /= 3
			}
		}
	}
	if g.rng.IntN(30) == 0 {
		r.Vector.Values[1+g.rng.IntN(6)] = 9
	}
	r.Symbol = []string{"S", "S", "S", "T", ""}[g.rng.IntN(5)]
	if g.rng.IntN(3) == 0 {
		r.EventTime = timestamppb.New(time.Now().Add(-time.Duration(g.rng.IntN(150)) * time.Second))
	}
	return r
}

// Without an open gate an answer has the same bytes as from an executor without gates, even if gates are allowed.
func TestUngatedAnswersAreTheSame(t *testing.T) {
	const golden = "0a017811b5b2a6a47017c83f1a0e6865757269737469632d74657374224037366632623462323833656363363239313931376638616363633932326236326133363865656430336165623166303464663963393833613135356238663063"
	for _, tt := range []struct {
		allowed, observed bool
	}{{false, false}, {false, true}, {true, false}, {true, true}} {
		folder, percent, want := "", 0.0, golden
		if tt.allowed {
			folder = t.TempDir()
		}
		if tt.observed {
			percent, want = 100, golden+"2801"
		}
		synctest.Test(t, func(t *testing.T) {
			e := start(t, enginetest.Options{}, percent, func(s *setup) { s.gated = folder })
			r := e.request("x")
			for name, resp := range map[string]*executorv1.PredictResponse{
				"Predict": e.must(r), "Decide": ask(t, e.decides(t.Context()), &executorv1.DecideRequest{Request: r}).GetResponse(),
			} {
				raw, err := pb.MarshalOptions{Deterministic: true}.Marshal(resp)
				if err != nil || hex.EncodeToString(raw) != want {
					t.Errorf("%+v: %s: got %x, %v", tt, name, raw, err)
				}
			}
			if got := e.decisions(); got["off"] != 2 {
				t.Errorf("%+v: %v", tt, got)
			}
		})
	}
}

// A request waits for the model exactly as long as the wait budget and its caller allow. Its shadow continues and is compared.
func TestGateWaits(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		e := behindGate(t, dir, enginetest.Options{})
		stream := e.decides(t.Context())
		for _, tt := range []struct {
			name             string
			answers, allowed time.Duration // allowed is the time of the caller; 0 is no limit
			want             time.Duration
			reason           string
		}{
			{"in time", 4 * time.Millisecond, 0, 4 * time.Millisecond, ""},
			{"late", 6 * time.Millisecond, 0, 5 * time.Millisecond, "deadline"},
			{"very late", 50 * time.Millisecond, 0, 5 * time.Millisecond, "deadline"},
			{"a patient caller", 4 * time.Millisecond, time.Minute, 4 * time.Millisecond, ""},
			{"a caller with 8 ms", 4 * time.Millisecond, 8 * time.Millisecond, 3 * time.Millisecond, "deadline"},
			{"a caller with the reserve", 4 * time.Millisecond, 5 * time.Millisecond, 0, "deadline"},
			{"a caller with less", 4 * time.Millisecond, time.Millisecond, 0, "deadline"},
		} {
			for _, call := range []string{"Predict", "Decide"} {
				r := e.calm(tt.name)
				e.engine.Break(enginetest.Delay(tt.answers))
				_, before := e.report()
				begin := time.Now()
				var got *executorv1.PredictResponse
				switch {
				case call == "Decide" && tt.allowed > 0:
					got = ask(t, stream, &executorv1.DecideRequest{Request: r, Deadline: timestamppb.New(begin.Add(tt.allowed))}).GetResponse()
				case call == "Decide":
					got = ask(t, stream, &executorv1.DecideRequest{Request: r}).GetResponse()
				case tt.allowed > 0:
					ctx, cancel := context.WithTimeout(t.Context(), tt.allowed)
					var err error
					if got, err = e.Predict(ctx, r); err != nil {
						t.Fatal(err)
					}
					cancel()
				default:
					got = e.must(r)
				}
				if took := time.Since(begin); took != tt.want {
					t.Errorf("%s: %s took %v, want %v", tt.name, call, took, tt.want)
				}
				e.wantDecision(tt.name+", "+call, r, got, tt.reason)
				time.Sleep(timeout)
				if _, after := e.report(); after["match"]+after["mismatch"] != before["match"]+before["mismatch"]+1 {
					t.Errorf("%s: the shadow of %s was not compared: %v, then %v", tt.name, call, before, after)
				}
			}
		}
		want := map[string]uint64{"": 4, "deadline": 10}
		if got := e.decisions(); !maps.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

// Switching the gate off during the wait affects the answer.
func TestGateIsReadAgainAfterTheWait(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		e := behindGate(t, dir, enginetest.Options{}, func(r *executorv1.SetRolloutRequest) {
			r.Gate.WaitBudget, r.Lease = durationpb.New(50*time.Millisecond), durationpb.New(time.Second)
		})
		opened := e.openGate()
		opened.Gate.WaitBudget = durationpb.New(50 * time.Millisecond)
		for _, tt := range []struct {
			name, reason string
			during       func()
		}{
			{"lapse", "lease_lapsed", func() {}},
			{"kill", "killed", func() {
				if _, err := e.control.KillGate(t.Context(), &executorv1.KillGateRequest{}); err != nil {
					t.Error(err)
				}
			}},
			{"file", "killed", func() {
				if err := os.WriteFile(filepath.Join(dir, "gate.kill"), nil, 0o600); err != nil {
					t.Error(err)
				}
			}},
			{"other terms", "disagreement", func() {
				req := pb.Clone(opened).(*executorv1.SetRolloutRequest)
				req.Plan.DisagreementCap, req.Plan.Margin = 1e-9, 1e-12
				e.set(req)
			}},
			{"a smaller share", "not_selected", func() {
				req := pb.Clone(opened).(*executorv1.SetRolloutRequest)
				req.Percent = 0
				e.set(req)
			}},
		} {
			r := e.calm(tt.name)
			e.engine.Break(enginetest.Delay(30 * time.Millisecond))
			if tt.name == "lapse" {
				time.Sleep(time.Until(e.rollouts.Report().GetLeaseExpireTime().AsTime()) - 20*time.Millisecond)
			}
			go func() {
				time.Sleep(20 * time.Millisecond)
				tt.during()
			}()
			got := e.must(r)
			e.wantDecision(tt.name, r, got, tt.reason)
			time.Sleep(timeout)
			synctest.Wait()
			_ = os.Remove(filepath.Join(dir, "gate.kill"))
			_, _ = e.control.ClearGateLatches(t.Context(), &executorv1.ClearGateLatchesRequest{Latches: []executorv1.GateLatch{1}, Reason: "test"})
			opened.ExpectedRevision = e.rollouts.Report().GetRevision()
			e.set(opened)
			opened.ExpectedRevision = 0
		}
		// An abort removes the gate: the answer is the same as without a gate.
		r := e.calm("abort")
		go func() {
			time.Sleep(20 * time.Millisecond)
			if _, err := e.control.AbortRollout(t.Context(), &executorv1.AbortRolloutRequest{}); err != nil {
				t.Error(err)
			}
		}()
		baseline, _ := e.scores(r)
		if got := e.must(r); got.GetGate() != nil || got.GetScore() != baseline {
			t.Errorf("after an abort: %v", got)
		}
		e.decisions()
	})
}

// PredictWithShadow never decides by the model, but counts.
func TestGateComparesOnly(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		e := behindGate(t, dir, enginetest.Options{})
		ask := func(state, reason string) {
			r := e.calm(state)
			got, err := e.PredictWithShadow(t.Context(), &executorv1.PredictWithShadowRequest{RequestId: r.GetRequestId(), Symbol: r.GetSymbol(), Vector: r.GetVector()})
			baseline, _ := e.scores(r)
			if err != nil || math.Float64bits(got.GetBaseline().GetScore()) != math.Float64bits(baseline) {
				t.Fatalf("%s: %v, %v", state, got, err)
			}
			g := got.GetGate()
			if g.GetDecidedBy() != executorv1.Decider_DECIDER_BASELINE || reasonWord(g.GetFallbackReason()) != reason || g.GetBaselineScore() != baseline || g.GetModelDigest() != e.engine.Model().Digest() {
				t.Errorf("%s: %v, want %s", state, g, reason)
			}
			if (got.GetShadow() == nil) != (reason == "lease_lapsed") {
				t.Errorf("%s: %v", state, got)
			}
		}
		ask("open", "not_selected")
		if err := e.gate.Kill("test", "", ""); err != nil {
			t.Fatal(err)
		}
		ask("killed", "killed")
		e.decisions()
	})
}
