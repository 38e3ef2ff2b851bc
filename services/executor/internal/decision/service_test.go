package decision_test

import (
	"context"
	"fmt"
	"maps"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

const timeout = 60 * time.Millisecond

// engineFaults are all ways in which an engine can fail.
var engineFaults = map[string]func(*enginetest.Engine){
	"healthy":           func(*enginetest.Engine) {},
	"slow":              func(e *enginetest.Engine) { e.Break(enginetest.Delay(50 * time.Millisecond)) },
	"hung":              func(e *enginetest.Engine) { e.Break(enginetest.Hang()) },
	"dead":              func(e *enginetest.Engine) { e.Stop() },
	"NaN":               func(e *enginetest.Engine) { e.Break(enginetest.Answer(math.NaN())) },
	"out of range":      func(e *enginetest.Engine) { e.Break(enginetest.Answer(17)) },
	"lying":             func(e *enginetest.Engine) { e.Break(enginetest.Shift(0.5)) },
	"refusing":          func(e *enginetest.Engine) { e.Break(enginetest.Fail(codes.InvalidArgument)) },
	"denying":           func(e *enginetest.Engine) { e.Break(enginetest.Fail(codes.PermissionDenied)) },
	"failing":           func(e *enginetest.Engine) { e.Break(enginetest.Fail(codes.Internal)) },
	"of another schema": func(e *enginetest.Engine) { e.Swap("v1.8", "v1.8-b0") },
	"short of scores":   func(e *enginetest.Engine) { e.Break(enginetest.Surplus(-1)) },
}

// Whatever the shadow does, the decision is the baseline's, bit for bit, and each request has one outcome.
func TestTheShadowNeverChangesTheDecision(t *testing.T) {
	const requests = 300
	for name, breakEngine := range engineFaults {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := start(t, enginetest.Options{}, 80)
				breakEngine(e.engine)
				s := schema(t, "v1.8.1")
				for i := range requests {
					x := enginetest.Vector(e.rng, s)
					want := math.Float64bits(e.baselineOf(s, x))
					vector := &executorv1.FeatureVector{Schema: s.Name, Values: x}
					id := fmt.Sprintf("request-%d", i)
					begin := time.Now()
					var got *executorv1.PredictResponse
					var err error
					if i%2 == 0 {
						got, err = e.Predict(t.Context(), &executorv1.PredictRequest{RequestId: id, Vector: vector})
					} else {
						got, err = e.Predict(t.Context(), &executorv1.PredictRequest{RequestId: id, Features: named(s, x)})
					}
					if err != nil || math.Float64bits(got.GetScore()) != want || got.GetRequestId() != id {
						t.Fatalf("Predict: got %v, %v; want score %v", got, err, math.Float64frombits(want))
					}
					if took := time.Since(begin); took != 0 {
						t.Fatalf("Predict waited %v for the shadow", took)
					}
					if i%10 == 0 {
						both, err := e.PredictWithShadow(t.Context(), &executorv1.PredictWithShadowRequest{RequestId: id, Vector: vector})
						if err != nil || math.Float64bits(both.GetBaseline().GetScore()) != want {
							t.Fatalf("PredictWithShadow: got %v, %v; want baseline %v", both, err, math.Float64frombits(want))
						}
						if took := time.Since(begin); took > timeout {
							t.Fatalf("PredictWithShadow took %v, want at most %v", took, timeout)
						}
						if sampled := both.GetOutcome() != executorv1.ShadowOutcome_SHADOW_OUTCOME_NOT_SAMPLED; sampled != got.GetShadowSampled() {
							t.Fatalf("%s is sampled by one call and not by the other", id)
						}
					}
				}
				time.Sleep(timeout)
				synctest.Wait()
				r, counts := e.report()
				if r.GetRequestsTotal() != requests+requests/10 || r.GetInFlight() != 0 {
					t.Errorf("requests %d, in flight %d; want %d and 0", r.GetRequestsTotal(), r.GetInFlight(), requests+requests/10)
				}
				if n := counts["not_sampled"]; n < 30 || n > 110 {
					t.Errorf("not sampled: got %d, want about 20 %%", n)
				}
			})
		})
	}
}

func TestEngineAbsentFromTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := start(t, enginetest.Options{Absent: true}, 100)
		s := schema(t, "v1.8.1")
		x := enginetest.Vector(e.rng, s)
		for range 20 {
			got, err := e.PredictWithShadow(t.Context(), &executorv1.PredictWithShadowRequest{Features: named(s, x)})
			if err != nil || got.GetBaseline().GetScore() != e.baselineOf(s, x) || got.GetShadow() != nil || got.GetComparison() != nil || got.GetShadowError() == "" {
				t.Fatalf("got %v, %v; want the baseline alone and why", got, err)
			}
		}
		if _, counts := e.report(); !maps.Equal(counts, map[string]uint64{"unavailable": 10, "breaker_open": 10}) {
			t.Errorf("outcomes: got %v", counts)
		}
	})
}

