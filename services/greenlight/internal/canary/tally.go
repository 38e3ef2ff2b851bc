package canary

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
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

// add takes the readings as the newest. The error is an *anewError if an executor has restarted. A reading that contradicts
// an earlier one of the same process is not taken, and is an error of its source.
func (t *tally) add(all []Counters) error {
	var wrong []error
	for _, c := range all {
		before, ok := t.last[c.Executor]
		switch {
		case !ok:
			return &anewError{c.Executor, "it was not there when the phase began"}
		case c.Process != before.Process:
			return &anewError{c.Executor, restarted}
		case !c.Start.Equal(before.Start):
			wrong = append(wrong, contradicts("executor "+c.Executor, errors.New("its start_time has changed, and its instance_id has not")))
		case fell(before, c):
			wrong = append(wrong, contradicts("executor "+c.Executor, errors.New("its counters have fallen, and it has not restarted")))
		default:
			t.last[c.Executor] = c
		}
	}
	return errors.Join(wrong...)
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

// fell reports whether a counter is less than before.
func fell(before, now Counters) bool {
	if now.Requests < before.Requests {
		return true
	}
	for word, n := range before.Outcomes {
		if now.Outcomes[word] < n {
			return true
		}
	}
	for source, n := range before.Sources {
		if now.Sources[source] < n {
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
	// sources are the requests by where they came from; nil when an executor does not say.
	sources evidence.Sources
	counts  gate.PhaseCounts
	// wrong names what of the counts does not add up.
	wrong []string
}

// Accounted reports whether requests are as many as outcomes. What is in flight when the counts are read, and what is
// counted while a Prometheus scrapes, may be missing: at most a twentieth, or 100.
func Accounted(requests, ended uint64) bool {
	return max(requests, ended)-min(requests, ended) <= max(100, ended/20)
}

// maxUntimed is that at most one in so many shadows may be without a latency: those that are missing may be the slow ones, and
// p95 is about one in twenty.
const maxUntimed = 40

// sum adds up what is known of a phase of so many percent. A reading that is older than another counts as it was.
func (t *tally) sum(percent float64) sum {
	s := sum{outcomes: make(map[string]uint64), sources: make(evidence.Sources), counts: gate.PhaseCounts{P95MS: math.NaN()}}
	var edges []float64
	var latency []uint64
	for name, base := range t.base {
		last := t.last[name]
		s.requests += last.Requests - base.Requests
		for word, n := range last.Outcomes {
			s.outcomes[word] += n - base.Outcomes[word]
		}
		if last.Sources == nil {
			s.sources = nil
		}
		for source, n := range last.Sources {
			if s.sources != nil {
				s.sources[source] += n - base.Sources[source]
			}
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
	var ended, timed uint64
	for _, o := range shadow.Outcomes() {
		n := s.outcomes[o.String()]
		ended += n
		switch {
		case o == shadow.Match:
			s.counts.Matches = n
		case o == shadow.Mismatch:
			s.counts.Mismatches = n
		case o.Failed():
			s.counts.Errors += n
		case o != shadow.NotSampled:
			s.counts.Unseen += n
		}
	}
	if !Accounted(s.requests, ended) {
		s.wrong = append(s.wrong, fmt.Sprintf("there were %d requests and %d outcomes", s.requests, ended))
	} else {
		s.counts.Unseen += s.requests - min(ended, s.requests) // in flight, or never counted
	}
	if n := s.outcomes[shadow.NotSampled.String()]; percent == 100 && n > 0 {
		s.wrong = append(s.wrong, fmt.Sprintf("requests that were not sampled at 100 %%: %d", n))
	}
	for _, n := range latency {
		timed += n
	}
	tried := s.counts.Tried()
	untimed := tried - min(timed, tried)
	if s.counts.P95Missing == "" && (!Accounted(timed, tried) || untimed > tried/maxUntimed) {
		s.counts.P95Missing = fmt.Sprintf("there are %d latencies of %d shadows", timed, tried)
	}
	if s.counts.P95Missing == "" {
		if n := len(latency); n > 0 {
			latency[n-1] += untimed // as if they were the slowest
		}
		s.counts.P95MS = gate.HistogramQuantile(0.95, edges, latency)
	}
	return s
}
