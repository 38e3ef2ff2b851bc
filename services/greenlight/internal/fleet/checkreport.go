package fleet

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/shadow"
	"github.com/greenlight-ml/greenlight/pkg/stats"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

const (
	// MaxClockDifference bounds how far a time in an answer may be from this machine's clock. The preflight judges smaller
	// differences.
	MaxClockDifference = 5 * time.Minute
	// lateSamples is the number of shadows by which the latency histogram may differ from the outcomes. Executors up to version
	// 1.8 read the two one after the other.
	lateSamples = 64
	// maxEdges bounds the number of buckets in a histogram.
	maxEdges = 1000
	// closeEnough bounds the difference of two floating point numbers that are computed by the same formula.
	closeEnough = 1e-9
)

// CheckReport returns an error if an executor's report, received at the given time, contradicts itself.
func CheckReport(r *executorv1.GetShadowReportResponse, now time.Time) error {
	if r == nil {
		return errors.New("the report is empty")
	}
	var c contradictions
	c.instance(r.GetInstanceId())
	c.times(r, now)
	c.add(percentage(r.GetSamplePercent()), "sample_percent is %v", r.GetSamplePercent())
	c.model("baseline", r.GetBaselineVersion(), r.GetBaselineDigest(), false)
	c.model("shadow", r.GetShadowVersion(), r.GetShadowDigest(), true)

	totals := c.totals(r.GetOutcomesTotal(), r.GetInFlight(), r.GetRequestsTotal())
	compared := totals.Compared()
	// Executors up to version 1.8 do not count baseline answers.
	c.add(r.GetBaselineTotal() == 0 || r.GetBaselineTotal() == r.GetRequestsTotal(),
		"%d baseline answers to %d requests", r.GetBaselineTotal(), r.GetRequestsTotal())
	c.add(compared == 0 || r.GetShadowDigest() != "", "%d comparisons, but no digest of the model that answered", compared)
	c.histogram(r.GetLatencyMsTotal(), compared+totals.Failed())
	c.sources(r.GetSourcesTotal(), r.GetRequestsTotal())
	tolerance, threshold := Tolerance(r), r.GetDecisionThreshold()
	c.add(tolerance > 0 && tolerance < 1, "match_tolerance is %v", tolerance)
	c.add(threshold >= 0 && threshold < 1, "decision_threshold is %v", threshold)
	if r.GetWindow() != nil {
		c.window(r.GetWindow(), totals, tolerance)
		c.decisions(r.GetWindow().GetDecisions(), threshold, r.GetWindow().GetComparisons())
		c.slow(r.GetWindow().GetLatencyMs(), r.GetLatencyMsTotal())
	}
	c.breaker(r.GetBreaker())
	return c.err()
}

// CheckChallengers returns an error if the challengers of an executor's report contradict themselves. [CheckReport] does not
// check them: a challenger must not stop the canary of the model under trial. The versions and digests are not checked: they
// are what the engines report.
func CheckChallengers(r *executorv1.GetShadowReportResponse) error {
	list := r.GetChallengers()
	if len(list) > shadow.MaxChallengers {
		return fmt.Errorf("%d challengers: want at most %d", len(list), shadow.MaxChallengers)
	}
	var c contradictions
	var names []string
	for _, x := range list {
		if err := shadow.CheckChallenger(x.GetName(), names); err != nil {
			c.add(false, "challenger %s: the name is not valid, or is given twice", shown(x.GetName()))
			continue
		}
		names = append(names, x.GetName())
		var own contradictions
		own.challenger(x, Tolerance(r), r.GetDecisionThreshold())
		if err := own.err(); err != nil {
			c.add(false, "challenger %s: %w", x.GetName(), err)
		}
	}
	return c.err()
}

