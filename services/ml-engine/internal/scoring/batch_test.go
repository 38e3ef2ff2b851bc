package scoring_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

// waitFor polls for a condition that becomes true just after a call was answered.
func waitFor(t *testing.T, done func() bool) {
	t.Helper()
	for range 1000 {
		if done() {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

func TestBatch(t *testing.T) {
	e := startTest(t)
	rng := rand.New(rand.NewPCG(1, 1))
	var values []float64
	for range 10_000 {
		values = append(values, enginetest.Vector(rng, e.model.Schema)...)
	}
	resp, err := e.client.BatchPredict(t.Context(), &mlenginev1.BatchPredictRequest{Schema: "v1.8.1", Values: values})
	if err != nil || len(resp.GetScores()) != 10_000 || len(resp.GetErrors()) != 0 {
		t.Fatalf("got %d scores, %d errors, %v; want 10000 scores", len(resp.GetScores()), len(resp.GetErrors()), err)
	}
	for i, got := range resp.GetScores() {
		if want := e.model.Scorer.Score(values[i*7 : i*7+7]); math.Float64bits(got) != math.Float64bits(want) {
			t.Fatalf("row %d: got %v, want %v", i, got, want)
		}
	}
	if resp.GetModelVersion() != version || resp.GetModelDigest() != e.model.Digest() {
		t.Errorf("model: got %s %s", resp.GetModelVersion(), resp.GetModelDigest())
	}
	e.wantCounts(t, map[string]float64{"ok": 10_000})
}

func TestBatchRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		schema string
		values int
		reason string
	}{
		"empty":           {"v1.8.1", 0, "BATCH_EMPTY"},
		"not a multiple":  {"v1.8.1", 7*3 + 1, "VECTOR_LENGTH"},
		"10,001 rows":     {"v1.8.1", 7 * 10_001, "BATCH_TOO_LARGE"},
		"unknown schema":  {"v9", 7, "SCHEMA_MISMATCH"},
		"other schema":    {"v1.8", 6, "SCHEMA_MISMATCH"},
		"no schema":       {"", 7, "SCHEMA_MISMATCH"},
		"nothing at all":  {"", 0, "SCHEMA_MISMATCH"},
		"less than a row": {"v1.8.1", 3, "VECTOR_LENGTH"},
	} {
		t.Run(name, func(t *testing.T) {
			e := startTest(t)
			_, err := e.client.BatchPredict(t.Context(), &mlenginev1.BatchPredictRequest{Schema: tt.schema, Values: make([]float64, tt.values)})
			wantError(t, err, codes.InvalidArgument, tt.reason, "")
			e.wantCounts(t, map[string]float64{"invalid_argument": 1})
		})
	}
}

// A bad row fails alone.
func TestBatchRowErrors(t *testing.T) {
	e := startTest(t)
	var values []float64
	for range 5 {
		values = append(values, goodVector(e.model.Schema)...)
	}
	values[1*7+5] = math.NaN()
	values[3*7+0] = 2
	values[4*7+1] = math.Inf(-1)
	resp, err := e.client.BatchPredict(t.Context(), &mlenginev1.BatchPredictRequest{Schema: "v1.8.1", Values: values})
	if err != nil {
		t.Fatal(err)
	}
	var at []uint32
	names := []string{"rsi14_z", "bias", "mid_logret_1m_rel"}
	for i, r := range resp.GetErrors() {
		at = append(at, r.GetRow())
		if r.GetReason() != mlenginev1.ErrorReason_ERROR_REASON_FEATURE_INVALID || !strings.Contains(r.GetMessage(), names[i]) {
			t.Errorf("error %d: got %v, want FEATURE_INVALID of %s", i, r, names[i])
		}
	}
	if !slices.Equal(at, []uint32{1, 3, 4}) {
		t.Fatalf("rows with errors: got %v, want 1, 3, 4", at)
	}
	want := e.model.Scorer.Score(goodVector(e.model.Schema))
	for i, got := range resp.GetScores() {
		if bad := slices.Contains(at, uint32(i)); bad != math.IsNaN(got) || !bad && got != want {
			t.Errorf("row %d: got %v, want %v (NaN for a bad row)", i, got, want)
		}
	}
	e.wantCounts(t, map[string]float64{"ok": 2, "invalid_argument": 3})
}

// enginetest answers like this service in everything that a shadow can observe.
func TestEnginetestAgrees(t *testing.T) {
	fake := enginetest.Start(t, enginetest.Options{Version: version})
	e := startTest(t)
	bad := goodVector(e.model.Schema)
	bad[2] = math.Inf(1)
	noBias := goodVector(e.model.Schema)
	noBias[0] = 0
	for name, req := range map[string]*mlenginev1.BatchPredictRequest{
		"good":           {Schema: "v1.8.1", Values: goodVector(e.model.Schema)},
		"bad rows":       {Schema: "v1.8.1", Values: slices.Concat(bad, goodVector(e.model.Schema), noBias)},
		"other schema":   {Schema: "v1.8", Values: make([]float64, 6)},
		"empty":          {Schema: "v1.8.1"},
		"not a multiple": {Schema: "v1.8.1", Values: make([]float64, 8)},
		"watched":        {Schema: "v1.8.1", Values: goodVector(e.model.Schema), Watched: []string{"mid"}, WatchedValues: []float64{1}, EventTimesMs: []int64{1}},
		"few watched":    {Schema: "v1.8.1", Values: goodVector(e.model.Schema), Watched: []string{"mid"}},
		"many times":     {Schema: "v1.8.1", Values: goodVector(e.model.Schema), EventTimesMs: []int64{1, 2}},
	} {
		got, gotErr := fake.Client().BatchPredict(t.Context(), req)
		want, wantErr := e.client.BatchPredict(t.Context(), req)
		if status.Code(gotErr) != status.Code(wantErr) {
			t.Errorf("%s: got %v, want %v", name, gotErr, wantErr)
		}
		if got.GetModelDigest() != want.GetModelDigest() || got.GetModelVersion() != want.GetModelVersion() {
			t.Errorf("%s: model: got %s, want %s", name, got.GetModelVersion(), want.GetModelVersion())
		}
		if !slices.EqualFunc(got.GetScores(), want.GetScores(), func(a, b float64) bool { return math.Float64bits(a) == math.Float64bits(b) }) {
			t.Errorf("%s: scores: got %v, want %v", name, got.GetScores(), want.GetScores())
		}
		if !slices.EqualFunc(got.GetErrors(), want.GetErrors(), func(a, b *mlenginev1.RowError) bool {
			return a.GetRow() == b.GetRow() && a.GetReason() == b.GetReason()
		}) {
			t.Errorf("%s: errors: got %v, want %v", name, got.GetErrors(), want.GetErrors())
		}
	}
	gotInfo, err := fake.Client().GetModelInfo(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	wantInfo, err := e.client.GetModelInfo(t.Context(), nil)
	if err != nil || gotInfo.GetDigest() != wantInfo.GetDigest() || gotInfo.GetSchemaHash() != wantInfo.GetSchemaHash() ||
		gotInfo.GetFeatures()[2].GetProfileHigh() != wantInfo.GetFeatures()[2].GetProfileHigh() || wantInfo.GetFeatures()[2].ProfileHigh == nil {
		t.Errorf("info: got %v, want %v (%v)", gotInfo, wantInfo, err)
	}
}
