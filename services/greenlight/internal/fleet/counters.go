package fleet

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/shadow"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// Counters has the counts of one executor since its process started.
type Counters struct {
	// Executor names the executor: its address, or the labels of its series.
	Executor string
	// Process changes when the executor restarts. Two executors with the same Process are the same executor.
	Process string
	// Instance is the executor's own id of its process; empty if the source does not know it.
	Instance string
	// Start is when the process started, by its own clock; zero if the source does not know it.
	Start time.Time
	// Time is when the counts were read, by this machine's clock. The counts are not older than that.
	Time time.Time
	// Percent is the percentage of requests that the executor reports to shadow.
	Percent float64
	// InFlight is the number of requests whose shadows have not ended.
	InFlight uint64
	// Tolerance and Threshold are the match tolerance and the decision threshold of the executor. Threshold is 0 if there is
	// none; both are 0 if the source does not know them.
	Tolerance, Threshold float64
	// Breaker is the state of the circuit breaker; unspecified if the source does not know it.
	Breaker executorv1.BreakerState
	// Baseline makes the decisions. Model is the model that answered last: empty before the first answer. Both are empty if the
	// source does not know them.
	Baseline, Model evidence.Model

	Counts
}

// Counts are the accepted requests and the outcomes of their shadows.
type Counts struct {
	Requests uint64
	// Outcomes counts the shadows that have ended, by outcome.
	Outcomes map[string]uint64
	// Sources counts the requests by source; nil if an executor does not report sources.
	Sources evidence.Sources
	// Decisions counts who made the decisions; nil if the source does not know.
	Decisions Decisions
	// Latency is the histogram of the shadows that were tried.
	Latency Histogram
}

// Of returns the number of shadows with the outcome.
func (c Counts) Of(o shadow.Outcome) uint64 { return c.Outcomes[o.String()] }

// Ended returns the number of shadows that have an outcome.
func (c Counts) Ended() (n uint64) {
	for _, k := range c.Outcomes {
		n += k
	}
	return n
}

// Compared returns the number of comparisons.
func (c Counts) Compared() uint64 {
	return c.Of(shadow.Match) + c.Of(shadow.Mismatch)
}

// Failed returns the number of shadows that were tried and failed.
func (c Counts) Failed() (n uint64) {
	for _, o := range shadow.Outcomes() {
		if o.Failed() {
			n += c.Of(o)
		}
	}
	return n
}

// Accounted reports whether there are as many outcomes as requests. Requests in flight, and requests during a scrape by
// Prometheus, may be missing: at most a twentieth, or 100.
func Accounted(requests, ended uint64) bool {
	return max(requests, ended)-min(requests, ended) <= max(100, ended/20)
}

// Phase returns the counts that a phase is judged by, without the latency. Requests without an outcome are in flight or were
// never counted. As long as nearly all requests are accounted for, they count as unseen.
func (c Counts) Phase() gate.PhaseCounts {
	p := gate.PhaseCounts{P95MS: math.NaN()}
	for _, o := range shadow.Outcomes() {
		n := c.Of(o)
		switch {
		case o == shadow.Match:
			p.Matches = n
		case o == shadow.Mismatch:
			p.Mismatches = n
		case o.Failed():
			p.Errors += n
		case o != shadow.NotSampled:
			p.Unseen += n
		}
	}
	if ended := c.Ended(); Accounted(c.Requests, ended) {
		p.Unseen += c.Requests - min(ended, c.Requests)
	}
	return p
}

// Histogram counts shadows by the time until their end. A histogram without counts is unknown.
type Histogram struct {
	// Edges are the upper bounds of the buckets, in milliseconds. Counts has one more bucket, for everything above.
	Edges  []float64 `json:"edges"`
	Counts []uint64  `json:"counts"`
}

// Known reports whether there is a histogram.
func (h Histogram) Known() bool { return len(h.Counts) > 0 && len(h.Counts) == len(h.Edges)+1 }

// Total returns the number of shadows.
func (h Histogram) Total() (n uint64) {
	for _, k := range h.Counts {
		n += k
	}
	return n
}

