package scoring_test

import (
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

func TestPredict(t *testing.T) {
	e := startTest(t)
	schema := e.model.Schema
	noBias := good(schema)
	delete(noBias, "bias")
	want := e.model.Scorer.Score(goodVector(schema))
	for name, req := range map[string]*mlenginev1.PredictRequest{
		"by name":      {RequestId: "r", Features: good(schema)},
		"bias omitted": {RequestId: "r", Features: noBias},
		"packed":       {RequestId: "r", Vector: &mlenginev1.FeatureVector{Schema: "v1.8.1", Values: goodVector(schema)}},
		"longest id":   {RequestId: strings.Repeat("r", 256), Symbol: strings.Repeat("s", 64), Features: good(schema)},
	} {
		got, err := e.client.Predict(t.Context(), req)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if math.Float64bits(got.GetScore()) != math.Float64bits(want) || got.GetRequestId() != req.GetRequestId() ||
			got.GetModelVersion() != version || got.GetModelDigest() != e.model.Digest() {
			t.Errorf("%s: got %v, want score %v of %s", name, got, want, version)
		}
	}
	e.wantCounts(t, map[string]float64{"ok": 4})
}

func TestPredictRefuses(t *testing.T) {
	vector := func(change func([]float64) []float64) *mlenginev1.PredictRequest {
		schema := enginetest.Artifact(t, "v1.8.1", version).Schema
		return &mlenginev1.PredictRequest{Vector: &mlenginev1.FeatureVector{Schema: "v1.8.1", Values: change(goodVector(schema))}}
	}
	named := func(change func(map[string]float64)) *mlenginev1.PredictRequest {
		m := good(enginetest.Artifact(t, "v1.8.1", version).Schema)
		change(m)
		return &mlenginev1.PredictRequest{Features: m}
	}
	many := map[string]float64{}
	for i := range 30 {
		many["x"+string(rune('A'+i))] = 1
	}
	for name, tt := range map[string]struct {
		req           *mlenginev1.PredictRequest
		reason, names string
	}{
		"nothing at all":       {&mlenginev1.PredictRequest{}, "INPUT_MISSING", "bias,mid_logret_1m_rel,mid_logret_5m_rel,spread_bp_rel,vol1m_log_rel,rsi14_z,zscore_mid_24h"},
		"no features":          {&mlenginev1.PredictRequest{Features: map[string]float64{}}, "INPUT_MISSING", "bias,mid_logret_1m_rel,mid_logret_5m_rel,spread_bp_rel,vol1m_log_rel,rsi14_z,zscore_mid_24h"},
		"both inputs":          {&mlenginev1.PredictRequest{Features: map[string]float64{"mid": 1}, Vector: &mlenginev1.FeatureVector{}}, "INPUT_AMBIGUOUS", ""},
		"a feature is missing": {named(func(m map[string]float64) { delete(m, "rsi14_z") }), "FEATURE_MISSING", "rsi14_z"},
		"two are missing":      {named(func(m map[string]float64) { delete(m, "rsi14_z"); delete(m, "spread_bp_rel") }), "FEATURE_MISSING", "spread_bp_rel,rsi14_z"},
		"one is unknown":       {named(func(m map[string]float64) { m["mid"] = 1 }), "FEATURE_UNKNOWN", "mid"},
		"one is misspelt":      {named(func(m map[string]float64) { delete(m, "rsi14_z"); m["rsi14z"] = 1 }), "FEATURE_UNKNOWN", "rsi14z"},
		"camelCase over gRPC":  {named(func(m map[string]float64) { delete(m, "rsi14_z"); m["rsi14Z"] = 1 }), "FEATURE_UNKNOWN", "rsi14Z"},
		"thirty are unknown":   {&mlenginev1.PredictRequest{Features: many}, "FEATURE_UNKNOWN", strings.Join(slices.Sorted(maps.Keys(many))[:20], ",")},
		"NaN":                  {named(func(m map[string]float64) { m["rsi14_z"] = math.NaN() }), "FEATURE_INVALID", "rsi14_z"},
		"infinity":             {named(func(m map[string]float64) { m["rsi14_z"] = math.Inf(-1) }), "FEATURE_INVALID", "rsi14_z"},
		"NaN and infinity":     {named(func(m map[string]float64) { m["rsi14_z"] = math.NaN(); m["spread_bp_rel"] = math.Inf(1) }), "FEATURE_INVALID", "spread_bp_rel,rsi14_z"},
		"bias is not 1":        {named(func(m map[string]float64) { m["bias"] = 0 }), "FEATURE_INVALID", "bias"},
		"bias is NaN":          {named(func(m map[string]float64) { m["bias"] = math.NaN() }), "FEATURE_INVALID", "bias"},
		"vector is short":      {vector(func(x []float64) []float64 { return x[:6] }), "VECTOR_LENGTH", ""},
		"vector is long":       {vector(func(x []float64) []float64 { return append(x, 0) }), "VECTOR_LENGTH", ""},
		"vector is empty":      {vector(func([]float64) []float64 { return nil }), "VECTOR_LENGTH", ""},
		"vector with NaN":      {vector(func(x []float64) []float64 { x[2] = math.NaN(); return x }), "FEATURE_INVALID", "mid_logret_5m_rel"},
		"vector with infinity": {vector(func(x []float64) []float64 { x[0], x[6] = 2, math.Inf(1); return x }), "FEATURE_INVALID", "bias,zscore_mid_24h"},
		"vector with bias 0":   {vector(func(x []float64) []float64 { x[0] = 0; return x }), "FEATURE_INVALID", "bias"},
		"schema is unknown":    {&mlenginev1.PredictRequest{Vector: &mlenginev1.FeatureVector{Schema: "v9", Values: make([]float64, 7)}}, "SCHEMA_MISMATCH", ""},
		"schema is not active": {&mlenginev1.PredictRequest{Vector: &mlenginev1.FeatureVector{Schema: "v1.8", Values: make([]float64, 6)}}, "SCHEMA_MISMATCH", ""},
		"schema is not given":  {&mlenginev1.PredictRequest{Vector: &mlenginev1.FeatureVector{Values: make([]float64, 7)}}, "SCHEMA_MISMATCH", ""},
		"request_id too long":  {&mlenginev1.PredictRequest{RequestId: strings.Repeat("r", 257)}, "FIELD_TOO_LONG", ""},
		"symbol is too long":   {&mlenginev1.PredictRequest{Symbol: strings.Repeat("s", 65)}, "FIELD_TOO_LONG", ""},
	} {
		t.Run(name, func(t *testing.T) {
			e := startTest(t)
			_, err := e.client.Predict(t.Context(), tt.req)
			wantError(t, err, codes.InvalidArgument, tt.reason, tt.names)
			e.wantCounts(t, map[string]float64{"invalid_argument": 1})
		})
	}
}

// bent is a scorer with an invalid score.
type bent float64

func (b bent) Score([]float64) float64 { return float64(b) }

func (b bent) Scores(scores, _ []float64) {
	for i := range scores {
		scores[i] = float64(b)
	}
}

func TestPredictOfABrokenModel(t *testing.T) {
	for _, score := range []float64{math.NaN(), math.Inf(1), -0.1, 1.1} {
		a := enginetest.Artifact(t, "v1.8.1", version)
		a.Scorer = bent(score)
		e := start(t, a)
		_, err := e.client.Predict(t.Context(), &mlenginev1.PredictRequest{Features: good(a.Schema)})
		wantError(t, err, codes.Internal, "SCORE_INVALID", "")
		resp, err := e.client.BatchPredict(t.Context(), &mlenginev1.BatchPredictRequest{Schema: "v1.8.1", Values: goodVector(a.Schema)})
		if err != nil || len(resp.GetErrors()) != 1 || resp.GetErrors()[0].GetReason() != mlenginev1.ErrorReason_ERROR_REASON_SCORE_INVALID || !math.IsNaN(resp.GetScores()[0]) {
			t.Errorf("batch, score %v: got %v, %v; want the row's error", score, resp, err)
		}
		e.wantCounts(t, map[string]float64{"internal": 2})
	}
}

// A message that gRPC refuses is counted too.
func TestMessageOverTheLimit(t *testing.T) {
	e := startTest(t)
	_, err := e.client.Predict(t.Context(), &mlenginev1.PredictRequest{RequestId: strings.Repeat("x", 5<<20)})
	wantError(t, err, codes.ResourceExhausted, "", "")
	_, err = e.client.BatchPredict(t.Context(), &mlenginev1.BatchPredictRequest{Schema: "v1.8.1", Values: make([]float64, 5<<20/8)})
	wantError(t, err, codes.ResourceExhausted, "", "")
	waitFor(t, func() bool { return e.counts(t)["resource_exhausted"] == 2 })
	e.wantCounts(t, map[string]float64{"resource_exhausted": 2})
}

func TestModelInfo(t *testing.T) {
	e := startTest(t)
	got, err := e.client.GetModelInfo(t.Context(), &mlenginev1.GetModelInfoRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if got.GetName() != "test" || got.GetVersion() != version || got.GetDigest() != e.model.Digest() || got.GetFamily() != "logistic" ||
		got.GetSchema() != "v1.8.1" || got.GetSchemaHash() != e.model.Schema.Hash() {
		t.Errorf("got %v", got)
	}
	for i, f := range got.GetFeatures() {
		if d := e.model.Schema.Features[i]; f.GetName() != d.Name || f.GetUnit() != d.Unit || f.GetDescription() != d.Description {
			t.Errorf("feature %d: got %v, want %v", i, f, d)
		}
		want := [2]float64{e.model.Reference.Ranges[i].Low, e.model.Reference.Ranges[i].High}
		if got := [2]float64{f.GetProfileLow(), f.GetProfileHigh()}; got != want || !(got[0] <= got[1]) {
			t.Errorf("feature %d: got the range %v, want %v", i, got, want)
		}
	}
	training := e.model.Manifest.Training
	if len(got.GetFeatures()) != 7 || !got.GetTrainStartTime().AsTime().Equal(training.Start) || !got.GetTrainEndTime().AsTime().Equal(training.End) {
		t.Errorf("got %d features, trained %v to %v", len(got.GetFeatures()), got.GetTrainStartTime().AsTime(), got.GetTrainEndTime().AsTime())
	}
	e.wantCounts(t, nil) // GetModelInfo is not a prediction
}

// Scores equal the model's bit for bit, alone and in a batch.
func TestScoresAreTheModels(t *testing.T) {
	e := startTest(t)
	rng := rand.New(rand.NewPCG(8, 8))
	for range 200 {
		x := enginetest.Vector(rng, e.model.Schema)
		got, err := e.client.Predict(t.Context(), &mlenginev1.PredictRequest{Vector: &mlenginev1.FeatureVector{Schema: "v1.8.1", Values: x}})
		if err != nil {
			t.Fatal(err)
		}
		batch, err := e.client.BatchPredict(t.Context(), &mlenginev1.BatchPredictRequest{Schema: "v1.8.1", Values: x})
		if err != nil {
			t.Fatal(err)
		}
		want := math.Float64bits(e.model.Scorer.Score(x))
		if math.Float64bits(got.GetScore()) != want || math.Float64bits(batch.GetScores()[0]) != want {
			t.Fatalf("of %v: got %v and %v, want %v", x, got.GetScore(), batch.GetScores()[0], math.Float64frombits(want))
		}
	}
}

var _ model.Scorer = bent(0)
