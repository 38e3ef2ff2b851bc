package shadow

import (
	"math"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	dto "github.com/prometheus/client_model/go"

	"github.com/greenlight-ml/greenlight/pkg/telemetry"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// metrics are the histograms that shadows feed directly. The collector reads all other numbers from the recorder and the
// breaker at scrape time, so that everything is counted once.
type metrics struct {
	absDelta     prometheus.Histogram
	latency      prometheus.Histogram
	latencyDelta prometheus.Histogram
	batchSize    prometheus.Histogram
}

// newMetrics registers the histograms. The match tolerance is an edge of the differences: it separates matches from
// mismatches.
func newMetrics(reg prometheus.Registerer, tolerance float64) *metrics {
	f := promauto.With(reg)
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		return f.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets})
	}
	differences := []float64{.001, .0025, .005, .01, .02, .03, .04, .05, .075, .1, .15, .2, .3, .5, 1}
	if i, ok := slices.BinarySearch(differences, tolerance); !ok {
		differences = slices.Insert(differences, i, tolerance)
	}
	return &metrics{
		absDelta: histogram("ml_shadow_abs_delta",
			"Absolute difference of shadow and baseline score, per comparison. --match-tolerance is one of the edges.",
			differences),
		latency: histogram("ml_shadow_latency_ms",
			"Time from the arrival of a request to the end of its shadow, in milliseconds, per shadow that answered or failed.",
			telemetry.LatencyBucketsMS),
		latencyDelta: histogram("ml_shadow_latency_delta_ms",
			"Shadow latency minus baseline latency, in milliseconds, per comparison.",
			telemetry.LatencyBucketsMS),
		batchSize: histogram("ml_shadow_batch_size",
			"Rows in a call to ml-engine.",
			[]float64{1, 2, 4, 8, 16, 32, 64}),
	}
}

func (m *metrics) observe(r Result, baseline time.Duration) {
	if r.Outcome.Compared() || r.Outcome.Failed() {
		// Failed shadows count too: most of them took longest, and quantiles without them would hide an unhealthy engine.
		m.latency.Observe(telemetry.Milliseconds(r.Latency))
	}
	if !r.Outcome.Compared() {
		return
	}
	m.absDelta.Observe(math.Abs(r.Delta))
	m.latencyDelta.Observe(telemetry.Milliseconds(r.Latency - baseline))
}

// latencies returns the exported latency histogram since start, with non-cumulative buckets.
func (m *metrics) latencies() *executorv1.Histogram {
	var sample dto.Metric
	if err := m.latency.Write(&sample); err != nil {
		return nil // a histogram that we registered can always be read
	}
	h := &executorv1.Histogram{}
	below := uint64(0)
	for _, b := range sample.GetHistogram().GetBucket() {
		h.Edges = append(h.Edges, b.GetUpperBound())
		h.Counts = append(h.Counts, b.GetCumulativeCount()-below)
		below = b.GetCumulativeCount()
	}
	h.Counts = append(h.Counts, sample.GetHistogram().GetSampleCount()-below)
	return h
}

// collector exports the counts of a dispatcher.
type collector struct {
	d *Dispatcher
}

var (
	outcomesDesc = prometheus.NewDesc("ml_shadow_outcomes_total",
		"Requests by the outcome of their shadow; the sum over all outcomes is the number of requests that have ended.",
		[]string{"outcome"}, nil)
	sourcesDesc = prometheus.NewDesc("ml_decision_requests_total",
		"Requests that were answered with the baseline, by source.", []string{"source"}, nil)
	successDesc = prometheus.NewDesc("ml_shadow_success_total",
		"Shadows that answered (match and mismatch).", nil, nil)
	errorDesc = prometheus.NewDesc("ml_shadow_error_total",
		"Shadows that failed (deadline, unavailable, invalid_score, rejected, internal).", nil, nil)
	matchDesc = prometheus.NewDesc("ml_shadow_match_total",
		"Shadows within the match tolerance of the baseline: 0.05, or that of --match-tolerance.", nil, nil)
	mismatchDesc = prometheus.NewDesc("ml_shadow_mismatch_total",
		"Shadows further than the match tolerance from the baseline.", nil, nil)
	decisionsDesc = prometheus.NewDesc("ml_shadow_decisions_total",
		"Comparisons by the sides of --decision-threshold on which baseline and shadow lie: above (or at it) or below. Without a threshold there is no series.",
		[]string{"baseline", "shadow"}, nil)
	matchRateDesc = prometheus.NewDesc("ml_shadow_match_rate",
		"Matches / (matches + mismatches) over the rolling window; NaN without comparisons.", nil, nil)
	breakerStateDesc = prometheus.NewDesc("ml_shadow_breaker_state",
		"1 for the current state of the circuit breaker, 0 for the others.", []string{"state"}, nil)
	breakerBlindDesc = prometheus.NewDesc("ml_shadow_breaker_blind",
		"1 while the breaker's window holds too few predictions to be judged by rate.", nil, nil)
	queueDepthDesc = prometheus.NewDesc("ml_shadow_queue_depth",
		"Shadows waiting to be sent.", nil, nil)
	watchersDesc = prometheus.NewDesc("ml_shadow_watchers",
		"Open calls of WatchComparisons.", nil, nil)
	watchDroppedDesc = prometheus.NewDesc("ml_shadow_watch_dropped_total",
		"Comparisons that a caller of WatchComparisons lost because it read too slowly.", nil, nil)
)

// breakerStates maps the states to their names in labels and reports.
var breakerStates = map[executorv1.BreakerState]string{
	executorv1.BreakerState_BREAKER_STATE_CLOSED:    "closed",
	executorv1.BreakerState_BREAKER_STATE_HALF_OPEN: "half_open",
	executorv1.BreakerState_BREAKER_STATE_OPEN:      "open",
}

// Describe implements prometheus.Collector.
func (collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		outcomesDesc, sourcesDesc, successDesc, errorDesc, matchDesc, mismatchDesc, decisionsDesc, matchRateDesc,
		breakerStateDesc, breakerBlindDesc, queueDepthDesc,
		watchersDesc, watchDroppedDesc,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	r := c.d.recorder
	// Every total is read once, so that sums add up within a scrape.
	var totals [outcomeEnd]uint64
	var success, failure uint64
	for _, o := range Outcomes() {
		n := r.Total(o)
		totals[o] = n
		counter(outcomesDesc, n, o.String())
		switch {
		case o.Compared():
			success += n
		case o.Failed():
			failure += n
		}
	}
	for _, s := range Sources() {
		counter(sourcesDesc, r.Requests(s), s.String())
	}
	counter(successDesc, success)
	counter(errorDesc, failure)
	counter(matchDesc, totals[Match])
	counter(mismatchDesc, totals[Mismatch])
	if r.threshold > 0 {
		for d := range decisionsEnd {
			baseline, shadow := d.sides()
			counter(decisionsDesc, r.decided[d].Load(), baseline, shadow)
		}
	}
	rate, n := r.MatchRate()
	if n == 0 {
		rate = math.NaN()
	}
	gauge(matchRateDesc, rate)

	s := c.d.breaker.Status()
	for state, name := range breakerStates {
		gauge(breakerStateDesc, telemetry.Bool(state == s.State), name)
	}
	gauge(breakerBlindDesc, telemetry.Bool(s.Blind))
	gauge(queueDepthDesc, float64(c.d.queue.len()))
	gauge(watchersDesc, float64(c.d.watchers.len()))
	counter(watchDroppedDesc, c.d.watchers.dropped.Load())
}