// Quantile returns the q-quantile in milliseconds; NaN for an empty histogram.
func (h Histogram) Quantile(q float64) float64 { return gate.HistogramQuantile(q, h.Edges, h.Counts) }

// comparable reports whether both histograms have the same buckets.
func (h Histogram) comparable(other Histogram) bool {
	return slices.Equal(h.Edges, other.Edges) && len(h.Counts) == len(other.Counts)
}

// since returns h minus before; unknown if the buckets differ.
func (h Histogram) since(before Histogram) Histogram {
	if !h.comparable(before) {
		return Histogram{}
	}
	d := Histogram{Edges: h.Edges, Counts: slices.Clone(h.Counts)}
	for i, n := range before.Counts {
		d.Counts[i] -= n
	}
	return d
}

// CountersOf returns the counters in the report of an executor, which was requested at the given time.
func CountersOf(addr string, r *executorv1.GetShadowReportResponse, requested time.Time) Counters {
	c := Counters{
		Executor: addr, Process: r.GetInstanceId(), Instance: r.GetInstanceId(), Time: requested, Percent: r.GetSamplePercent(), InFlight: r.GetInFlight(),
		Breaker:   r.GetBreaker().GetState(),
		Tolerance: Tolerance(r), Threshold: r.GetDecisionThreshold(),
		Baseline: evidence.Model{Version: r.GetBaselineVersion(), Digest: r.GetBaselineDigest()},
		Model:    evidence.Model{Version: r.GetShadowVersion(), Digest: r.GetShadowDigest()},
		Counts: Counts{
			Requests: r.GetRequestsTotal(), Outcomes: make(map[string]uint64), Sources: sourcesOf(r),
			Latency: Histogram{Edges: r.GetLatencyMsTotal().GetEdges(), Counts: r.GetLatencyMsTotal().GetCounts()},
		},
	}
	if t := r.GetStartTime(); t.IsValid() {
		c.Start = t.AsTime()
	}
	for _, o := range r.GetOutcomesTotal() {
		c.Outcomes[shadow.Outcome(o.GetOutcome()).String()] += o.GetCount()
	}
	return c
}

// Tolerance returns the match tolerance of the executor that reports. Executors up to version 1.9 do not report theirs.
func Tolerance(r *executorv1.GetShadowReportResponse) float64 {
	return cmp.Or(r.GetMatchTolerance(), gate.MatchTolerance)
}

// Rule selects what [Delta] does if the executor restarted between the two readings.
type Rule uint8

// The rules.
const (
	// Refuse returns an error. A contradiction between the readings is an error too.
	Refuse Rule = iota
	// Rebase counts nothing: the later reading is the new base.
	Rebase
	// FromZero counts everything since the new process started.
	FromZero
)

// RestartError means that an executor restarted between two readings.
type RestartError struct{ Executor, Reason string }

// Error implements error.
func (e *RestartError) Error() string { return fmt.Sprintf("executor %s: %s", e.Executor, e.Reason) }

// errBuckets means that the same process has changed the buckets of its histogram.
var errBuckets = errors.New("its latency buckets have changed, but it has not restarted")

// Continues returns nil if both readings are of one process and no counter has fallen. It returns a [*RestartError] if the
// process is a different one, and an [ErrContradicts] if the same process contradicts its earlier reading.
func Continues(before, after Counters) error {
	switch {
	case after.Process != before.Process:
		return &RestartError{after.Executor, Restarted}
	case !after.Start.Equal(before.Start):
		return contradiction("executor "+after.Executor, errors.New("its start_time has changed, but its instance_id has not"))
	case fell(before.Counts, after.Counts):
		return contradiction("executor "+after.Executor, errors.New("its counters have fallen, but it has not restarted"))
	case !after.Latency.comparable(before.Latency):
		return contradiction("executor "+after.Executor, errBuckets)
	}
	return nil
}

