package shadow

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

func TestWatched(t *testing.T) {
	lookup := func(name string) *feature.Schema {
		s, ok := feature.Lookup(name)
		if !ok {
			t.Fatalf("no schema %s", name)
		}
		return s
	}
	robust, plain := lookup("v1.8.1"), lookup("v1.8")
	live, err := feature.NewSchema("live", "rsi14", "mid", "bias", "vol1m")
	if err != nil {
		t.Fatal(err)
	}
	nan, when := math.NaN(), time.UnixMilli(1_700_000_000_123)
	packed := State{Schema: robust, Vector: make([]float64, robust.Len())}
	quoted := State{Schema: live, Vector: []float64{55, 100, 1, nan}}
	named := State{Named: map[string]float64{"mid": 101, "spread_bp": 2, "other": 9}}
	tests := []struct {
		name   string
		model  *feature.Schema
		states []State
		times  []time.Time
		names  []string
		values []float64
		ms     []int64
	}{
		{"nothing to watch", robust, []State{packed, packed}, nil, nil, nil, nil},
		{
			"quotes and names", robust,
			[]State{quoted, packed, named, quoted},
			nil,
			[]string{"mid", "spread_bp", "vol1m", "rsi14"},
			[]float64{100, nan, nan, 55, nan, nan, nan, nan, 101, 2, nan, nan, 100, nan, nan, 55},
			nil,
		},
		{"the model has them itself", plain, []State{quoted, named}, nil, nil, nil, nil},
		{"times", robust, []State{packed, packed}, []time.Time{{}, when}, nil, nil, []int64{0, 1_700_000_000_123}},
	}
	var w watched // one for all: its buffers and look-ups live on
	req := &mlenginev1.BatchPredictRequest{}
	for range 2 {
		for _, tt := range tests {
			var batch []*call
			for i, s := range tt.states {
				c := &call{Request: Request{State: s}, schema: tt.model}
				if i < len(tt.times) {
					c.EventTime = tt.times[i]
				}
				batch = append(batch, c)
			}
			w.add(req, batch)
			same := func(a, b float64) bool { return a == b || math.IsNaN(a) && math.IsNaN(b) }
			if !slices.Equal(req.GetWatched(), tt.names) || !slices.EqualFunc(req.GetWatchedValues(), tt.values, same) || !slices.Equal(req.GetEventTimesMs(), tt.ms) {
				t.Errorf("%s: got %v", tt.name, req)
			}
			if n := testing.AllocsPerRun(100, func() { w.add(req, batch) }); n != 0 {
				t.Errorf("%s: %v allocations", tt.name, n)
			}
		}
	}
}