func TestPredictWithShadow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := start(t, enginetest.Options{}, 100)
		s := schema(t, "v1.8.1")
		x := enginetest.Vector(e.rng, s)
		req := &executorv1.PredictWithShadowRequest{RequestId: "r1", Vector: &executorv1.FeatureVector{Schema: s.Name, Values: x}}
		baseline, score := e.baselineOf(s, x), e.engine.Model().Scorer.Score(x)
		got, err := e.PredictWithShadow(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		b, sh, c := got.GetBaseline(), got.GetShadow(), got.GetComparison()
		if b.GetScore() != baseline || b.GetModelVersion() != "heuristic-test" || b.GetModelDigest() != e.formula.Digest() {
			t.Errorf("baseline: got %v, want %v of %s", b, baseline, e.formula.Digest())
		}
		if sh.GetScore() != score || sh.GetModelVersion() != "v1.8.1-test" || sh.GetModelDigest() != e.engine.Model().Digest() {
			t.Errorf("shadow: got %v, want %v", sh, score)
		}
		if c.GetDelta() != score-baseline || c.GetMatch() != (math.Abs(score-baseline) <= 0.05) || got.GetShadowError() != "" {
			t.Errorf("comparison: got %v (%s), want delta %v", c, got.GetShadowError(), score-baseline)
		}
		e.engine.Break(enginetest.Hang())
		for _, tt := range []struct{ limit, want time.Duration }{{time.Hour, timeout}, {40 * time.Millisecond, 35 * time.Millisecond}} {
			ctx, cancel := context.WithTimeout(t.Context(), tt.limit)
			begin := time.Now()
			got, err = e.PredictWithShadow(ctx, req)
			cancel()
			if err != nil || got.GetOutcome() != executorv1.ShadowOutcome_SHADOW_OUTCOME_DEADLINE || got.GetShadow() != nil || got.GetComparison() != nil {
				t.Fatalf("with %v: got %v, %v; want deadline", tt.limit, got, err)
			}
			if took := time.Since(begin); took != tt.want || got.GetShadowLatencyMs() != float64(tt.want.Milliseconds()) {
				t.Errorf("with %v: took %v and says %v ms, want %v", tt.limit, took, got.GetShadowLatencyMs(), tt.want)
			}
		}
	})
}

// A canceled request has the outcome canceled.
func TestCanceledRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := start(t, enginetest.Options{}, 100)
		e.engine.Break(enginetest.Hang())
		s := schema(t, "v1.8.1")
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(10*time.Millisecond, cancel)
		_, err := e.PredictWithShadow(ctx, &executorv1.PredictWithShadowRequest{Features: named(s, enginetest.Vector(e.rng, s))})
		if err == nil {
			t.Error("got nil for a call that was given up")
		}
		time.Sleep(timeout)
		synctest.Wait()
		if _, counts := e.report(); !maps.Equal(counts, map[string]uint64{"canceled": 1}) {
			t.Errorf("outcomes: got %v, want one canceled", counts)
		}
	})
}

func TestEmptyRequestIDIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := start(t, enginetest.Options{}, 50)
		s := schema(t, "v1.8.1")
		ids, sampled := map[string]bool{}, 0
		for range 200 {
			got, err := e.Predict(t.Context(), &executorv1.PredictRequest{Features: named(s, enginetest.Vector(e.rng, s))})
			if err != nil {
				t.Fatal(err)
			}
			ids[got.GetRequestId()] = true
			if got.GetShadowSampled() {
				sampled++
			}
		}
		if len(ids) != 200 || ids[""] || sampled < 50 || sampled > 150 {
			t.Errorf("got %d ids, %d sampled; want 200 different ones and about 100", len(ids), sampled)
		}
	})
}

// A model of the older schema can be tried with the heuristic if the caller sends the inputs of both.
func TestModelOfTheOlderSchema(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := start(t, enginetest.Options{Schema: "v1.8", Version: "v1.8-b0"}, 100)
		newer, older := schema(t, "v1.8.1"), schema(t, "v1.8")
		x, y := enginetest.Vector(e.rng, newer), enginetest.Vector(e.rng, older)
		union := named(newer, x)
		maps.Copy(union, named(older, y))
		got, err := e.PredictWithShadow(t.Context(), &executorv1.PredictWithShadowRequest{Features: union})
		if err != nil || got.GetBaseline().GetScore() != e.baselineOf(newer, x) || got.GetShadow().GetScore() != e.engine.Model().Scorer.Score(y) {
			t.Errorf("the union of the inputs: got %v, %v", got, err)
		}
		for name, req := range map[string]*executorv1.PredictWithShadowRequest{
			"vector of v1.8.1":    {Vector: &executorv1.FeatureVector{Schema: "v1.8.1", Values: x}},
			"the baseline's only": {Features: named(newer, x)},
		} {
			got, err := e.PredictWithShadow(t.Context(), req)
			if err != nil || got.GetOutcome() != executorv1.ShadowOutcome_SHADOW_OUTCOME_REJECTED || got.GetBaseline().GetScore() != e.baselineOf(newer, x) {
				t.Errorf("%s: got %v, %v; want the baseline and rejected", name, got, err)
			}
		}
		if calls := e.engine.Calls(); len(calls) != 1 {
			t.Errorf("%d calls, want one: what is rejected is not sent", len(calls))
		}
	})
}

func TestReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := start(t, enginetest.Options{}, 25)
		r, counts := e.report()
		if r.GetSamplePercent() != 25 || r.GetBaselineVersion() != "heuristic-test" || r.GetBaselineDigest() != e.formula.Digest() || len(counts) != 0 {
			t.Errorf("got %v", r)
		}
	})
}
