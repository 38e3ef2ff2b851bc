package decision_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// withBaseline returns the state of a schema by name, with the inputs of the baseline.
func withBaseline(s *feature.Schema, x []float64) map[string]float64 {
	m := map[string]float64{"vol1m_log_rel": 0.1, "spread_bp_rel": 0.2, "rsi14_z": 0.3, "zscore_mid_24h": 0.4}
	for i, name := range s.Names() {
		m[name] = x[i]
	}
	return m
}

// A model with a custom schema can be tried without changing executor, which learns the schema from ml-engine.
func TestOwnSchema(t *testing.T) {
	for _, n := range []int{1, 5, 1000} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				own := enginetest.Own(t, "desk", n)
				e := start(t, enginetest.Options{Own: own, Version: "own-1"}, 100)
				time.Sleep(time.Second)
				for range 200 {
					x := enginetest.Vector(e.rng, own)
					state := withBaseline(own, x)
					r, err := e.PredictWithShadow(t.Context(), &executorv1.PredictWithShadowRequest{Features: state})
					if err != nil {
						t.Fatal(err)
					}
					want := e.formula.Score([]float64{state["vol1m_log_rel"], state["spread_bp_rel"], state["rsi14_z"], state["zscore_mid_24h"]})
					if r.GetBaseline().GetScore() != want || r.GetShadow().GetScore() != e.engine.Model().Scorer.Score(x) {
						t.Fatalf("got %v and %v (%s), want %v and %v", r.GetBaseline().GetScore(), r.GetShadow().GetScore(), r.GetShadowError(), want, e.engine.Model().Scorer.Score(x))
					}
				}
				// A vector of this schema lacks the inputs of the baseline, and a name that no schema has is refused.
				for name, req := range map[string]*executorv1.PredictRequest{
					"FEATURE_MISSING": {Vector: &executorv1.FeatureVector{Schema: "desk", SchemaHash: own.Hash(), Values: make([]float64, n)}},
					"VECTOR_LENGTH":   {Vector: &executorv1.FeatureVector{Schema: "desk", SchemaHash: own.Hash(), Values: make([]float64, n+1)}},
					"SCHEMA_UNKNOWN":  {Vector: &executorv1.FeatureVector{Schema: "desk", SchemaHash: strings.Repeat("0", 64), Values: make([]float64, n)}},
					"FEATURE_UNKNOWN": {Features: map[string]float64{"desk_0": 1}},
				} {
					_, err := e.Predict(t.Context(), req)
					if got := reasonOf(t, err); got != name {
						t.Errorf("got %s (%v), want %s", got, err, name)
					}
				}
				// A feature order known only from ml-engine could change the decision.
				_, err := e.Predict(t.Context(), &executorv1.PredictRequest{Vector: &executorv1.FeatureVector{Schema: "desk", Values: make([]float64, n)}})
				if err == nil || !strings.Contains(err.Error(), "known only from ml-engine: send its schema_hash") {
					t.Errorf("a vector without the hash: got %v", err)
				}
				_, err = e.Predict(t.Context(), &executorv1.PredictRequest{Vector: &executorv1.FeatureVector{Schema: "nobody's", Values: []float64{1}}})
				if err == nil || !strings.Contains(err.Error(), "want one of v1.8, v1.8.1, desk") {
					t.Errorf("got %v, want the known schemas", err)
				}
			})
		})
	}
}

func reasonOf(t *testing.T, err error) string {
	t.Helper()
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			return info.GetReason()
		}
	}
	return fmt.Sprint(err)
}

// A schema that also has the baseline's inputs can be sent as a vector.
func TestOwnVector(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		own, err := feature.Named("mixed", "own_a", "zscore_mid_24h", "rsi14_z", "own_b", "spread_bp_rel", "vol1m_log_rel")
		if err != nil {
			t.Fatal(err)
		}
		e := start(t, enginetest.Options{Own: own, Version: "own-1"}, 100)
		time.Sleep(time.Second)
		x := enginetest.Vector(e.rng, own)
		r, err := e.PredictWithShadow(t.Context(), &executorv1.PredictWithShadowRequest{
			Vector: &executorv1.FeatureVector{Schema: "mixed", SchemaHash: own.Hash(), Values: x},
		})
		if err != nil {
			t.Fatal(err)
		}
		if want := e.formula.Score([]float64{x[5], x[4], x[2], x[1]}); r.GetBaseline().GetScore() != want {
			t.Errorf("baseline: got %v, want %v", r.GetBaseline().GetScore(), want)
		}
		if want := e.engine.Model().Scorer.Score(x); r.GetShadow().GetScore() != want {
			t.Errorf("shadow: got %v (%s), want %v", r.GetShadow().GetScore(), r.GetShadowError(), want)
		}
	})
}