func (c *contradictions) challenger(x *executorv1.Challenger, tolerance, threshold float64) {
	totals := c.totals(x.GetOutcomesTotal(), x.GetInFlight(), x.GetRequestsTotal())
	if x.GetWindow() == nil {
		c.add(false, "the window is missing")
	} else {
		c.window(x.GetWindow(), totals, tolerance)
		c.decisions(x.GetWindow().GetDecisions(), threshold, x.GetWindow().GetComparisons())
	}
	c.breaker(x.GetBreaker())
	f := x.GetNoiseFloor()
	if f == nil {
		return
	}
	n, k := f.GetComparisons(), f.GetMismatches()
	c.add(x.GetSameModel(), "there is a noise floor without an A/A test")
	c.add(k <= n && n < maxCount, "noise_floor has %d mismatches of %d comparisons", k, n)
	c.ratio("noise_floor.mismatch_rate", f.MismatchRate, k, n)
	if n > 0 && k <= n {
		low, high := stats.Wilson(k, n, stats.Z95)
		c.add(near(f.MismatchRateLow, low) && near(f.MismatchRateHigh, high), "noise_floor.mismatch_rate_low and mismatch_rate_high are not the interval of %d in %d", k, n)
	}
	c.add(f.GetMaxDelta() >= 0 && f.GetMaxDelta() <= 1, "noise_floor.max_delta is %v", f.GetMaxDelta())
}

func (c *contradictions) times(r *executorv1.GetShadowReportResponse, now time.Time) {
	start, made := r.GetStartTime(), r.GetReportTime()
	if !start.IsValid() || !made.IsValid() || start.GetSeconds() <= 0 {
		c.add(false, "start_time or report_time is missing or not a time")
		return
	}
	c.add(!start.AsTime().After(made.AsTime()), "start_time %s is after report_time %s", clock(start), clock(made))
	c.add(made.AsTime().Sub(now).Abs() <= MaxClockDifference, "report_time is %s, but the time here is %s", clock(made), now.UTC().Format(time.RFC3339))
}

func clock(t *timestamppb.Timestamp) string { return t.AsTime().Format(time.RFC3339) }

// maxCount bounds a counter. 1,000 executors with a million requests a second reach it after 285 years in total, and sums of
// counters do not overflow.
const maxCount = 1 << 53

// outcomes reads a list of counts by outcome. A missing outcome is zero.
func (c *contradictions) outcomes(name string, list []*executorv1.OutcomeCount) Counts {
	all := Counts{Outcomes: map[string]uint64{}}
	for _, o := range list {
		value := o.GetOutcome()
		if value <= 0 || int(value) > len(shadow.Outcomes()) {
			c.add(false, "%s has the unknown outcome %d", name, int32(value))
			continue
		}
		word := shadow.Outcome(value).String()
		_, twice := all.Outcomes[word]
		c.add(!twice, "%s has %s twice", name, word)
		c.add(o.GetCount() < maxCount, "%s has %d of %s", name, o.GetCount(), word)
		all.Outcomes[word] += min(o.GetCount(), maxCount)
	}
	return all
}

// totals reads the outcomes since start. Every request that is not in flight must have one.
func (c *contradictions) totals(list []*executorv1.OutcomeCount, inFlight, requests uint64) Counts {
	all := c.outcomes("outcomes_total", list)
	ended := all.Ended()
	c.add(inFlight <= math.MaxUint64-ended && ended+inFlight == requests, "%d requests, but %d outcomes and %d in flight", requests, ended, inFlight)
	return all
}

// sources checks the requests by source. Older executors send none.
func (c *contradictions) sources(list []*executorv1.SourceCount, requests uint64) {
	if len(list) == 0 {
		return
	}
	seen := map[executorv1.Source]bool{}
	var sum uint64
	for _, s := range list {
		value := s.GetSource()
		c.add(value > executorv1.Source_SOURCE_UNSPECIFIED && value <= executorv1.Source_SOURCE_SIMULATED && !seen[value],
			"sources_total has the source %d twice, or the source is unknown", int32(value))
		seen[value] = true
		sum += min(s.GetCount(), maxCount)
	}
	c.add(sum == requests, "%d requests, but %d by source", requests, sum)
}

