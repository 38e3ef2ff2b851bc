package faults

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/gate"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/bench"
)

func goodRow() Row {
	return Row{
		Fault: "none", Asked: Asked{Requests: 10}, Streamed: Asked{Requests: 4}, Identical: true, P99: Ratio{Ratio: 1, Low: 0.9, High: 1.2, Slices: 3}, RecoveryS: 1,
		Outcomes: map[string]uint64{"match": 9, "deadline": 1, "shed": 0}, Breaker: Timeline{{0.1, "open"}, {15.3, "closed"}},
	}
}

func TestMissed(t *testing.T) {
	if m := goodRow().Missed(); len(m) > 0 {
		t.Fatalf("a good row misses %v", m)
	}
	for want, change := range map[string]func(*Row){
		"1 decisions lost":                      func(r *Row) { r.Lost = 1 },
		"2 decisions changed":                   func(r *Row) { r.Changed = 2 },
		"answers differ":                        func(r *Row) { r.Identical = false },
		"3 requests unaccounted":                func(r *Row) { r.Unaccounted = 3 },
		"p99 1.30x (1.11..1.40)":                func(r *Row) { r.P99 = Ratio{Ratio: 1.3, Low: 1.11, High: 1.4} },
		"p99 NaN":                               func(r *Row) { r.P99 = Ratio{Ratio: math.NaN(), Low: math.NaN()} },
		"no recovery":                           func(r *Row) { r.RecoveryS = -1 },
		"recovery took 31.0 s":                  func(r *Row) { r.RecoveryS = 31 },
		"4 decisions further from the baseline": func(r *Row) { r.Gate = &Gate{Distant: 4} },
		"5 decisions unaccounted for":           func(r *Row) { r.Gate = &Gate{Unaccounted: 5} },
		"6 decisions later than 17.5 ms":        func(r *Row) { r.Gate = &Gate{Late: 6, BoundMS: 17.5} },
		"the model decided nothing":             func(r *Row) { r.Gate = &Gate{Decisions: fleet.Decisions{"deadline": 9}} },
		"file descriptors grew from 0 to 9":     func(r *Row) { r.After.FDs = 9 },
		"goroutines grew from 0 to 21":          func(r *Row) { r.After.Goroutines = 21 },
	} {
		r := goodRow()
		change(&r)
		if m := strings.Join(r.Missed(), "; "); !strings.Contains(m, want) {
			t.Errorf("got %q, want %q", m, want)
		}
	}
}

// A fault that no shadow met is no PASS.
func TestUntested(t *testing.T) {
	r, lies := goodRow(), int64(0)
	r.Lies = &lies
	res := &Result{Rows: []Row{r}}
	if got := res.inconclusive(); len(got) != 1 || r.summary()[5] != gate.Inconclusive {
		t.Errorf("no lie: got %v, %v", got, r.summary())
	}
	if lies = 1; len(res.inconclusive()) > 0 || r.summary()[5] != gate.Pass {
		t.Errorf("a lie: got %v, %v", res.inconclusive(), r.summary())
	}
}

