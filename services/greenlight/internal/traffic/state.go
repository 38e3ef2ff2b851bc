// Package traffic calls the services as their users do, with real market states. It checks every answer against the
// same computation in process.
package traffic

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/model"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// State is one market state to send, with the expected scores.
type State struct {
	ID     string
	Symbol string
	Time   *timestamppb.Timestamp
	// Source is sent with every request, so that none counts as live by mistake.
	Source executorv1.Source
	// Vector holds the values in the order of the model's schema.
	Vector []float64
	// Named holds the values by name: the model's features, the baseline's inputs, and the raw inputs that ml-engine monitors
	// for drift.
	Named map[string]float64
	// Score and Baseline are the expected scores of the model and the baseline.
	Score, Baseline float64
	// Decides is the baseline. Unchecked means that its expected score is unknown.
	Decides   evidence.Model
	Unchecked bool
	// Sent reports whether Baseline is sent with the request, because the executor decides by it.
	Sent bool
}

// VectorRequest returns the request for a decision on the state as a packed vector of the schema. It lacks the raw inputs that
// ml-engine monitors.
func (s State) VectorRequest(schema string) *executorv1.PredictRequest {
	return &executorv1.PredictRequest{
		RequestId: s.ID, Symbol: s.Symbol, EventTime: s.Time, Source: s.Source, Vector: &executorv1.FeatureVector{Schema: schema, Values: s.Vector},
	}
}

// Frame has the market states: see experiment.Rows.
type Frame interface {
	End(i int) int64
	Row(i int, s *feature.Schema, dst []float64) bool
	Column(name string) []float64
}

// grouped is a Frame of several symbols.
type grouped interface {
	Symbol(i int) string
}

// States returns the states of the frame's minutes for an executor whose baseline is the model's heuristic. They name the
// source. Minutes with an undefined input are skipped.
func States(frame Frame, symbol string, minutes []int, a *model.Artifact, source evidence.Source) ([]State, error) {
	return StatesFor(frame, symbol, minutes, a, Heuristic(a), source)
}

// StatesFor is like [States], for an executor with the baseline b.
func StatesFor(frame Frame, symbol string, minutes []int, a *model.Artifact, b Baseline, source evidence.Source) ([]State, error) {
	mark, err := sourceOf(source)
	if err != nil {
		return nil, err
	}
	score, err := b.scores(frame)
	if err != nil {
		return nil, fmt.Errorf("baseline: %w", err)
	}
	states := make([]State, 0, len(minutes))
	groups, several := frame.(grouped)
	for _, i := range minutes {
		if several {
			symbol = groups.Symbol(i)
		}
		x := make([]float64, a.Schema.Len())
		named := make(map[string]float64, len(x)+len(b.Inputs))
		baseline, ok := score(i, named)
		if !ok || !frame.Row(i, a.Schema, x) {
			continue
		}
		maps.Insert(named, pairs(a.Schema, x))
		for _, name := range feature.RawInputs() {
			if column := frame.Column(name); i < len(column) && !math.IsNaN(column[i]) {
				named[name] = column[i]
			}
		}
		if b.unknown() { // and so are its inputs: send all features
			for _, schema := range feature.Schemas() {
				if all := make([]float64, schema.Len()); frame.Row(i, schema, all) {
					maps.Insert(named, pairs(schema, all))
				}
			}
		}
		states = append(states, State{
			ID: fmt.Sprintf("%s-%d", symbol, frame.End(i)), Symbol: symbol,
			Time: timestamppb.New(time.UnixMilli(frame.End(i))), Source: mark,
			Vector: x, Named: named, Score: a.Scorer.Score(x), Baseline: baseline,
			Decides: b.Model, Unchecked: b.unknown(), Sent: b.Sent,
		})
	}
	return states, nil
}

// sourceOf returns the source as the API's enum value.
func sourceOf(s evidence.Source) (executorv1.Source, error) {
	switch s {
	case evidence.Live:
		return executorv1.Source_SOURCE_LIVE, nil
	case evidence.Replay:
		return executorv1.Source_SOURCE_REPLAY, nil
	case evidence.Simulated:
		return executorv1.Source_SOURCE_SIMULATED, nil
	}
	return 0, fmt.Errorf("source %q: want live, replay or simulated", s)
}

func pairs(s *feature.Schema, x []float64) func(func(string, float64) bool) {
	return func(yield func(string, float64) bool) {
		for i, f := range s.Features {
			if !yield(f.Name, x[i]) {
				return
			}
		}
	}
}

// Varied picks n of the states, evenly spaced, so that a short run covers the whole period. It shuffles them, so that
// neighbours in time are not sent one after another. It repeats states if there are fewer than n. The order depends only on n.
func Varied(states []State, n int) []State {
	if len(states) == 0 {
		return nil
	}
	const seed = 7
	picked := make([]State, n)
	for i := range picked {
		if n <= len(states) {
			picked[i] = states[i*len(states)/n]
		} else {
			picked[i] = states[i%len(states)]
		}
	}
	rand.New(rand.NewPCG(seed, uint64(n))).Shuffle(len(picked), func(i, j int) { picked[i], picked[j] = picked[j], picked[i] })
	return picked
}

// same reports whether two scores have the same bits.
func same(a, b float64) bool { return math.Float64bits(a) == math.Float64bits(b) }