// Features that executor computes from quotes and features that only the caller has form one state.
func TestQuoteWithOwnFeatures(t *testing.T) {
	minutes, frame := simulated(t)
	own, err := feature.Named("mixed", "mid", "own_a", "vol1m")
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		e := start(t, enginetest.Options{Own: own, Version: "own-1"}, 100)
		e.observeMinutes("S", minutes[:warm])
		r, err := e.PredictWithShadow(t.Context(), &executorv1.PredictWithShadowRequest{
			Symbol: "S", Quote: proto(minutes[warm][0]), Features: map[string]float64{"own_a": 1.25},
		})
		if err != nil {
			t.Fatal(err)
		}
		x := []float64{frame.Column("mid")[warm-1], 1.25, frame.Column("vol1m")[warm-1]}
		if want := e.engine.Model().Scorer.Score(x); r.GetShadow().GetScore() != want {
			t.Errorf("got %v (%s), want %v", r.GetShadow().GetScore(), r.GetShadowError(), want)
		}
		// Without the caller's feature the decision stands, and the shadow is refused.
		r, err = e.PredictWithShadow(t.Context(), &executorv1.PredictWithShadowRequest{Symbol: "S", Quote: proto(minutes[warm][0])})
		if err != nil || r.GetOutcome() != executorv1.ShadowOutcome_SHADOW_OUTCOME_REJECTED {
			t.Errorf("got %v, %v, want a decision and a refused shadow", r, err)
		}
	})
}

// Until ml-engine has been reached, features that only its model has are accepted: a decision does not depend on it.
func TestOwnFeaturesOfAnAbsentEngine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := start(t, enginetest.Options{Absent: true}, 100)
		own := enginetest.Own(t, "desk", 3)
		if _, err := e.Predict(t.Context(), &executorv1.PredictRequest{Features: withBaseline(own, []float64{1, 2, 3})}); err != nil {
			t.Error(err)
		}
	})
}

// A model swap does not change how a vector is read: a second schema with the same name is refused, and only the shadow fails.
func TestSchemaOfTheSameName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, err := feature.Named("desk", "vol1m_log_rel", "spread_bp_rel", "rsi14_z", "zscore_mid_24h", "own")
		if err != nil {
			t.Fatal(err)
		}
		second, err := feature.Named("desk", "zscore_mid_24h", "rsi14_z", "spread_bp_rel", "vol1m_log_rel", "own")
		if err != nil {
			t.Fatal(err)
		}
		e := start(t, enginetest.Options{Own: first, Version: "own-1"}, 100)
		time.Sleep(time.Second)
		req := &executorv1.PredictWithShadowRequest{Vector: &executorv1.FeatureVector{Schema: "desk", SchemaHash: first.Hash(), Values: []float64{1, 2, 3, 4, 5}}}
		before, err := e.PredictWithShadow(t.Context(), req)
		if err != nil || before.GetShadow() == nil {
			t.Fatal(before, err)
		}
		e.engine.SwapTo(enginetest.ArtifactOf(t, second, "own-2"))
		time.Sleep(10 * time.Second)
		after, err := e.PredictWithShadow(t.Context(), req)
		if err != nil || after.GetBaseline().GetScore() != before.GetBaseline().GetScore() {
			t.Fatalf("got %v, %v, want the decision of before, %v", after, err, before.GetBaseline().GetScore())
		}
		if after.GetOutcome() != executorv1.ShadowOutcome_SHADOW_OUTCOME_REJECTED || !strings.Contains(after.GetShadowError(), "give a changed schema a new name") {
			t.Errorf("got %v: %s", after.GetOutcome(), after.GetShadowError())
		}
	})
}
