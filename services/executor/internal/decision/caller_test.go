package decision_test

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/dsse"
	"github.com/greenlight-ml/greenlight/pkg/featurelog"
	"github.com/greenlight-ml/greenlight/pkg/market"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	"github.com/greenlight-ml/greenlight/pkg/testkit/keytest"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/executor/internal/decision"
)

func byCaller(s *setup) { s.baseline = "caller=desk@7" }

// deskDigest is the digest of that baseline, computed independently.
func deskDigest() string {
	sum := sha256.Sum256([]byte("caller=desk@7"))
	return hex.EncodeToString(sum[:])
}

// The caller's score is the decision, bit for bit, whatever the engine does. Only the model under trial uses the state.
func TestCallerScore(t *testing.T) {
	for name, breakEngine := range engineFaults {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				own := enginetest.Own(t, "desk", 3)
				e := start(t, enginetest.Options{Own: own, Version: "own-1"}, 100, byCaller)
				time.Sleep(time.Second)
				breakEngine(e.engine)
				stream := e.decides(t.Context())
				scores := []float64{0, math.Copysign(0, -1), 1, math.SmallestNonzeroFloat64, math.Nextafter(1, 0), 0.1 + 0.2}
				for range 100 {
					scores = append(scores, e.rng.Float64())
				}
				for i, want := range scores {
					v := &executorv1.FeatureVector{Schema: "desk", SchemaHash: own.Hash(), Values: enginetest.Vector(e.rng, own)}
					req := &executorv1.PredictRequest{Vector: v, BaselineScore: &want}
					got, err := e.Predict(t.Context(), req)
					if err != nil || math.Float64bits(got.GetScore()) != math.Float64bits(want) || got.GetModelVersion() != "desk@7" || got.GetModelDigest() != deskDigest() {
						t.Fatalf("Predict: got %v, %v, want %v of %s", got, err, want, deskDigest())
					}
					if a := ask(t, stream, &executorv1.DecideRequest{Sequence: uint64(i), Request: req}); math.Float64bits(a.GetResponse().GetScore()) != math.Float64bits(want) {
						t.Fatalf("Decide: got %v, want %v", a, want)
					}
					both, err := e.PredictWithShadow(t.Context(), &executorv1.PredictWithShadowRequest{Vector: v, BaselineScore: &want})
					if err != nil || math.Float64bits(both.GetBaseline().GetScore()) != math.Float64bits(want) || both.GetBaseline().GetModelDigest() != deskDigest() {
						t.Fatalf("PredictWithShadow: got %v, %v, want %v", both, err, want)
					}
					if name == "healthy" && both.GetComparison().GetDelta() != both.GetShadow().GetScore()-want {
						t.Errorf("got %v, want the difference from %v", both, want)
					}
				}
				time.Sleep(time.Second)
				if r, _ := e.report(); r.GetRequestsTotal() != 3*uint64(len(scores)) || r.GetBaselineVersion() != "desk@7" || r.GetBaselineDigest() != deskDigest() {
					t.Errorf("got %v, want %d requests", r, 3*len(scores))
				}
			})
		})
	}
}

// A state that cannot be scored costs the shadow, never the decision.
func TestCallerScoreWithoutAState(t *testing.T) {
	nan := math.NaN()
	for name, tt := range map[string]struct {
		req  *executorv1.PredictWithShadowRequest
		want string
	}{
		"none":              {&executorv1.PredictWithShadowRequest{}, "no input"},
		"two":               {&executorv1.PredictWithShadowRequest{Features: map[string]float64{"mid": 1}, Vector: &executorv1.FeatureVector{}}, "more than one"},
		"NaN":               {&executorv1.PredictWithShadowRequest{Features: map[string]float64{"mid": nan}}, "mid is NaN"},
		"unknown feature":   {&executorv1.PredictWithShadowRequest{Features: map[string]float64{"adx": 1}}, "no such feature: adx"},
		"too few features":  {&executorv1.PredictWithShadowRequest{Features: map[string]float64{"rsi14_z": 1}}, "lacks inputs of the model under trial"},
		"unknown schema":    {&executorv1.PredictWithShadowRequest{Vector: &executorv1.FeatureVector{Schema: "v9"}}, `schema "v9" is unknown`},
		"short vector":      {&executorv1.PredictWithShadowRequest{Vector: &executorv1.FeatureVector{Schema: "v1.8.1", Values: []float64{1}}}, "the vector has 1 value"},
		"quote of nothing":  {&executorv1.PredictWithShadowRequest{Quote: &executorv1.Quote{}}, "a quote needs a symbol"},
		"quote of no price": {&executorv1.PredictWithShadowRequest{Symbol: "S", Quote: &executorv1.Quote{}}, "want prices of 1e-12 to 1e12"},
		"first quote": {
			&executorv1.PredictWithShadowRequest{Symbol: "S", Quote: proto(market.Quote{Time: 1_736_121_600_000, Bid: 99, Ask: 101})},
			"not ready: no minute is complete",
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				log := openLog(t, featurelog.Options{Dir: dir})
				e := start(t, enginetest.Options{}, 100, byCaller, func(s *setup) { s.settled = log.Settled })
				time.Sleep(time.Second)
				score := e.rng.Float64()
				tt.req.RequestId, tt.req.BaselineScore = name, &score
				got, err := e.PredictWithShadow(t.Context(), tt.req)
				if err != nil || got.GetBaseline().GetScore() != score || got.GetOutcome() != executorv1.ShadowOutcome_SHADOW_OUTCOME_REJECTED || !strings.Contains(got.GetShadowError(), tt.want) {
					t.Errorf("got %v, %v, want the score %v and a rejected shadow: %s", got, err, score, tt.want)
				}
				if _, counts := e.report(); !maps.Equal(counts, map[string]uint64{"rejected": 1}) {
					t.Errorf("outcomes: got %v", counts)
				}
				if calls := e.engine.Calls(); len(calls) != 0 {
					t.Errorf("%d calls, want none", len(calls))
				}
				closeLog(t, log)
				if r := rowsOf(t, dir)[name]; r.BaselineScore != score || r.Outcome != "rejected" {
					t.Errorf("feature log: got %+v", r)
				}
			})
		})
	}
}

