package fleet_test

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

// countersAt returns a reading of process "p" of executor "a": 100 requests, 90 matches, 10 deadlines.
func countersAt(change func(*fleet.Counters)) fleet.Counters {
	c := fleet.Counters{
		Executor: "a", Process: "p", Instance: "p", Start: now, Time: now,
		Counts: fleet.Counts{
			Requests: 100, Outcomes: map[string]uint64{"match": 90, "deadline": 10},
			Sources: evidence.Sources{evidence.Live: 60, evidence.Replay: 40},
			Latency: fleet.Histogram{Edges: []float64{1, 60}, Counts: []uint64{80, 15, 5}},
		},
	}
	if change != nil {
		change(&c)
	}
	return c
}

// later returns a reading 20 requests after countersAt.
func later(change func(*fleet.Counters)) fleet.Counters {
	return countersAt(func(c *fleet.Counters) {
		c.Requests, c.Outcomes, c.Sources = 120, map[string]uint64{"match": 105, "deadline": 15}, evidence.Sources{evidence.Live: 80, evidence.Replay: 40}
		c.Latency.Counts = []uint64{90, 20, 10}
		if change != nil {
			change(c)
		}
	})
}

// Only the rule decides how a restart affects a difference, and only Refuse returns errors.
func TestDelta(t *testing.T) {
	t.Parallel()
	grown := fleet.Counts{
		Requests: 20, Outcomes: map[string]uint64{"match": 15, "deadline": 5}, Sources: evidence.Sources{evidence.Live: 20, evidence.Replay: 0},
		Latency: fleet.Histogram{Edges: []float64{1, 60}, Counts: []uint64{10, 5, 5}},
	}
	for name, test := range map[string]struct {
		after fleet.Counters
		// refused is the error with Refuse. If it is empty, there is no error and all rules return the growth.
		refused string
		restart bool
		// lost is true if FromZero returns the growth without latencies, instead of all counts since zero.
		lost bool
	}{
		"same process":     {after: later(nil)},
		"another process":  {after: later(func(c *fleet.Counters) { c.Process, c.Start = "q", now.Add(time.Minute) }), refused: "executor a: it restarted", restart: true},
		"new, fewer":       {after: countersAt(func(c *fleet.Counters) { c.Process, c.Requests = "q", 3 }), refused: "executor a: it restarted", restart: true},
		"another start":    {after: later(func(c *fleet.Counters) { c.Start = now.Add(time.Second) }), refused: "start_time has changed"},
		"requests fell":    {after: later(func(c *fleet.Counters) { c.Requests = 99 }), refused: "counters have fallen"},
		"outcome fell":     {after: later(func(c *fleet.Counters) { c.Outcomes["deadline"] = 9 }), refused: "counters have fallen"},
		"outcome vanished": {after: later(func(c *fleet.Counters) { delete(c.Outcomes, "deadline") }), refused: "counters have fallen"},
		"source fell":      {after: later(func(c *fleet.Counters) { c.Sources[evidence.Replay] = 39 }), refused: "counters have fallen"},
		"sources vanished": {after: later(func(c *fleet.Counters) { c.Sources = nil }), refused: "counters have fallen"},
		"bucket fell":      {after: later(func(c *fleet.Counters) { c.Latency.Counts[1] = 14 }), refused: "counters have fallen"},
		"other edges":      {after: later(func(c *fleet.Counters) { c.Latency.Edges = []float64{1, 80} }), refused: "latency buckets have changed", lost: true},
		"more buckets": {after: later(func(c *fleet.Counters) {
			c.Latency = fleet.Histogram{Edges: []float64{1, 60, 80}, Counts: []uint64{90, 20, 5, 5}}
		}), refused: "latency buckets have changed", lost: true},
		"no histogram": {after: later(func(c *fleet.Counters) { c.Latency = fleet.Histogram{} }), refused: "latency buckets have changed", lost: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := map[fleet.Rule]fleet.Counts{fleet.Refuse: grown, fleet.Rebase: grown, fleet.FromZero: grown}
			if test.refused != "" {
				want[fleet.Refuse], want[fleet.Rebase], want[fleet.FromZero] = fleet.Counts{}, fleet.Counts{}, test.after.Counts
			}
			if test.lost {
				since := grown
				since.Latency = fleet.Histogram{}
				want[fleet.FromZero] = since
			}
			for rule, want := range want {
				got, err := fleet.Delta(countersAt(nil), test.after, rule)
				if rule == fleet.Refuse && test.refused != "" {
					restart := (*fleet.RestartError)(nil)
					if err == nil || !strings.Contains(err.Error(), test.refused) || errors.As(err, &restart) != test.restart || errors.Is(err, fleet.ErrContradicts) == test.restart {
						t.Errorf("Refuse: got %v, want %q", err, test.refused)
					}
				} else if err != nil {
					t.Errorf("rule %d: got %v", rule, err)
				}
				if rule == fleet.Rebase && test.refused != "" {
					if got.Requests != 0 || got.Ended() != 0 || got.Latency.Total() != 0 {
						t.Errorf("Rebase: counted %+v", got)
					}
					continue
				}
				if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("rule %d (-want +got):\n%s", rule, diff)
				}
			}
		})
	}
}

// A difference shares no memory with its readings.
func TestDeltaLeavesTheReadings(t *testing.T) {
	t.Parallel()
	before, after := countersAt(nil), later(nil)
	if _, err := fleet.Delta(before, after, fleet.Refuse); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(countersAt(nil), before) + cmp.Diff(later(nil), after); diff != "" {
		t.Errorf("the readings have changed:\n%s", diff)
	}
}