// SameProcess reports whether [FromZero] treats both readings as from one process and counts only their difference.
func SameProcess(before, after Counters) bool {
	err := Continues(before, after)
	return err == nil || errors.Is(err, errBuckets)
}

// Restarted is the reason of a [RestartError] for a new process.
const Restarted = "it restarted"

// fell reports whether a counter is lower than before.
func fell(before, after Counts) bool {
	if after.Requests < before.Requests {
		return true
	}
	for word, n := range before.Outcomes {
		if after.Outcomes[word] < n {
			return true
		}
	}
	for source, n := range before.Sources {
		if after.Sources[source] < n {
			return true
		}
	}
	if !after.Latency.comparable(before.Latency) {
		return false
	}
	for i, n := range before.Latency.Counts {
		if after.Latency.Counts[i] < n {
			return true
		}
	}
	return false
}

// Delta returns what an executor has counted between two readings. The rule decides what happens if they are not of one
// process. With Rebase and FromZero there is no error, and a process whose counters fall counts as restarted. If one process
// changes its latency buckets, FromZero returns its other counts with an unknown histogram.
func Delta(before, after Counters, rule Rule) (Counts, error) {
	if err := Continues(before, after); err != nil {
		switch {
		case rule == Rebase:
			before = after
		case rule == FromZero && !SameProcess(before, after):
			return after.Counts, nil
		case rule == Refuse:
			return Counts{}, err
		}
	}
	d := Counts{Requests: after.Requests - before.Requests, Outcomes: make(map[string]uint64), Decisions: after.Decisions.Since(before.Decisions), Latency: after.Latency.since(before.Latency)}
	for word, n := range after.Outcomes {
		d.Outcomes[word] = n - before.Outcomes[word]
	}
	if after.Sources != nil {
		d.Sources = make(evidence.Sources)
	}
	for source, n := range after.Sources {
		d.Sources[source] = n - before.Sources[source]
	}
	return d, nil
}

// Unaccounted returns how many of an executor's requests between two readings do not have exactly one outcome, plus the
// difference between these requests and the ones that were sent. The executor may or may not have counted the failed ones: a
// client that gives up does not know whether its request was read. Nobody but the sender may use the executor. After a restart
// all requests are unaccounted.
func Unaccounted(before, after Counters, sent, failed int64) int64 {
	d, err := Delta(before, after, Refuse)
	if err != nil {
		return sent
	}
	requests := int64(d.Requests)
	lost := requests - int64(d.Ended()) - (int64(after.InFlight) - int64(before.InFlight))
	return max(lost, -lost) + max(requests-sent, sent-failed-requests, 0)
}

// Sum is the counts of several executors. The zero value has no executors.
type Sum struct {
	Counts
	// LatencyMissing is why Latency does not cover all executors; empty if it does.
	LatencyMissing string

	// sourceless is set once an executor does not report where its requests come from.
	sourceless bool
}

// Add adds the counts of an executor.
func (s *Sum) Add(executor string, c Counts) {
	s.Requests += c.Requests
	if s.Outcomes == nil {
		s.Outcomes = make(map[string]uint64)
	}
	for word, n := range c.Outcomes {
		s.Outcomes[word] += n
	}
	s.Decisions = s.Decisions.Plus(c.Decisions)
	if s.sourceless = s.sourceless || c.Sources == nil; s.sourceless {
		s.Sources = nil
	} else if s.Sources == nil {
		s.Sources = make(evidence.Sources)
	}
	for source, n := range c.Sources {
		if !s.sourceless {
			s.Sources[source] += n
		}
	}
	switch {
	case !c.Latency.Known():
		s.LatencyMissing = fmt.Sprintf("executor %s reports no histogram of latencies", executor)
	case !s.Latency.Known():
		s.Latency = Histogram{c.Latency.Edges, slices.Clone(c.Latency.Counts)}
	case !s.Latency.comparable(c.Latency):
		s.LatencyMissing = fmt.Sprintf("executor %s has different latency buckets from the rest", executor)
	default:
		for i, n := range c.Latency.Counts {
			s.Latency.Counts[i] += n
		}
	}
}
