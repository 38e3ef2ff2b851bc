package scoring_test

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

// wantDrift checks how many rows the drift monitor counted, and how many of them have each raw input. If a row has only some
// of the inputs, the others count as missing.
func (e *engine) wantDrift(t *testing.T, rows uint64, inputs map[string]uint64) {
	t.Helper()
	resp, err := e.drift.GetDrift(t.Context(), &mlenginev1.GetDriftRequest{Bins: true})
	if err != nil || resp.GetRows() != rows {
		t.Fatalf("drift: got %d rows (%v), want %d", resp.GetRows(), err, rows)
	}
	got := map[string]uint64{}
	for _, f := range resp.GetFeatures() {
		n := f.GetRows()
		for _, b := range f.GetBins() {
			if b.GetBin() == "missing" {
				n -= b.GetCount()
			}
		}
		if f.GetRole() == "input" && n > 0 {
			got[f.GetFeature()] = n
		} else if f.GetRole() != "input" && n != rows {
			t.Errorf("drift: got %d rows of %s, want %d", n, f.GetFeature(), rows)
		}
	}
	if !maps.Equal(got, inputs) {
		t.Errorf("drift: got inputs %v, want %v", got, inputs)
	}
}

// names returns n names of raw inputs, only the first of which is known.
func names(n int) []string {
	all := []string{"mid"}
	for i := 1; i < n; i++ {
		all = append(all, fmt.Sprintf("x%d", i))
	}
	return all[:n]
}

func TestPredictIsWatched(t *testing.T) {
	watched := func(n int) map[string]float64 {
		m := map[string]float64{}
		for _, name := range names(n) {
			m[name] = 100
		}
		return m
	}
	for name, tt := range map[string]struct {
		change func(*mlenginev1.PredictRequest)
		rows   uint64
		inputs map[string]uint64
		reason string
		names  string
	}{
		"nothing beside it": {func(*mlenginev1.PredictRequest) {}, 1, map[string]uint64{}, "", ""},
		"two inputs":        {func(r *mlenginev1.PredictRequest) { r.Watched = map[string]float64{"mid": 100, "rsi14": 50} }, 1, map[string]uint64{"mid": 1, "rsi14": 1}, "", ""},
		"an input is NaN":   {func(r *mlenginev1.PredictRequest) { r.Watched = map[string]float64{"mid": math.NaN(), "vol1m": 3} }, 1, map[string]uint64{"vol1m": 1}, "", ""},
		"all are NaN":       {func(r *mlenginev1.PredictRequest) { r.Watched = map[string]float64{"mid": math.NaN()} }, 1, map[string]uint64{}, "", ""},
		"unknown names":     {func(r *mlenginev1.PredictRequest) { r.Watched = map[string]float64{"x": 1, "rsi14_z": 1} }, 1, map[string]uint64{}, "", ""},
		"as many as may be": {func(r *mlenginev1.PredictRequest) { r.Watched = watched(16) }, 1, map[string]uint64{"mid": 1}, "", ""},
		"too many":          {func(r *mlenginev1.PredictRequest) { r.Watched = watched(17) }, 0, map[string]uint64{}, "FIELD_TOO_LONG", ""},
		"a bad state": {func(r *mlenginev1.PredictRequest) {
			r.Watched = watched(1)
			r.Vector.Values[2] = math.NaN()
		}, 0, map[string]uint64{}, "FEATURE_INVALID", "mid_logret_5m_rel"},
	} {
		t.Run(name, func(t *testing.T) {
			e := startTest(t)
			req := &mlenginev1.PredictRequest{Vector: &mlenginev1.FeatureVector{Schema: "v1.8.1", Values: goodVector(e.model.Schema)}}
			tt.change(req)
			_, err := e.client.Predict(t.Context(), req)
			if tt.reason == "" && err != nil {
				t.Fatal(err)
			}
			if tt.reason != "" {
				wantError(t, err, codes.InvalidArgument, tt.reason, tt.names)
			}
			e.wantDrift(t, tt.rows, tt.inputs)
		})
	}
}

func TestBatchIsWatched(t *testing.T) {
	nan := math.NaN()
	const rows = 3
	for name, tt := range map[string]struct {
		change func(*mlenginev1.BatchPredictRequest)
		rows   uint64
		inputs map[string]uint64
		reason string
		text   string
	}{
		"nothing beside it": {func(*mlenginev1.BatchPredictRequest) {}, 3, map[string]uint64{}, "", ""},
		"inputs and times": {func(r *mlenginev1.BatchPredictRequest) {
			r.Watched, r.WatchedValues, r.EventTimesMs = []string{"rsi14", "mid"}, []float64{50, 100, nan, 101, nan, nan}, []int64{1, 0, 3}
		}, 3, map[string]uint64{"rsi14": 1, "mid": 2}, "", ""},
		"a bad row": {func(r *mlenginev1.BatchPredictRequest) {
			r.Values[8] = nan
			r.Watched, r.WatchedValues = []string{"mid"}, []float64{1, 2, 3}
		}, 2, map[string]uint64{"mid": 2}, "", ""},
		"unknown names": {func(r *mlenginev1.BatchPredictRequest) {
			r.Watched, r.WatchedValues = []string{"x"}, []float64{1, 2, 3}
		}, 3, map[string]uint64{}, "", ""},
		"as many as may be": {func(r *mlenginev1.BatchPredictRequest) {
			r.Watched, r.WatchedValues = names(16), slices.Repeat([]float64{1}, 16*rows)
		}, 3, map[string]uint64{"mid": 3}, "", ""},
		"too many": {func(r *mlenginev1.BatchPredictRequest) {
			r.Watched, r.WatchedValues = names(17), slices.Repeat([]float64{1}, 17*rows)
		}, 0, map[string]uint64{}, "FIELD_TOO_LONG", "17 names: at most 16"},
		"values missing": {func(r *mlenginev1.BatchPredictRequest) { r.Watched = names(2) }, 0, map[string]uint64{}, "VECTOR_LENGTH", "watched_values has 0 entries: want 6"},
		"a value too many": {func(r *mlenginev1.BatchPredictRequest) {
			r.Watched, r.WatchedValues = names(1), []float64{1, 2, 3, 4}
		}, 0, map[string]uint64{}, "VECTOR_LENGTH", "watched_values has 4 entries: want 3"},
		"values without names": {func(r *mlenginev1.BatchPredictRequest) { r.WatchedValues = []float64{1} }, 0, map[string]uint64{}, "VECTOR_LENGTH", "watched_values has 1 entries: want 0"},
		"a time too few":       {func(r *mlenginev1.BatchPredictRequest) { r.EventTimesMs = []int64{1, 2} }, 0, map[string]uint64{}, "VECTOR_LENGTH", "event_times_ms has 2 entries: want 3"},
	} {
		t.Run(name, func(t *testing.T) {
			e := startTest(t)
			req := &mlenginev1.BatchPredictRequest{Schema: "v1.8.1", Values: slices.Repeat(goodVector(e.model.Schema), rows)}
			tt.change(req)
			_, err := e.client.BatchPredict(t.Context(), req)
			if tt.reason == "" && err != nil {
				t.Fatal(err)
			}
			if tt.reason != "" {
				wantError(t, err, codes.InvalidArgument, tt.reason, "")
				if !strings.Contains(err.Error(), tt.text) {
					t.Errorf("got %v, want %q in it", err, tt.text)
				}
				e.wantCounts(t, map[string]float64{"invalid_argument": 1})
			}
			e.wantDrift(t, tt.rows, tt.inputs)
		})
	}
}