func TestTables(t *testing.T) {
	res := &Result{
		Schema: Schema, Runs: []RunOf{{Git: "abc", Command: "greenlight-lab faults --quick"}}, Rounds: 3, Rows: []Row{goodRow()},
		Hang: &Hang{First: 100e6, Last: 106e6, Peak: 107e6, Tenths: []Memory{{99e6, 50e6}, {106e6, 51e6}}},
		Overload: &Overload{
			ServerCPUs: 1, LoadCPUs: 1,
			Loads: Loads{
				SaturationPerS: 100, PeakPerS: 100, RecoveryS: 1.5,
				Ramp: []Level{{OfferedPerS: 120, GoodPerS: 100, LeftMS: 300, RefusedAtMS: 20, ServerCPU: 1}},
				Levels: []Level{
					{Times: 1, OfferedPerS: 100, GoodPerS: 100, LeftMS: -1, RefusedAtMS: -1},
					{Times: 2, OfferedPerS: 150, GoodPerS: 95, LeftMS: 10, RefusedAtMS: 20},
					{Times: 3, OfferedPerS: 300, GoodPerS: 50, LeftMS: 10, RefusedAtMS: 20, ServerCPU: 0.5},
					{Times: 5, OfferedPerS: 500, GoodPerS: 80, LeftMS: 10, RefusedAtMS: 20, ServerCPU: 0.9},
				},
			},
			Streams: &Loads{
				SaturationPerS: 400, PeakPerS: 400, RecoveryS: 0.1,
				Levels: []Level{{Times: 5, OfferedPerS: 2000, GoodPerS: 300, Flood: bench.Flood{NotSent: 77}, LeftMS: -1, RefusedAtMS: -1}},
			},
			Clients: []Bad{{Client: "reads no answer", Lost: 1}},
		},
	}
	var text, page strings.Builder
	if err := res.Table(&text); err != nil {
		t.Fatal(err)
	}
	if err := res.Markdown(&page); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"NOT flat", "calls, 5.0x saturation: goodput is 80 % of its peak", "overload, calls: over within 1.5 s",
		"streams, 5.0x saturation: goodput is 75 % of its peak", "streams: saturation 400 a second",
		"reads no answer: 1 decisions lost", "greenlight-lab faults --quick", "commit abc", "calls, 2.0x saturation: the load made only 1.5x",
		"calls, 120/s: decisions were refused before shadows", "Inconclusive: calls, 3.0x saturation: goodput is 50 % of its peak, but the executor had 0.50 CPUs and 1.00 at its peak", "resident 99.0, 106.0; heap in use 50.0, 51.0", "1 CPU to itself",
	} {
		if !strings.Contains(text.String(), want) || !strings.Contains(page.String(), want) {
			t.Errorf("no %q in\n%s\n%s", want, text.String(), page.String())
		}
	}
	for _, want := range []string{
		"| none | 10 | 0 | 1.00x (0.90 to 1.20) | 1.0 s | PASS |\n", "| calls, growing | 120 | 100 (100 %) | 0 | 0 | 0 | 0 % |\n", "| streams, 5.0x saturation | 2000 | 300 (75 %) | 0 | 77 | 0 | 0 % |\n",
		"| reads no answer | 0 | 1 | 0.00x (0.00 to 0.00) | 0 | 0 |\n",
	} {
		if !strings.Contains(page.String(), want) {
			t.Errorf("no %q in\n%s", want, page.String())
		}
	}
	if got := Outcomes(res.Rows[0].Outcomes); got != "match 9, deadline 1" {
		t.Errorf("outcomes: got %q", got)
	}
}

// A run that is continued measures what is missing alone, and has its rows in the order of the table.
func TestResume(t *testing.T) {
	before := &Result{Schema: Schema, Hang: &Hang{}}
	all := Faults()
	for i := range all {
		before.add(Row{Fault: all[len(all)-1-i].Name})
	}
	for i, r := range before.Rows {
		if r.Fault != all[i].Name {
			t.Errorf("row %d: got %s, want %s", i, r.Fault, all[i].Name)
		}
	}
	opts := DefaultOptions()
	opts.Overload, opts.Before = 0, before
	if got, err := Run(t.Context(), opts); err != nil || got != before { // it starts nothing: there are no programs
		t.Errorf("got %+v, %v", got, err)
	}
	before.Rows = before.Rows[1:]
	if _, err := Run(t.Context(), opts); err == nil {
		t.Error("a fault is missing: it was not measured")
	}
}

