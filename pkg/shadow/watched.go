package shadow

import (
	"math"
	"slices"

	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"

	"github.com/greenlight-ml/greenlight/pkg/feature"
)

// watched adds to a batch the data that ml-engine watches for drift but does not score: raw inputs, event times and sources.
// It looks up names once per schema and reuses its buffers.
type watched struct {
	// names are the raw inputs that are not features of the model's schema.
	model *feature.Schema
	names []string
	// states are the schemas of the states seen so far.
	states []inputColumns

	values  []float64
	times   []int64
	sources []mlenginev1.Source
}

// inputColumns has the index of each raw input in a schema, -1 for a missing one.
type inputColumns struct {
	schema *feature.Schema
	at     []int
}

// maxStates is how many schemas are remembered. An executor accepts fewer.
const maxStates = 8

// add fills the request's watched inputs, times and sources from the rows of the batch. It leaves inputs and times empty
// if no row has any, and sources empty if all rows are live.
func (w *watched) add(req *mlenginev1.BatchPredictRequest, batch []*call) {
	w.setModel(batch[0].schema)
	w.values, w.times, w.sources = w.values[:0], w.times[:0], w.sources[:0]
	inputs, times, sources := false, false, false
	for _, c := range batch {
		inputs = w.row(c.State) || inputs
		at := int64(0)
		if !c.EventTime.IsZero() {
			at, times = c.EventTime.UnixMilli(), true
		}
		w.times = append(w.times, at)
		w.sources = append(w.sources, mlenginev1.Source(c.Source.proto()))
		sources = sources || c.Source != Live
	}
	req.Watched, req.WatchedValues, req.EventTimesMs, req.Sources = nil, nil, nil, nil
	if inputs {
		req.Watched, req.WatchedValues = w.names, w.values
	}
	if times {
		req.EventTimesMs = w.times
	}
	if sources {
		req.Sources = w.sources
	}
}

// setModel sets the names for the schema of the model under trial.
func (w *watched) setModel(model *feature.Schema) {
	if w.model == model {
		return
	}
	w.model, w.states = model, nil
	w.names = slices.DeleteFunc(feature.RawInputs(), func(name string) bool { return model.Index(name) >= 0 })
}

// row appends the raw inputs of the state, NaN for missing ones, and reports whether it has any.
func (w *watched) row(s State) (some bool) {
	if s.Schema == nil {
		for _, name := range w.names {
			v, ok := s.Named[name]
			if !ok {
				v = math.NaN()
			}
			some = some || ok
			w.values = append(w.values, v)
		}
		return some
	}
	for _, c := range w.columns(s.Schema) {
		v := math.NaN()
		if c >= 0 {
			v = s.Vector[c]
		}
		some = some || !math.IsNaN(v)
		w.values = append(w.values, v)
	}
	return some
}

// columns returns the indexes of the names in the schema.
func (w *watched) columns(of *feature.Schema) []int {
	for i := range w.states {
		if w.states[i].schema == of {
			return w.states[i].at
		}
	}
	if len(w.states) == maxStates {
		w.states = w.states[:0]
	}
	at := make([]int, len(w.names))
	for i, name := range w.names {
		at[i] = of.Index(name)
	}
	w.states = append(w.states, inputColumns{of, at})
	return at
}