// Without a sample the outcome is not_sampled, as for every other baseline.
func TestCallerScoreNotSampled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := start(t, enginetest.Options{}, 0, byCaller)
		score := 0.25
		if got, err := e.Predict(t.Context(), &executorv1.PredictRequest{BaselineScore: &score}); err != nil || got.GetScore() != score {
			t.Errorf("got %v, %v", got, err)
		}
		if _, counts := e.report(); !maps.Equal(counts, map[string]uint64{"not_sampled": 1}) {
			t.Errorf("outcomes: got %v", counts)
		}
	})
}

// The score is required from callers that decide, and refused from those that do not.
func TestCallerScoreRefused(t *testing.T) {
	at := func(v float64) *float64 { return &v }
	for name, tt := range map[string]struct {
		score    *float64
		baseline func(*setup)
		reason   string
	}{
		"missing":    {nil, byCaller, "BASELINE_SCORE_MISSING"},
		"NaN":        {at(math.NaN()), byCaller, "BASELINE_SCORE_INVALID"},
		"infinite":   {at(math.Inf(1)), byCaller, "BASELINE_SCORE_INVALID"},
		"negative":   {at(-math.SmallestNonzeroFloat64), byCaller, "BASELINE_SCORE_INVALID"},
		"above 1":    {at(math.Nextafter(1, 2)), byCaller, "BASELINE_SCORE_INVALID"},
		"unexpected": {at(0.5), func(*setup) {}, "BASELINE_SCORE_UNEXPECTED"},
		"both wrong": {at(math.NaN()), func(*setup) {}, "BASELINE_SCORE_UNEXPECTED"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := start(t, enginetest.Options{}, 100, tt.baseline)
				s := schema(t, "v1.8.1")
				features := named(s, enginetest.Vector(e.rng, s))
				_, err := e.Predict(t.Context(), &executorv1.PredictRequest{Features: features, BaselineScore: tt.score})
				_, second := e.PredictWithShadow(t.Context(), &executorv1.PredictWithShadowRequest{Features: features, BaselineScore: tt.score})
				for _, err := range []error{err, second} {
					if status.Code(err) != codes.InvalidArgument || reasonOf(t, err) != tt.reason {
						t.Errorf("got %v, want %s", err, tt.reason)
					}
				}
				a := ask(t, e.decides(t.Context()), &executorv1.DecideRequest{Request: &executorv1.PredictRequest{Features: features, BaselineScore: tt.score}})
				if a.GetError().GetReason() != tt.reason {
					t.Errorf("Decide: got %v, want %s", a, tt.reason)
				}
				if r, _ := e.report(); r.GetRequestsTotal() != 0 {
					t.Errorf("%d requests are counted, want none: they were refused", r.GetRequestsTotal())
				}
			})
		})
	}
}

