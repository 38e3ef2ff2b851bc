package faults

import (
	"math"
	"strings"
	"testing"

	"github.com/greenlight-ml/greenlight/services/greenlight/internal/bench"
)

func goodRow() Row {
	return Row{
		Fault: "none", Requests: 10, Identical: true, Ratio: bench.Spread{Median: 1, Min: 0.9, Max: 1.2, Rounds: 3}, RecoveryS: 1,
		Outcomes: map[string]uint64{"match": 9, "deadline": 1, "shed": 0}, Breaker: Timeline{{0.1, "open"}, {15.3, "closed"}},
	}
}

func TestMissed(t *testing.T) {
	if m := goodRow().Missed(); len(m) > 0 {
		t.Fatalf("a good row misses %v", m)
	}
	for want, change := range map[string]func(*Row){
		"1 decisions lost":        func(r *Row) { r.Lost = 1 },
		"2 decisions changed":     func(r *Row) { r.Changed = 2 },
		"answers differ":          func(r *Row) { r.Identical = false },
		"3 requests unaccounted":  func(r *Row) { r.Unaccounted = 3 },
		"p99 1.11x":               func(r *Row) { r.Ratio.Median = 1.11 },
		"p99 NaN":                 func(r *Row) { r.Ratio = bench.SpreadOf([]float64{1, math.NaN()}) },
		"no recovery":             func(r *Row) { r.RecoveryS = -1 },
		"recovery took 31.0 s":    func(r *Row) { r.RecoveryS = 31 },
		"9 file descriptors more": func(r *Row) { r.After.FDs = 9 },
		"21 goroutines more":      func(r *Row) { r.After.Goroutines = 21 },
	} {
		r := goodRow()
		change(&r)
		if m := strings.Join(r.Missed(), "; "); !strings.Contains(m, want) {
			t.Errorf("got %q, want %q", m, want)
		}
	}
}

func TestTables(t *testing.T) {
	res := &Result{
		Schema: Schema, Git: "abc", Rounds: 3, Rows: []Row{goodRow()}, Hang: &Hang{First: 100e6, Last: 106e6, Peak: 107e6},
		Overload: &Overload{
			Levels: []Level{{Times: 1, OfferedPerS: 100, GoodPerS: 100}, {Times: 5, OfferedPerS: 500, GoodPerS: 80}}, PeakPerS: 100, RecoveryS: 1.5,
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
		"match 9, deadline 1", "open 0.1, closed 15.3", "NOT flat", "5.0x saturation: goodput is 80 % of its peak", "over within 1.5 s",
		"reads no answer: 1 decisions lost", "commit abc",
	} {
		if !strings.Contains(text.String(), want) || !strings.Contains(page.String(), want) {
			t.Errorf("no %q in\n%s\n%s", want, text.String(), page.String())
		}
	}
	if strings.Contains(text.String(), "shed 0") {
		t.Error("outcomes that did not come are listed")
	}
}

func TestWith(t *testing.T) {
	later := goodRow()
	later.Fault = "connection refused"
	first := &Result{Schema: Schema, Rows: []Row{later}, DurationS: 1, Git: "a"}
	sum := first.With(&Result{Schema: Schema, Rows: []Row{goodRow()}, DurationS: 2, Git: "b", Hang: &Hang{}})
	if len(sum.Rows) != 2 || sum.Rows[0].Fault != "none" || sum.DurationS != 3 || sum.Git != "b" || sum.Hang == nil || !sum.Has("none") {
		t.Errorf("got %+v", sum)
	}
}
