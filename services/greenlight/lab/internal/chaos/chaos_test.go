package chaos

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/market"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/faults"
)

func TestFaultsAreKnown(t *testing.T) {
	for _, name := range faultNames {
		if !slices.ContainsFunc(faults.Faults(), func(f faults.Fault) bool { return f.Name == name }) {
			t.Errorf("there is no fault %q", name)
		}
	}
}

// disconnected has lost its connection.
type disconnected struct {
	executorv1.DecisionServiceClient

	waits bool // whether the last call waits for another one
}

func (d *disconnected) ObserveQuotes(_ context.Context, opts ...grpc.CallOption) (grpc.ClientStreamingClient[executorv1.ObserveQuotesRequest, executorv1.ObserveQuotesResponse], error) {
	d.waits = slices.Contains(opts, grpc.WaitForReady(true))
	return nil, status.Error(codes.Unavailable, "no connection")
}

// The first quotes wait for a connection. Later, a lost connection is a loss.
func TestStreamCountsLostConnections(t *testing.T) {
	d, b := &disconnected{}, &book{of: map[string]*Calls{}}
	e := &faults.Executor{}
	e.Decisions = d
	f, err := newFeed(&model.Baseline{Logistic: model.Logistic{Features: []string{"spread_bp"}}}, b, nil, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.prepare(t.Context(), e); err == nil || !d.waits {
		t.Errorf("the first quotes: got %v, waits %t", err, d.waits)
	}
	stream(b, e, f.all)(t.Context(), 0)
	if got := b.of[streams]; got == nil || got.Lost != 1 || d.waits {
		t.Errorf("later quotes: got %+v, waits %t", got, d.waits)
	}
}

func TestStatesAreForAllModels(t *testing.T) {
	data, err := experiment.Simulate(market.SimulateOptions{Seed: 1, Days: 9})
	if err != nil {
		t.Fatal(err)
	}
	frame, err := feature.Compute(data.Bars)
	if err != nil {
		t.Fatal(err)
	}
	var models []*model.Artifact
	for _, schema := range []string{"v1.8.1", "v1.8"} {
		models = append(models, enginetest.Artifact(t, schema, schema+"-test"))
	}
	minutes := []int{frame.Len() - 3, frame.Len() - 2, 0} // the first comes before all features are ready
	states, err := States(frame, data.Symbol, minutes, models)
	if err != nil || len(states) != 2 {
		t.Fatalf("%d states, %v: want 2", len(states), err)
	}
	for _, s := range states {
		for _, a := range models {
			x := make([]float64, a.Schema.Len())
			for i, name := range a.Schema.Names() {
				x[i] = s.Named[name]
			}
			if want := a.Scorer.Score(x); !same(s.Scores[a.Digest()], want) {
				t.Errorf("%s: got %v, want %v", a.Manifest.Version, s.Scores[a.Digest()], want)
			}
		}
	}
	if _, err := States(frame, data.Symbol, []int{0}, models); err == nil {
		t.Error("no state at all: got no error")
	}
}

func TestLastWords(t *testing.T) {
	path := filepath.Join(t.TempDir(), "executor.log")
	for text, want := range map[string]life{
		"level=INFO msg=\"executor serves\"\ntime=x level=INFO msg=\"executor stopped\" requests=12 in_flight=1\n": {12, 1},
		`{"msg":"executor stopped","requests":34,"in_flight":0}`:                                                   {34, 0},
	} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if got, err := lastWords(path); got != want || err != nil {
			t.Errorf("%s: got %+v, %v", text, got, err)
		}
	}
	if err := os.WriteFile(path, []byte("killed"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := lastWords(path); err == nil {
		t.Errorf("no last words: got %+v", got)
	}
}

func TestMissed(t *testing.T) {
	good := func() *Result {
		return &Result{
			Calls: map[string]*Calls{predicts: {Answered: 5, Refused: 1}}, Recovered: true,
			Early: faults.Resources{Goroutines: 50, FDs: 10, RSS: 100}, Late: faults.Resources{Goroutines: 60, FDs: 10, RSS: 109},
		}
	}
	if m := good().Missed(); len(m) > 0 {
		t.Fatalf("nothing went wrong: got %v", m)
	}
	for want, change := range map[string]func(*Result){
		"Predict: 1 wrong":       func(r *Result) { r.Calls[predicts].Wrong = 1 },
		"Predict: 2 lost":        func(r *Result) { r.Calls[predicts].Lost = 2 },
		"3 requests unaccounted": func(r *Result) { r.Unaccounted = 3 },
		"were not back":          func(r *Result) { r.Recovered = false },
		"goroutines grew":        func(r *Result) { r.Late.Goroutines = 71 },
		"file descriptors grew":  func(r *Result) { r.Late.FDs = 19 },
		"memory grew":            func(r *Result) { r.Late.RSS = 111 },
	} {
		r := good()
		change(r)
		var table strings.Builder
		if err := r.Table(&table); err != nil || !strings.Contains(table.String(), want) {
			t.Errorf("no %q in\n%s (%v)", want, table.String(), err)
		}
	}
}

// A call that its client lost may or may not have been counted.
func TestDistance(t *testing.T) {
	for _, test := range []struct {
		requests, answered, lost uint64
		want                     int64
	}{{5, 5, 0, 0}, {5, 4, 0, 1}, {5, 6, 2, 1}, {5, 4, 1, 0}, {5, 5, 1, 0}, {7, 4, 1, 2}} {
		if got := distance(test.requests, test.answered, test.lost); got != test.want {
			t.Errorf("%+v: got %d", test, got)
		}
	}
}

// A decision by a model is right only if it is the score of the gate's model, close to the baseline.
func TestDecisionBehindAGate(t *testing.T) {
	s := State{State: traffic.State{Baseline: 0.3}, Scores: map[string]float64{"near": 0.34, "far": 0.4}}
	by := func(model string) *executorv1.GateDecision {
		return &executorv1.GateDecision{DecidedBy: executorv1.Decider_DECIDER_MODEL, BaselineScore: 0.3, ModelDigest: model}
	}
	fallback := by("near")
	fallback.DecidedBy = executorv1.Decider_DECIDER_BASELINE
	another := by("near")
	another.BaselineScore = 0.31
	for name, test := range map[string]struct {
		gate *executorv1.GateDecision
		want score
		ok   bool
	}{
		"no gate": {nil, score{0.3, "b"}, true}, "model": {by("near"), score{0.34, "near"}, true}, "baseline": {fallback, score{0.3, "b"}, true},
		"too far": {by("far"), score{0.4, "far"}, false}, "unknown": {by("none"), score{0, "none"}, false}, "another baseline": {another, score{0.34, "near"}, false},
	} {
		if want, ok := s.decision(test.gate, "b"); want != test.want || ok != test.ok {
			t.Errorf("%s: got %v, %v", name, want, ok)
		}
	}
}