// Every way in which a decision behind a gate can be wrong is seen.
func TestGuardSeesWrongDecisions(t *testing.T) {
	const baseline, model = "baseline", "model"
	right := func() *executorv1.PredictResponse {
		return &executorv1.PredictResponse{Score: 0.31, Gate: &executorv1.GateDecision{
			DecidedBy: executorv1.Decider_DECIDER_MODEL, BaselineScore: 0.3, BaselineDigest: baseline, ModelDigest: model,
		}}
	}
	for name, test := range map[string]struct {
		change  func(*executorv1.PredictResponse)
		score   float64
		of      string
		ok      bool
		distant int64
	}{
		"model": {func(*executorv1.PredictResponse) {}, 0.31, model, true, 0},
		"baseline": {func(r *executorv1.PredictResponse) {
			r.Score, r.Gate.DecidedBy, r.Gate.FallbackReason = 0.3, executorv1.Decider_DECIDER_BASELINE, executorv1.FallbackReason_FALLBACK_REASON_DEADLINE
		}, 0.3, baseline, true, 0},
		"too far":   {func(r *executorv1.PredictResponse) { r.Score = 0.36 }, 0.31, model, true, 1},
		"no number": {func(r *executorv1.PredictResponse) { r.Score = math.NaN() }, 0.31, model, true, 1},
		"nobody":    {func(r *executorv1.PredictResponse) { r.Gate = nil }, 0.3, baseline, false, 0},
		"no reason": {func(r *executorv1.PredictResponse) { r.Gate.DecidedBy = executorv1.Decider_DECIDER_BASELINE }, 0.3, baseline, false, 0},
		"a reason too many": {func(r *executorv1.PredictResponse) {
			r.Gate.FallbackReason = executorv1.FallbackReason_FALLBACK_REASON_SHED
		}, 0.31, model, false, 0},
		"another baseline": {func(r *executorv1.PredictResponse) { r.Gate.BaselineScore = math.Nextafter(0.3, 1) }, 0.31, model, false, 0},
		"another digest":   {func(r *executorv1.PredictResponse) { r.Gate.BaselineDigest = model }, 0.31, model, false, 0},
		"another model":    {func(r *executorv1.PredictResponse) { r.Gate.ModelDigest = baseline }, 0.31, model, false, 0},
	} {
		g := &guard{model: model, scores: []float64{0.31}}
		r := right()
		test.change(r)
		score, of, ok := g.check(0, 0.3, r, baseline)
		if score != test.score || of != test.of || ok != test.ok || g.distant.Load() != test.distant {
			t.Errorf("%s: got %v of %s, %v, %d too far", name, score, of, ok, g.distant.Load())
		}
	}
}

// Requests without exactly one decider are seen, and so are decisions that executor and client count differently.
func TestGateAddsUp(t *testing.T) {
	before := gateMark{counted: fleet.Decisions{"model": 10}, seen: fleet.Decisions{"model": 10}}
	after := gateMark{counted: fleet.Decisions{"model": 15, "deadline": 2, "not_selected": 3}, seen: fleet.Decisions{"model": 15, "deadline": 2}}
	for _, test := range []struct {
		requests uint64
		seen     uint64 // of the model
		lost     int64
		want     int64
	}{{10, 15, 0, 0}, {11, 15, 0, 1}, {9, 15, 0, 1}, {10, 14, 0, 1}, {10, 14, 1, 0}} {
		var g Gate
		after.seen["model"] = test.seen
		g.between(before, after, test.requests, test.lost)
		if g.Unaccounted != test.want || g.Decisions["model"] != 5 || g.Decisions["deadline"] != 2 {
			t.Errorf("%+v: got %+v", test, g)
		}
	}
}

// A decision is late if it took longer than the wait budget and twice the slowest answer of the baseline alone.
func TestLate(t *testing.T) {
	g := Gate{slices: &latencies{bars: []bar{{24e6, 7, 0}, {26e6, 3, 0}, {1e6, 90, 0}}}}
	if g.judge(time.Millisecond); g.Late != 10 {
		t.Errorf("so far: got %+v", g)
	}
	g.judge(10 * time.Millisecond)
	if g.Late != 3 || g.BoundMS != 25 || g.SlowestMS != 26 {
		t.Errorf("got %+v", g)
	}
}
