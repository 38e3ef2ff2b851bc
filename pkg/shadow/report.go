package shadow

import (
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/stats"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// Report returns the quality of the shadow. The caller adds the baseline and the sample, which a dispatcher does not know.
func (d *Dispatcher) Report() *executorv1.GetShadowReportResponse {
	r := d.recorder
	f := d.figures()
	// Read after the outcomes, so that there are never more outcomes than requests.
	requests, sources := uint64(0), make([]*executorv1.SourceCount, 0, sourceEnd)
	for _, s := range Sources() {
		n := r.Requests(s)
		requests += n
		sources = append(sources, &executorv1.SourceCount{Source: s.proto(), Count: n})
	}
	version, digest := r.last()
	report := &executorv1.GetShadowReportResponse{
		MatchTolerance: d.opts.MatchTolerance, DecisionThreshold: d.opts.DecisionThreshold,
		LatencyMsTotal: f.latencies,
		BaselineTotal:  requests,
		StartTime:      timestamppb.New(r.start),
		ReportTime:     timestamppb.New(time.Now()),
		RequestsTotal:  requests,
		InFlight:       requests - f.ended,
		SourcesTotal:   sources,
		OutcomesTotal:  f.totals,
		Window:         f.window.proto(r.slotLen*windowSlots, r.threshold),
		Breaker:        d.breaker.Status().proto(),
		ShadowVersion:  version,
		ShadowDigest:   digest,
	}
	for _, c := range d.challengers {
		report.Challengers = append(report.Challengers, c.report(d))
	}
	return report
}

// report returns the quality of the challenger.
func (c *challenger) report(trial *Dispatcher) *executorv1.Challenger {
	r := c.recorder
	f := c.figures()
	requests := r.begun() // after the outcomes
	version, digest := r.last()
	report := &executorv1.Challenger{
		Name:          c.name,
		RequestsTotal: requests,
		InFlight:      requests - f.ended,
		OutcomesTotal: f.totals,
		Window:        f.window.proto(r.slotLen*windowSlots, r.threshold),
		Breaker:       c.breaker.Status().proto(),
		ModelVersion:  version,
		ModelDigest:   digest,
		SameModel:     c.sameModel(trial),
	}
	if report.SameModel {
		report.NoiseFloor = f.window.noise.proto()
	}
	return report
}

func (n noise) proto() *executorv1.NoiseFloor {
	p := &executorv1.NoiseFloor{Comparisons: n.pairs, Mismatches: n.apart, MaxDelta: n.max}
	if n.pairs > 0 {
		low, high := stats.Wilson(n.apart, n.pairs, stats.Z95)
		p.MismatchRate, p.MismatchRateLow, p.MismatchRateHigh = ratio(n.apart, n.pairs), &low, &high
	}
	return p
}

// figures are the counts of a dispatcher at one moment.
type figures struct {
	window    window
	totals    []*executorv1.OutcomeCount
	ended     uint64 // the sum of the totals
	latencies *executorv1.Histogram
}

func (d *Dispatcher) figures() figures {
	f := figures{window: d.recorder.window()}
	all, latencies := d.recorder.snapshot()
	f.totals, f.latencies = countsOf(all), latencies
	for _, n := range all {
		f.ended += n
	}
	return f
}

func countsOf(counts [outcomeEnd]uint64) []*executorv1.OutcomeCount {
	list := make([]*executorv1.OutcomeCount, 0, outcomeEnd)
	for _, o := range Outcomes() {
		list = append(list, &executorv1.OutcomeCount{Outcome: executorv1.ShadowOutcome(o), Count: counts[o]})
	}
	return list
}

// proto returns the window of the given length in executor's contract, with the decisions if there is a threshold.
func (win *window) proto(length time.Duration, threshold float64) *executorv1.ShadowWindow {
	counts := win.counts
	w := &executorv1.ShadowWindow{
		Length:      durationpb.New(length),
		Outcomes:    countsOf(counts),
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
	var sampled uint64
	for o, n := range counts {
		if Outcome(o) != NotSampled {
			sampled += n
		}
	}
	if sampled > 0 {
		w.Coverage = ratio(w.Comparisons, sampled)
		w.MatchRateWorst = ratio(counts[Match], sampled)
		w.MatchRateBest = ratio(sampled-counts[Mismatch], sampled)
	}
	if threshold > 0 {
		w.Decisions = win.agreement()
	}
	if failures := failed(counts); failures+w.Comparisons > 0 {
		w.ErrorRate = ratio(failures, failures+w.Comparisons)
	}
	return w
}

// snapshotTries is how often a snapshot is tried before it may miss shadows that end meanwhile.
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
