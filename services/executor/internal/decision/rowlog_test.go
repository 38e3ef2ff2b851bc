package decision_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/decide"
	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/featurelog"
	"github.com/greenlight-ml/greenlight/pkg/market"
	"github.com/greenlight-ml/greenlight/pkg/shadow"
	"github.com/greenlight-ml/greenlight/pkg/testkit/durabletest"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/executor/internal/rowlog"
)

// openLog opens a log for the heuristic of start.
func openLog(t *testing.T, opts featurelog.Options) *rowlog.Log {
	t.Helper()
	inputs, err := feature.NewSchema("baseline", feature.BaselineInputs()...)
	if err != nil {
		t.Fatal(err)
	}
	opts.Logger = slog.New(slog.DiscardHandler)
	l, err := rowlog.Open(opts,
		rowlog.Baseline{Version: "heuristic-test", Digest: "digest", Inputs: inputs}, feature.NewKnown())
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func closeLog(t *testing.T, l *rowlog.Log) {
	t.Helper()
	if err := l.Close(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
}

// rowsOf reads the rows of the log by request.
func rowsOf(t *testing.T, dir string) map[string]featurelog.Row {
	t.Helper()
	rows := map[string]featurelog.Row{}
	for r, err := range featurelog.Read(dir, time.Time{}, time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)) {
		if err != nil {
			t.Fatal(err)
		}
		if _, twice := rows[r.RequestID]; twice {
			t.Errorf("%s is there twice", r.RequestID)
		}
		rows[r.RequestID] = r
	}
	return rows
}

// gated is a request with a decision.
type gated decide.Decision

func (gated) Advise(shadow.Result) {}

func (g gated) Decision() (decide.Decision, uint64) { return decide.Decision(g), 42 }

// While a gate is set, a row has the decision, whose score is logged bit for bit.
func TestRowsOfAGate(t *testing.T) {
	dir := t.TempDir()
	log := openLog(t, featurelog.Options{Dir: dir})
	score := math.Nextafter(0.1, 1)
	want := map[string]featurelog.Decision{"no gate": {}}
	for _, r := range append(decide.Reasons(), decide.None) {
		d := featurelog.Decision{By: "baseline", Reason: r.String(), Score: featurelog.Some(score), Revision: 42}
		if r == decide.None {
			d.By, d.Reason = "model", ""
		}
		want[r.String()] = d
		log.Settled(shadow.Request{ID: r.String(), Baseline: 0.5, Gated: gated{Score: score, Reason: r}}, shadow.Result{Outcome: shadow.Match, Score: 0.25})
	}
	log.Settled(shadow.Request{ID: "no gate", Baseline: 0.5}, shadow.Result{Outcome: shadow.Match, Score: 0.25})
	closeLog(t, log)
	got := rowsOf(t, dir)
	if len(got) != len(want) {
		t.Errorf("%d rows, want %d", len(got), len(want))
	}
	for id, d := range want {
		if r := got[id]; r.Decision != d || r.BaselineScore != 0.5 || r.ShadowScore.Value != 0.25 {
			t.Errorf("%q: got %+v, want the decision %+v", id, r, d)
		}
	}
}

func sameBits(a, b []float64) bool {
	return slices.EqualFunc(a, b, func(x, y float64) bool { return math.Float64bits(x) == math.Float64bits(y) })
}

// Every request leaves a row, whatever the outcome of its shadow: the scored vector, both scores and the outcome.
func TestEveryRequestLeavesARow(t *testing.T) {
	for name, breakEngine := range engineFaults {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			var want, absent uint64
			synctest.Test(t, func(t *testing.T) {
				log := openLog(t, featurelog.Options{Dir: dir})
				e := start(t, enginetest.Options{}, 80, func(s *setup) { s.settled = log.Settled })
				breakEngine(e.engine)
				if name == "of another schema" {
					time.Sleep(6 * time.Second) // until the executor has probed
				}
				s := schema(t, "v1.8.1")
				stream := e.decides(t.Context())
				states, event := map[string][]float64{}, time.UnixMilli(1_736_121_600_000)
				for i := range 200 {
					id, x := fmt.Sprintf("request-%d", i), enginetest.Vector(e.rng, s)
					states[id] = slices.Clone(x)
					var err error
					switch i % 4 {
					case 0:
						ask(t, stream, &executorv1.DecideRequest{Request: &executorv1.PredictRequest{RequestId: id, Symbol: "S", EventTime: timestamppb.New(event), Vector: &executorv1.FeatureVector{Schema: s.Name, Values: x}}})
					case 1:
						_, err = e.Predict(t.Context(), &executorv1.PredictRequest{RequestId: id, Symbol: "S", EventTime: timestamppb.New(event), Features: named(s, x)})
					case 2:
						_, err = e.Predict(t.Context(), &executorv1.PredictRequest{RequestId: id, Symbol: "S", EventTime: timestamppb.New(event), Vector: &executorv1.FeatureVector{Schema: s.Name, Values: x}})
					default:
						_, err = e.PredictWithShadow(t.Context(), &executorv1.PredictWithShadowRequest{RequestId: id, Symbol: "S", EventTime: timestamppb.New(event), Vector: &executorv1.FeatureVector{Schema: s.Name, Values: x}})
					}
					if err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(timeout)
				synctest.Wait()
				_, counts := e.report()
				closeLog(t, log)
				logged := map[string]uint64{}
				rows := rowsOf(t, dir)
				for id, r := range rows {
					logged[r.Outcome]++
					if r.Schema.Name != s.Name || r.Schema.Hash != s.Hash() || !sameBits(r.Features, states[id]) {
						t.Fatalf("%s: got %v %v, want %v", id, r.Schema.Name, r.Features, states[id])
					}
					if math.Float64bits(r.BaselineScore) != math.Float64bits(e.baselineOf(s, states[id])) || r.BaselineVersion != "heuristic-test" {
						t.Fatalf("%s: baseline %v of %s", id, r.BaselineScore, r.BaselineVersion)
					}
					compared := r.Outcome == "match" || r.Outcome == "mismatch"
					if compared != r.ShadowScore.Present || compared && r.ModelDigest != e.engine.Model().Digest() {
						t.Fatalf("%s: %s with the score %+v of %s", id, r.Outcome, r.ShadowScore, r.ModelDigest)
					}
					if name == "healthy" && compared && r.ShadowScore.Value != e.engine.Model().Scorer.Score(states[id]) {
						t.Fatalf("%s: shadow %v", id, r.ShadowScore.Value)
					}
					if r.Symbol != "S" || !r.EventTime.Equal(event) || !r.ArrivalTime.Before(time.Now()) {
						t.Fatalf("%s: symbol %q, event %v, arrival %v", id, r.Symbol, r.EventTime, r.ArrivalTime)
					}
					if r.Outcome == "not_sampled" {
						absent++
					}
				}
				if want = uint64(len(rows)); !maps.Equal(logged, counts) {
					t.Errorf("logged %v, counted %v", logged, counts)
				}
			})
			if want != 200 || absent == 0 {
				t.Errorf("%d rows, %d of them not sampled; want 200 and some", want, absent)
			}
		})
	}
}