// sourcesOf returns an executor's requests by source; nil if it does not report sources.
func sourcesOf(r *executorv1.GetShadowReportResponse) evidence.Sources {
	if len(r.GetSourcesTotal()) == 0 {
		return nil
	}
	all := make(evidence.Sources)
	for _, s := range r.GetSourcesTotal() {
		all[evidence.Source(shadow.SourceOf(s.GetSource()).String())] += s.GetCount()
	}
	return all
}

// histogram checks the latencies of the given number of tried shadows.
func (c *contradictions) histogram(h *executorv1.Histogram, tried uint64) {
	edges, buckets := h.GetEdges(), h.GetCounts()
	if len(edges) == 0 || len(edges) > maxEdges || len(buckets) != len(edges)+1 {
		c.add(false, "latency_ms_total has %d edges and %d counts", len(edges), len(buckets))
		return
	}
	c.add(ascending(edges), "the edges of latency_ms_total are not positive and ascending")
	var timed uint64
	for _, n := range buckets {
		timed += min(n, maxCount)
	}
	c.add(max(timed, tried)-min(timed, tried) <= lateSamples, "%d latencies of %d shadows that were tried", timed, tried)
}

// ascending reports whether the edges are finite, positive and ascending.
func ascending(edges []float64) bool {
	before := 0.0
	for _, e := range edges {
		if !(e > before) || math.IsInf(e, 0) {
			return false
		}
		before = e
	}
	return true
}

// window checks the rolling window against itself and against the totals since start.
func (c *contradictions) window(w *executorv1.ShadowWindow, totals Counts, tolerance float64) {
	seen := c.outcomes("window.outcomes", w.GetOutcomes())
	for o, n := range seen.Outcomes {
		c.add(n <= totals.Outcomes[o], "%d of %s in the window, and %d since start", n, o, totals.Outcomes[o])
	}
	c.add(w.GetLength().IsValid() && w.GetLength().AsDuration() > 0, "window.length is %s", w.GetLength().AsDuration())
	compared, failed, sampled := seen.Compared(), seen.Failed(), seen.Ended()-seen.Of(shadow.NotSampled)
	c.add(w.GetComparisons() == compared, "window.comparisons is %d, but its outcomes have %d", w.GetComparisons(), compared)
	c.ratio("window.match_rate", w.MatchRate, seen.Of(shadow.Match), compared)
	c.ratio("window.coverage", w.Coverage, compared, sampled)
	c.ratio("window.match_rate_worst", w.MatchRateWorst, seen.Of(shadow.Match), sampled)
	c.ratio("window.match_rate_best", w.MatchRateBest, sampled-seen.Of(shadow.Mismatch), sampled)
	c.ratio("window.error_rate", w.ErrorRate, failed, compared+failed)
	if compared > 0 {
		low, high := stats.Wilson(seen.Of(shadow.Match), compared, stats.Z95)
		c.add(near(w.MatchRateLow, low) && near(w.MatchRateHigh, high), "window.match_rate_low and match_rate_high are not the interval of %d in %d",
			seen.Of(shadow.Match), compared)
	}
	c.add((w.MeanDelta != nil) == (compared > 0), "window.mean_delta is inconsistent with %d comparisons", compared)
	mean := w.GetMeanDelta()
	c.add(mean >= -1 && mean <= 1, "window.mean_delta is %v", mean)
	c.quantiles("window.abs_delta", w.GetAbsDelta(), compared, 1)
	c.quantiles("window.latency_ms", w.GetLatencyMs(), compared, math.MaxFloat64)
	// The largest difference is stored in millionths. A match differs by at most the tolerance, a mismatch by more.
	largest, mismatches := w.GetAbsDelta().GetMax(), seen.Of(shadow.Mismatch)
	c.add(mismatches > 0 || largest <= tolerance+1e-6, "window has no mismatch, but a difference of %v", largest)
	c.add(mismatches == 0 || largest >= tolerance-1e-6, "window has %d mismatches, but no difference above %v", mismatches, largest)
	c.add(math.Abs(mean) <= w.GetAbsDelta().GetMax()+1e-6, "window.mean_delta is %v, but no difference is above %v", mean, w.GetAbsDelta().GetMax())
}