// The sum of a fleet covers all executors, or names the executor that is missing.
func TestSum(t *testing.T) {
	t.Parallel()
	none := fleet.Sum{}
	if none.Requests != 0 || none.Ended() != 0 || !math.IsNaN(none.Latency.Quantile(0.95)) {
		t.Errorf("the sum of no executors is %+v", none)
	}
	for name, test := range map[string]struct {
		second  func(*fleet.Counters)
		missing string
		sources evidence.Sources
		latency []uint64
	}{
		"alike":        {latency: []uint64{170, 35, 15}, sources: evidence.Sources{evidence.Live: 140, evidence.Replay: 80}},
		"other edges":  {second: func(c *fleet.Counters) { c.Latency.Edges = []float64{1, 80} }, missing: "executor b has different latency buckets", sources: evidence.Sources{evidence.Live: 140, evidence.Replay: 80}, latency: []uint64{80, 15, 5}},
		"no histogram": {second: func(c *fleet.Counters) { c.Latency = fleet.Histogram{} }, missing: "executor b reports no histogram", sources: evidence.Sources{evidence.Live: 140, evidence.Replay: 80}, latency: []uint64{80, 15, 5}},
		"no sources":   {second: func(c *fleet.Counters) { c.Sources = nil }, latency: []uint64{170, 35, 15}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, order := range [][]string{{"a", "b"}, {"b", "a"}} {
				sum := fleet.Sum{}
				for _, executor := range order {
					c := countersAt(nil)
					if executor == "b" {
						c = later(test.second)
					}
					sum.Add(executor, c.Counts)
				}
				if sum.Requests != 220 || sum.Ended() != 220 || sum.Compared() != 195 || sum.Failed() != 25 {
					t.Errorf("got %+v", sum)
				}
				if diff := cmp.Diff(test.sources, sum.Sources); diff != "" {
					t.Errorf("sources (-want +got):\n%s", diff)
				}
				if (sum.LatencyMissing == "") != (test.missing == "") || order[0] == "a" && !strings.Contains(sum.LatencyMissing, test.missing) {
					t.Errorf("latency missing: %q, want %q", sum.LatencyMissing, test.missing)
				}
				if order[0] == "a" && !cmp.Equal(sum.Latency.Counts, test.latency) {
					t.Errorf("latencies %v, want %v", sum.Latency.Counts, test.latency)
				}
			}
		})
	}
}

// A span counts the growth since the first readings, and does not take a reading that contradicts an earlier one.
func TestSpan(t *testing.T) {
	t.Parallel()
	named := func(name string, c fleet.Counters) fleet.Counters { c.Executor = name; return c }
	var s fleet.Span
	s.Begin([]fleet.Counters{named("a", countersAt(nil)), named("b", countersAt(nil))})
	if err := s.Extend([]fleet.Counters{named("a", later(nil))}); err != nil {
		t.Fatal(err)
	}
	if got := s.Absent([]fleet.Counters{named("a", later(nil))}); got != "b" {
		t.Errorf("absent is %q, want b", got)
	}
	fallen := []fleet.Counters{named("a", countersAt(nil)), named("b", later(nil))}
	if err := s.Extend(fallen); !errors.Is(err, fleet.ErrContradicts) {
		t.Errorf("got %v", err)
	}
	if sum := s.Sum(); sum.Requests != 40 {
		t.Errorf("counted %d requests, want 20 of each", sum.Requests)
	}
	restart := (*fleet.RestartError)(nil)
	for _, c := range []fleet.Counters{named("c", later(nil)), named("b", later(func(c *fleet.Counters) { c.Process = "q" }))} {
		if err := s.Extend([]fleet.Counters{c}); !errors.As(err, &restart) || restart.Executor != c.Executor {
			t.Errorf("%s: got %v", c.Executor, err)
		}
	}

	var rebased fleet.Span
	rebased.Rebase([]fleet.Counters{countersAt(nil)})
	rebased.Rebase([]fleet.Counters{later(func(c *fleet.Counters) { c.Process = "q" })})
	rebased.Rebase([]fleet.Counters{later(func(c *fleet.Counters) { c.Process, c.Requests = "q", 127 })})
	if sum := rebased.Sum(); sum.Requests != 7 {
		t.Errorf("counted %d requests since the restart, want 7", sum.Requests)
	}
}

// Requests without an outcome, requests from somebody else, and all requests across a restart are unaccounted.
func TestUnaccounted(t *testing.T) {
	t.Parallel()
	reading := func(process string, requests, matches, inFlight uint64) fleet.Counters {
		return fleet.Counters{Process: process, InFlight: inFlight, Counts: fleet.Counts{Requests: requests, Outcomes: map[string]uint64{"match": matches}}}
	}
	before := reading("p", 100, 98, 2)
	for name, test := range map[string]struct {
		after        fleet.Counters
		failed, want int64
	}{
		"all ended":            {reading("p", 150, 150, 0), 0, 0},
		"some under way":       {reading("p", 150, 147, 3), 0, 0},
		"two lost":             {reading("p", 150, 148, 0), 0, 2},
		"one too many":         {reading("p", 150, 151, 0), 0, 1},
		"foreign":              {reading("p", 160, 160, 0), 6, 10},
		"too few":              {reading("p", 140, 140, 0), 0, 10},
		"too few that failed":  {reading("p", 140, 140, 0), 6, 4},
		"some failed":          {reading("p", 147, 147, 0), 6, 0},
		"failed, but counted":  {reading("p", 150, 150, 0), 6, 0},
		"failed, none counted": {reading("p", 144, 144, 0), 6, 0},
		"restart":              {reading("q", 150, 150, 0), 0, 50},
		"fell":                 {reading("p", 99, 99, 0), 0, 50},
	} {
		if got := fleet.Unaccounted(before, test.after, 50, test.failed); got != test.want {
			t.Errorf("%s: got %d, want %d", name, got, test.want)
		}
	}
}
