package shadow

import (
	"math"
	"slices"

	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"

	"github.com/greenlight-ml/greenlight/pkg/feature"
)

// watched adds to a batch what ml-engine watches for drift and does not score: raw inputs, where states have them, and the
// times of the states. It looks names up once per schema, and its buffers live as long as the worker.
type watched struct {
	// names are the raw inputs that are not features of the model's schema.
	model *feature.Schema
	names []string
	// columns are where a state's schema has them, -1 where it has not.
	state   *feature.Schema
	columns []int

	values []float64
	times  []int64
}

// add fills the request's watched inputs and times from the rows of the batch, and leaves them empty when no row has any.
func (w *watched) add(req *mlenginev1.BatchPredictRequest, batch []*call) {
	w.of(batch[0].schema)
	w.values, w.times = w.values[:0], w.times[:0]
	inputs, times := false, false
	for _, c := range batch {
		for i := range w.names {
			v := w.value(c.State, i)
			inputs = inputs || !math.IsNaN(v)
			w.values = append(w.values, v)
		}
		at := int64(0)
		if !c.EventTime.IsZero() {
			at, times = c.EventTime.UnixMilli(), true
		}
		w.times = append(w.times, at)
	}
	req.Watched, req.WatchedValues, req.EventTimesMs = nil, nil, nil
	if inputs {
		req.Watched, req.WatchedValues = w.names, w.values
	}
	if times {
		req.EventTimesMs = w.times
	}
}

// of sets the names for the schema of the model under trial.
func (w *watched) of(model *feature.Schema) {
	if w.model == model {
		return
	}
	w.model, w.state = model, nil
	w.names = slices.DeleteFunc(feature.RawInputs(), func(name string) bool { return model.Index(name) >= 0 })
}

// value is the i-th raw input of the state, NaN when it has none.
func (w *watched) value(s State, i int) float64 {
	if s.Schema == nil {
		if v, ok := s.Named[w.names[i]]; ok {
			return v
		}
		return math.NaN()
	}
	if w.state != s.Schema {
		w.state, w.columns = s.Schema, w.columns[:0]
		for _, name := range w.names {
			w.columns = append(w.columns, s.Schema.Index(name))
		}
	}
	if c := w.columns[i]; c >= 0 {
		return s.Vector[c]
	}
	return math.NaN()
}
