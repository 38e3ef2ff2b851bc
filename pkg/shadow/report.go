package shadow

import (
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/stats"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// Report returns the quality of the shadow. The caller fills in what a dispatcher does not know: the baseline and the
// sample.
func (d *Dispatcher) Report() *executorv1.GetShadowReportResponse {
	r := d.recorder
	win := r.window()
	counts := win.counts

	totals := make([]*executorv1.OutcomeCount, 0, outcomeEnd)
	windowCounts := make([]*executorv1.OutcomeCount, 0, outcomeEnd)
	var ended, sampled uint64
	all, latencies := r.snapshot()
	for _, o := range Outcomes() {
		n := all[o]
		ended += n
		totals = append(totals, &executorv1.OutcomeCount{Outcome: executorv1.ShadowOutcome(o), Count: n})
		windowCounts = append(windowCounts, &executorv1.OutcomeCount{Outcome: executorv1.ShadowOutcome(o), Count: counts[o]})
		if o != NotSampled {
			sampled += counts[o]
		}
	}
	// Read after the totals, so that there are never more outcomes than requests.
	requests, sources := uint64(0), make([]*executorv1.SourceCount, 0, sourceEnd)
	for _, s := range Sources() {
		n := r.Requests(s)
		requests += n
		sources = append(sources, &executorv1.SourceCount{Source: s.proto(), Count: n})
	}

	w := &executorv1.ShadowWindow{
		Length:      durationpb.New(r.slotLen * windowSlots),
		Outcomes:    windowCounts,
		Comparisons: counts[Match] + counts[Mismatch],
		AbsDelta:    win.delta.quantiles(deltaUnit),
		LatencyMs:   win.latency.quantiles(latencyUnit),
	}
	if n := w.Comparisons; n > 0 {
		low, high := stats.Wilson(counts[Match], n, stats.Z95)
		w.MatchRate = ratio(counts[Match], n)
		w.MatchRateLow, w.MatchRateHigh = &low, &high
		mean := win.sumDelta / float64(n)
		w.MeanDelta = &mean
	}
	if sampled > 0 {
		w.Coverage = ratio(w.Comparisons, sampled)
		w.MatchRateWorst = ratio(counts[Match], sampled)
		w.MatchRateBest = ratio(sampled-counts[Mismatch], sampled)
	}
	if r.threshold > 0 {
		w.Decisions = win.agreement()
	}
	if failures := failed(counts); failures+w.Comparisons > 0 {
		w.ErrorRate = ratio(failures, failures+w.Comparisons)
	}

	version, digest := r.last()
	return &executorv1.GetShadowReportResponse{
		MatchTolerance: d.opts.MatchTolerance, DecisionThreshold: d.opts.DecisionThreshold,
		LatencyMsTotal: latencies,
		BaselineTotal:  requests,
		StartTime:      timestamppb.New(r.start),
		ReportTime:     timestamppb.New(time.Now()),
		RequestsTotal:  requests,
		InFlight:       requests - ended,
		SourcesTotal:   sources,
		OutcomesTotal:  totals,
		Window:         w,
		Breaker:        d.breaker.Status().proto(),
		ShadowVersion:  version,
		ShadowDigest:   digest,
	}
}

// snapshotTries is how often a snapshot is tried before shadows that end meanwhile are accepted.
const snapshotTries = 8

// snapshot reads the totals and the latency histogram at one moment. If shadows end faster than both can be read, the two
// differ by the few that ended in between.
func (r *Recorder) snapshot() (totals [outcomeEnd]uint64, latencies *executorv1.Histogram) {
	read := func() (all [outcomeEnd]uint64) {
		for o := range r.totals {
			all[o] = r.totals[o].Load()
		}
		return all
	}
	for range snapshotTries {
		totals, latencies = read(), r.metrics.latencies()
		if totals == read() {
			break
		}
	}
	return totals, latencies
}

// MatchRate returns matches / comparisons over the rolling window, in [0,1], and the number of comparisons. The rate is 0
// if there are none.
func (r *Recorder) MatchRate() (rate float64, n uint64) {
	matches, n := r.compared()
	if n == 0 {
		return 0, 0
	}
	return float64(matches) / float64(n), n
}

func failed(counts [outcomeEnd]uint64) (n uint64) {
	for o, c := range counts {
		if Outcome(o).Failed() {
			n += c
		}
	}
	return n
}

func ratio(k, n uint64) *float64 {
	v := float64(k) / float64(n)
	return &v
}

func (s BreakerStatus) proto() *executorv1.BreakerStatus {
	p := &executorv1.BreakerStatus{
		State: s.State, Blind: s.Blind, TripsTotal: s.Trips,
		Successes: uint64(s.Successes), Failures: uint64(s.Failures),
	}
	if !s.NextProbe.IsZero() {
		p.NextProbeTime = timestamppb.New(s.NextProbe)
	}
	if t := s.Trip; t != nil && s.State != executorv1.BreakerState_BREAKER_STATE_CLOSED {
		p.Trip = &executorv1.BreakerTrip{
			OpenTime: timestamppb.New(t.Time), Reason: t.Reason, Reopened: uint64(s.Reopened),
			Successes: uint64(t.Successes), Failures: uint64(t.Failures), ConsecutiveFailures: uint64(t.Consecutive),
		}
	}
	return p
}