// Rows of quotes have the minute of their features, in the schema of the model under trial if the state has it.
func TestRowsOfOtherStates(t *testing.T) {
	minutes, _ := simulated(t)
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		log := openLog(t, featurelog.Options{Dir: dir})
		e := start(t, enginetest.Options{Schema: "v1.8"}, 100, func(s *setup) { s.settled = log.Settled })
		e.observeMinutes("SIM", minutes[:warm])
		newer := schema(t, "v1.8.1")
		x := enginetest.Vector(e.rng, newer)
		inputs := map[string]float64{}
		for _, name := range feature.BaselineInputs() {
			inputs[name] = x[newer.Index(name)]
		}
		raw := maps.Clone(inputs)
		raw["mid"], raw["spread_bp"] = 101.5, 2.5
		for _, req := range []*executorv1.PredictRequest{
			{RequestId: "quote", Symbol: "SIM", Quote: proto(minutes[warm][0])},
			{RequestId: "vector", Vector: &executorv1.FeatureVector{Schema: newer.Name, Values: x}},
			{RequestId: "inputs", Features: inputs},
			{RequestId: "raw", Features: raw},
		} {
			if _, err := e.Predict(t.Context(), req); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(timeout)
		synctest.Wait()
		closeLog(t, log)
		rows := rowsOf(t, dir)
		minute := minutes[warm][0].Time
		minute -= minute % market.MinuteMS
		for id, want := range map[string]struct{ schema, outcome string }{
			"quote": {"v1.8", "mismatch"}, "vector": {"v1.8.1", "rejected"}, "inputs": {"baseline", "rejected"},
		} {
			r := rows[id]
			if r.Schema.Name != want.schema || r.Outcome != want.outcome && want.outcome != "mismatch" {
				t.Errorf("%s: got %s in %s, want %s in %s", id, r.Outcome, r.Schema.Name, want.outcome, want.schema)
			}
		}
		// Rows have the raw inputs that executor knows.
		q := rows["quote"]
		older := schema(t, "v1.8")
		for id, want := range map[string][2]featurelog.Optional{
			"quote": {featurelog.Some(q.Features[older.Index("mid")]), featurelog.Some(q.Features[older.Index("spread_bp")])},
			"raw":   {featurelog.Some(101.5), featurelog.Some(2.5)}, "vector": {}, "inputs": {},
		} {
			if got := [2]featurelog.Optional{rows[id].Mid, rows[id].SpreadBP}; got != want {
				t.Errorf("%s: raw inputs %v, want %v", id, got, want)
			}
		}
		if q.EventTime.UnixMilli() != minute || q.ShadowScore.Value != e.engine.Model().Scorer.Score(q.Features) {
			t.Errorf("quote: got %v of %v, want the vector that was scored of minute %d", q.Features, q.EventTime, minute)
		}
	})
}