// decisions checks the agreement of decisions, which requires a threshold.
func (c *contradictions) decisions(d *executorv1.DecisionAgreement, threshold float64, comparisons uint64) {
	c.add((d != nil) == (threshold > 0), "window.decisions is inconsistent with a decision_threshold of %v", threshold)
	if d == nil {
		return
	}
	var sum uint64
	for _, n := range []uint64{d.GetBothAbove(), d.GetBaselineAbove(), d.GetShadowAbove(), d.GetBothBelow()} {
		sum += min(n, maxCount)
	}
	c.add(sum == comparisons, "%d decisions of %d comparisons in the window", sum, comparisons)
	agreement, kappa := shadow.Agreement(d)
	same := func(a, b *float64) bool { return (a == nil) == (b == nil) && (a == nil || near(a, *b)) }
	c.add(same(d.Agreement, agreement) && same(d.Kappa, kappa), "window.decisions.agreement and kappa do not follow from its counts")
}

// ratio checks the rate k/n. It must be missing if n is 0.
func (c *contradictions) ratio(name string, v *float64, k, n uint64) {
	switch {
	case n == 0:
		c.add(v == nil, "%s is set although it has no samples", name)
	case v == nil:
		c.add(false, "%s is missing", name)
	default:
		c.add(near(v, float64(k)/float64(n)), "%s is %v, but the counts give %d of %d", name, *v, k, n)
	}
}

func near(v *float64, want float64) bool { return v != nil && math.Abs(*v-want) <= closeEnough }

// quantiles checks a distribution of n values in [0,limit].
func (c *contradictions) quantiles(name string, q *executorv1.Quantiles, n uint64, limit float64) {
	c.add(q.GetCount() == n, "%s has %d values of %d comparisons", name, q.GetCount(), n)
	order := []float64{0, q.GetP50(), q.GetP95(), q.GetP99(), q.GetMax(), limit}
	c.add(!slices.ContainsFunc(order, math.IsNaN) && slices.IsSorted(order), "%s does not ascend from 0 over p50, p95, p99 and max to %v", name, limit)
}

// slow checks that at least as many shadows were slow since start as the quantiles of the window imply.
func (c *contradictions) slow(q *executorv1.Quantiles, since *executorv1.Histogram) {
	for _, p := range []struct {
		name  string
		above float64 // fraction of the values that are at least v
		v     float64
	}{{"p50", 0.5, q.GetP50()}, {"p95", 0.05, q.GetP95()}, {"p99", 0.01, q.GetP99()}} {
		var slow uint64
		for i, n := range since.GetCounts() {
			// A quantile has two significant digits.
			if edges := since.GetEdges(); i >= len(edges) || edges[i] >= 0.98*p.v {
				slow += min(n, maxCount)
			}
		}
		least := p.above * float64(min(q.GetCount(), maxCount))
		c.add(float64(slow)+lateSamples >= least, "window.latency_ms.%s is %v, but since start only %d shadows were as slow", p.name, p.v, slow)
	}
}

func (c *contradictions) breaker(b *executorv1.BreakerStatus) {
	_, known := executorv1.BreakerState_name[int32(b.GetState())]
	c.add(known && b.GetState() != executorv1.BreakerState_BREAKER_STATE_UNSPECIFIED, "breaker.state is %d", int32(b.GetState()))
	if b.GetNextProbeTime() != nil {
		c.add(b.GetNextProbeTime().IsValid(), "breaker.next_probe_time is not a time")
		c.add(b.GetState() == executorv1.BreakerState_BREAKER_STATE_OPEN, "breaker.next_probe_time is set, but the breaker is not open")
	}
}
