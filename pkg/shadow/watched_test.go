package shadow

import (
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

func TestWatched(t *testing.T) {
	robust, plain := mustSchema(t, "v1.8.1"), mustSchema(t, "v1.8")
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
		of     []Source
		names  []string
		values []float64
		ms     []int64
		marks  []mlenginev1.Source
	}{
		{name: "nothing to watch", model: robust, states: []State{packed, packed}},
		{
			name: "quotes and names", model: robust, states: []State{quoted, packed, named, quoted},
			names:  []string{"mid", "spread_bp", "vol1m", "rsi14"},
			values: []float64{100, nan, nan, 55, nan, nan, nan, nan, 101, 2, nan, nan, 100, nan, nan, 55},
		},
		{
			name: "schemas in turn", model: robust, states: []State{packed, quoted, packed, named, quoted, packed},
			names:  []string{"mid", "spread_bp", "vol1m", "rsi14"},
			values: []float64{nan, nan, nan, nan, 100, nan, nan, 55, nan, nan, nan, nan, 101, 2, nan, nan, 100, nan, nan, 55, nan, nan, nan, nan},
		},
		{name: "the model has them itself", model: plain, states: []State{quoted, named}},
		{name: "times", model: robust, states: []State{packed, packed}, times: []time.Time{{}, when}, ms: []int64{0, 1_700_000_000_123}},
		{name: "all live", model: robust, states: []State{packed, packed}, of: []Source{Live, Live}},
		{
			name: "a replay among live rows", model: robust, states: []State{packed, packed}, of: []Source{Live, Replay},
			marks: []mlenginev1.Source{mlenginev1.Source_SOURCE_LIVE, mlenginev1.Source_SOURCE_REPLAY},
		},
	}
	var w watched // shared, so that its buffers and look-ups are reused
	req := &mlenginev1.BatchPredictRequest{}
	for range 2 {
		for _, tt := range tests {
			batch := calls(tt.model, tt.states)
			for i, at := range tt.times {
				batch[i].EventTime = at
			}
			for i, s := range tt.of {
				batch[i].Source = s
			}
			w.add(req, batch)
			if !slices.Equal(req.GetWatched(), tt.names) || !slices.EqualFunc(req.GetWatchedValues(), tt.values, alike) || !slices.Equal(req.GetEventTimesMs(), tt.ms) || !slices.Equal(req.GetSources(), tt.marks) {
				t.Errorf("%s: got %v", tt.name, req)
			}
			if n := testing.AllocsPerRun(100, func() { w.add(req, batch) }); n != 0 {
				t.Errorf("%s: %v allocations", tt.name, n)
			}
		}
	}
}

// More schemas than are remembered only cost time.
func TestWatchedOfManySchemas(t *testing.T) {
	var states []State
	var want []float64
	for i := range 3 * maxStates {
		s, err := feature.NewSchema("live", "bias", "mid")
		if err != nil {
			t.Fatal(err)
		}
		states = append(states, State{Schema: s, Vector: []float64{1, float64(i)}})
		want = append(want, float64(i))
	}
	model, err := feature.NewSchema("model", "bias", "spread_bp", "vol1m", "rsi14")
	if err != nil {
		t.Fatal(err)
	}
	var w watched
	req := &mlenginev1.BatchPredictRequest{}
	w.add(req, calls(model, states))
	if !slices.Equal(req.GetWatched(), []string{"mid"}) || !slices.Equal(req.GetWatchedValues(), want) || len(w.states) > maxStates {
		t.Errorf("got %v and %d schemas, want %v", req, len(w.states), want)
	}
}

// calls are shadows of the states, for a model of the schema.
func calls(model *feature.Schema, states []State) []*call {
	var batch []*call
	for _, s := range states {
		batch = append(batch, &call{Request: Request{State: s}, schema: model})
	}
	return batch
}

// The call to ml-engine carries the states' raw inputs and event times.
func TestShadowsAreWatched(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		tr := newTrial(t, enginetest.Options{}, nil)
		robust := tr.engine.Model().Schema
		live, err := feature.NewSchema("live", append(robust.Names(), feature.RawInputs()...)...)
		if err != nil {
			t.Fatal(err)
		}
		r := tr.request()
		r.EventTime = time.UnixMilli(1_700_000_000_123)
		r.State = State{Schema: live, Vector: append(slices.Clone(r.State.Vector), 100, 2, math.NaN(), 55)}
		tr.Detach(r)
		synctest.Wait()
		tr.detach(1)
		tr.quiet()
		got := tr.engine.Calls()
		if len(got) != 2 {
			t.Fatalf("got %d calls, want 2", len(got))
		}
		first := got[0]
		if !slices.Equal(first.Watched, feature.RawInputs()) || !slices.Equal(first.EventTimesMS, []int64{1_700_000_000_123}) ||
			!slices.EqualFunc(first.WatchedValues, []float64{100, 2, math.NaN(), 55}, alike) {
			t.Errorf("got %+v", first)
		}
		if second := got[1]; len(second.Watched)+len(second.WatchedValues)+len(second.EventTimesMS) > 0 {
			t.Errorf("a state with neither: got %+v", second)
		}
		tr.wantTotals(map[Outcome]uint64{Match: 2})
	})
}

// alike treats NaN as equal to NaN.
func alike(a, b float64) bool { return a == b || math.IsNaN(a) && math.IsNaN(b) }