// When the disk hangs, the log buffer fills up and rows are dropped, and no decision waits for it.
func TestAStuckLogDelaysNoDecision(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		log := openLog(t, featurelog.Options{Dir: dir, Capacity: 8, Instance: "stuck"})
		e := start(t, enginetest.Options{}, 50, func(s *setup) { s.settled = log.Settled })
		release := durabletest.Hang(t, dir)
		s := schema(t, "v1.8.1")
		const n = 200
		begin := time.Now()
		for i := range n {
			x := enginetest.Vector(e.rng, s)
			want := math.Float64bits(e.baselineOf(s, x))
			vector := &executorv1.FeatureVector{Schema: s.Name, Values: x}
			got, err := e.Predict(t.Context(), &executorv1.PredictRequest{RequestId: fmt.Sprint(i), Vector: vector})
			if err != nil || math.Float64bits(got.GetScore()) != want {
				t.Fatalf("got %v, %v", got, err)
			}
			both, err := e.PredictWithShadow(t.Context(), &executorv1.PredictWithShadowRequest{RequestId: fmt.Sprint(i), Vector: vector})
			if err != nil || math.Float64bits(both.GetBaseline().GetScore()) != want {
				t.Fatalf("got %v, %v", both, err)
			}
		}
		if took := time.Since(begin); took != 0 {
			t.Errorf("the requests waited %v", took)
		}
		if st := log.Stats(); st.Dropped < n || st.Written != 0 || st.Pending == 0 {
			t.Errorf("while the disk hangs: got %+v, want most of %d rows dropped and some that wait", st, 2*n)
		}
		release()
		time.Sleep(time.Minute)
		st := log.Stats()
		if st.Pending != 0 || st.Written == 0 || st.Written+st.Dropped != 2*n {
			t.Errorf("after the disk is back: got %+v, want the rows that waited written", st)
		}
		closeLog(t, log)
		r, _ := e.report()
		if r.GetRequestsTotal() != 2*n || r.GetInFlight() != 0 {
			t.Errorf("requests %d, in flight %d", r.GetRequestsTotal(), r.GetInFlight())
		}
	})
}
