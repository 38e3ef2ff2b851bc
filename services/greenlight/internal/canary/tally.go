package canary

import (
	"fmt"
	"math"
	"slices"

	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/shadow"
)

// tally is what has been counted since a phase began: the differences of two readings of the same processes.
type tally struct {
	base, last map[string]Counters
}

// begin takes the readings as zero.
func (t *tally) begin(all []Counters) {
	t.base, t.last = make(map[string]Counters), make(map[string]Counters)
	for _, c := range all {
		t.base[c.Executor], t.last[c.Executor] = c, c
	}
}

// join is add for readings of which some may be the first of their process: those are taken as zero.
func (t *tally) join(all []Counters) {
	if t.base == nil {
		t.begin(nil)
	}
	for _, c := range all {
		if before, ok := t.last[c.Executor]; !ok || c.Process != before.Process || fell(before, c) {
			t.base[c.Executor] = c
		}
		t.last[c.Executor] = c
	}
}

// add takes the readings as the newest. The error is an *anewError when one of them does not go on from where the phase
// began.
func (t *tally) add(all []Counters) error {
	for _, c := range all {
		before, ok := t.last[c.Executor]
		switch {
		case !ok:
			return &anewError{c.Executor, "it was not there when the phase began"}
		case c.Process != before.Process:
			return &anewError{c.Executor, restarted}
		case fell(before, c):
			return &anewError{c.Executor, "its counters fell, so that it must have restarted"}
		}
		t.last[c.Executor] = c
	}
	return nil
}

// absent is an executor that the phase began with and that is not among the readings; empty when there is none.
func (t *tally) absent(all []Counters) string {
	for name := range t.base {
		if !slices.ContainsFunc(all, func(c Counters) bool { return c.Executor == name }) {
			return name
		}
	}
	return ""
}

// fell says whether a counter is less than before. Requests are not looked at in addition: they are the sum of outcomes
// and of what is under way.
func fell(before, now Counters) bool {
	for word, n := range before.Outcomes {
		if now.Outcomes[word] < n {
			return true
		}
	}
	if !slices.Equal(before.Edges, now.Edges) || len(before.Latency) != len(now.Latency) {
		return true
	}
	for i, n := range before.Latency {
		if now.Latency[i] < n {
			return true
		}
	}
	return false
}

// sum is the counts of all executors since the phase began.
type sum struct {
	requests uint64
	outcomes map[string]uint64
	counts   gate.PhaseCounts
}

// sum adds up what is known. A reading that is older than another counts as it was.
func (t *tally) sum() sum {
	s := sum{outcomes: make(map[string]uint64), counts: gate.PhaseCounts{P95MS: math.NaN()}}
	var edges []float64
	var latency []uint64
	for name, base := range t.base {
		last := t.last[name]
		s.requests += last.Requests - base.Requests
		for word, n := range last.Outcomes {
			s.outcomes[word] += n - base.Outcomes[word]
		}
		switch {
		case len(base.Latency) == 0:
			s.counts.P95Missing = fmt.Sprintf("executor %s reports no histogram of latencies", name)
			continue
		case latency == nil:
			edges, latency = base.Edges, make([]uint64, len(base.Latency))
		case !slices.Equal(edges, base.Edges):
			s.counts.P95Missing = fmt.Sprintf("executor %s has other latency buckets than the rest", name)
			continue
		}
		for i := range latency {
			latency[i] += last.Latency[i] - base.Latency[i]
		}
	}
	for _, o := range shadow.Outcomes() {
		switch n := s.outcomes[o.String()]; {
		case o == shadow.Match:
			s.counts.Matches = n
		case o == shadow.Mismatch:
			s.counts.Mismatches = n
		case o.Failed():
			s.counts.Errors += n
		}
	}
	if s.counts.P95Missing == "" {
		s.counts.P95MS = gate.HistogramQuantile(0.95, edges, latency)
	}
	return s
}