func TestLoadCallerBaseline(t *testing.T) {
	b, err := decision.LoadBaseline("caller=desk@7", "", nil)
	if err != nil || b.Version != "desk@7" || b.Digest != deskDigest() {
		t.Errorf("got %+v, %v", b, err)
	}
	_, private := keytest.New(t)
	keys, err := dsse.ReadKeys(private + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	for spec, want := range map[string]string{
		"caller=":       "want <name>@<version>",
		"caller=desk":   "want <name>@<version>",
		"caller=@7":     `name "": want`,
		"caller=desk@":  `version "": want`,
		"caller=a b@1":  `name "a b": want`,
		"caller=d@7@8":  `version "7@8": want`,
		"caller=d@\x1b": "version",
	} {
		if _, err := decision.LoadBaseline(spec, "", nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q in it", spec, err, want)
		}
	}
	if _, err := decision.LoadBaseline("caller=desk@7", "", keys); err == nil || !strings.Contains(err.Error(), "cannot be signed") {
		t.Errorf("with --require-signature: got %v", err)
	}
}

// Any model of the registry can decide: here trees with a custom schema, while the model under trial has another schema.
func TestTreesDecide(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("..", "..", "..", "..", "pkg", "trees", "testdata", "own", "lightgbm_own_features.txt"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := model.SchemaOf(raw, "desk")
	if err != nil {
		t.Fatal(err)
	}
	a := enginetest.ArtifactOf(t, s, "boosted")
	spec, scorer, err := model.NewTrees(raw, s, a.Spec.Label, false)
	if err != nil {
		t.Fatal(err)
	}
	a.Spec, a.Ensemble = spec, raw
	for i := range a.Golden.Vectors {
		a.Golden.Vectors[i].Score = scorer.Score(a.Golden.Vectors[i].X)
	}
	models := t.TempDir()
	if err := model.OpenRegistry(models).Add(a); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		tried := enginetest.Own(t, "tried", 2)
		e := start(t, enginetest.Options{Own: tried, Version: "own-1"}, 100, func(set *setup) { set.baseline, set.models = "model=boosted", models })
		time.Sleep(time.Second)
		distinct := map[float64]bool{}
		for range 200 {
			x, y := enginetest.Vector(e.rng, s), enginetest.Vector(e.rng, tried)
			state := named(s, x)
			maps.Copy(state, named(tried, y))
			got, err := e.PredictWithShadow(t.Context(), &executorv1.PredictWithShadowRequest{Features: state})
			if err != nil || got.GetBaseline().GetScore() != scorer.Score(x) || got.GetShadow().GetScore() != e.engine.Model().Scorer.Score(y) {
				t.Fatalf("got %v, %v, want %v", got, err, scorer.Score(x))
			}
			distinct[got.GetBaseline().GetScore()] = true
			// The schema of a model that decides is known from the start, so a vector needs no hash.
			plain, err := e.Predict(t.Context(), &executorv1.PredictRequest{Vector: &executorv1.FeatureVector{Schema: s.Name, Values: x}})
			if err != nil || plain.GetScore() != scorer.Score(x) {
				t.Fatalf("a vector: got %v, %v, want %v", plain, err, scorer.Score(x))
			}
		}
		if len(distinct) < 10 {
			t.Errorf("%d different scores, want at least 10", len(distinct))
		}
		_, err := e.Predict(t.Context(), &executorv1.PredictRequest{Features: map[string]float64{"imb5": 1}})
		if got := reasonOf(t, err); got != "FEATURE_MISSING" {
			t.Errorf("got %s (%v)", got, err)
		}
	})
}

// With any baseline, features that executor computes from quotes go to the shadow.
func TestCallerScoreWithQuotes(t *testing.T) {
	minutes, frame := simulated(t)
	s := schema(t, "v1.8.1")
	x := make([]float64, s.Len())
	if !frame.Row(warm-1, s, x) {
		t.Fatal("the features are not defined")
	}
	synctest.Test(t, func(t *testing.T) {
		e := start(t, enginetest.Options{}, 100, byCaller)
		e.observeMinutes("S", minutes[:warm])
		score := 0.5
		got, err := e.PredictWithShadow(t.Context(), &executorv1.PredictWithShadowRequest{Symbol: "S", Quote: proto(minutes[warm][0]), BaselineScore: &score})
		if err != nil || got.GetBaseline().GetScore() != score || got.GetShadow().GetScore() != e.engine.Model().Scorer.Score(x) {
			t.Errorf("got %v, %v, want the shadow %v", got, err, e.engine.Model().Scorer.Score(x))
		}
		late := proto(minutes[warm][0])
		late.Time = timestamppb.New(time.UnixMilli(frame.End(warm - 1)).Add(12 * time.Minute))
		got, err = e.PredictWithShadow(t.Context(), &executorv1.PredictWithShadowRequest{Symbol: "S", Quote: late, BaselineScore: &score})
		if err != nil || got.GetOutcome() != executorv1.ShadowOutcome_SHADOW_OUTCOME_REJECTED || !strings.Contains(got.GetShadowError(), "before the quote") {
			t.Errorf("after a hole: got %v, %v", got, err)
		}
	})
}
