package shadow

import (
	"errors"
	"math"
	"slices"

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

// newMetrics registers the histograms. reg adds the prefix of the names, see [telemetry.Series]. The match tolerance is a
// bucket edge of the differences, which separates matches from mismatches.
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
		absDelta: histogram("abs_delta",
			"Absolute difference of shadow and baseline score, per comparison. --match-tolerance is one of the edges.",
			differences),
		latency: f.NewHistogram(telemetry.LatencyMS("latency_ms",
			"Time from the arrival of a request to the end of its shadow, in milliseconds, per shadow that answered or failed.")),
		latencyDelta: histogram("latency_delta_ms",
			"Shadow latency minus baseline latency, in milliseconds, per comparison.",
			telemetry.LatencyBucketsMS),
		batchSize: histogram("batch_size",
			"Rows in a call to ml-engine.",
			[]float64{1, 2, 4, 8, 16, 32, 64}),
	}
}

func (m *metrics) observe(r Result, req *Request) {
	if r.Outcome.Compared() || r.Outcome.Failed() {
		// Failed shadows count too: most of them took longest, and quantiles without them would hide an unhealthy engine.
		telemetry.ObserveMS(m.latency, r.Latency, req.Span)
	}
	if !r.Outcome.Compared() {
		return
	}
	m.absDelta.Observe(math.Abs(r.Delta))
	m.latencyDelta.Observe(telemetry.Milliseconds(r.Latency - req.BaselineLatency))
}

// latencies returns the exported latency histogram since start, with non-cumulative buckets.
func (m *metrics) latencies() *executorv1.Histogram {
	var sample dto.Metric
	if err := m.latency.Write(&sample); err != nil {
		return nil // a registered histogram can always be read
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

// The series of every dispatcher, without the prefix that [telemetry.Series] adds.
var (
	outcomesDesc = prometheus.NewDesc("outcomes_total",
		"Requests by the outcome of their shadow; the sum over all outcomes is the number of requests that have ended.",
		[]string{"outcome"}, nil)
	decisionsDesc = prometheus.NewDesc("decisions_total",
		"Comparisons by which side of --decision-threshold the baseline and the shadow are on: above (or at it) or below. Without a threshold there is no series.",
		[]string{"baseline", "shadow"}, nil)
	matchRateDesc = prometheus.NewDesc("match_rate",
		"Matches / (matches + mismatches) over the rolling window; NaN without comparisons.", nil, nil)
	breakerStateDesc = prometheus.NewDesc("breaker_state",
		"1 for the current state of the circuit breaker, 0 for the others.", []string{"state"}, nil)
	breakerBlindDesc = prometheus.NewDesc("breaker_blind",
		"1 while the breaker's window holds too few predictions to judge the rate.", nil, nil)
	queueDepthDesc = prometheus.NewDesc("queue_depth",
		"Shadows waiting to be sent.", nil, nil)
)

// Series of the model under trial.
var (
	successDesc = prometheus.NewDesc("success_total",
		"Shadows that answered (match and mismatch).", nil, nil)
	errorDesc = prometheus.NewDesc("error_total",
		"Shadows that failed (deadline, unavailable, invalid_score, rejected, internal).", nil, nil)
	matchDesc = prometheus.NewDesc("match_total",
		"Shadows within the match tolerance of the baseline: 0.05, or --match-tolerance.", nil, nil)
	mismatchDesc = prometheus.NewDesc("mismatch_total",
		"Shadows further than the match tolerance from the baseline.", nil, nil)
	watchersDesc = prometheus.NewDesc("watchers",
		"Open calls of WatchComparisons.", nil, nil)
	watchDroppedDesc = prometheus.NewDesc("watch_dropped_total",
		"Comparisons that a caller of WatchComparisons missed because it read too slowly.", nil, nil)
	sourcesDesc = prometheus.NewDesc("ml_decision_requests_total", // has no prefix
		"Requests that were answered with the baseline, by source.", []string{"source"}, nil)
)

// Series of a challenger.
var (
	modelDesc = prometheus.NewDesc("model_info",
		"1 for the model that the challenger's engine served when it was last asked.", []string{"version", "digest"}, nil)
	noiseDesc = prometheus.NewDesc("noise_total",
		"Scores of an A/A test, by comparison with the score of the model under trial for the same request: match or mismatch.",
		[]string{"outcome"}, nil)
	noiseFloorDesc = prometheus.NewDesc("noise_floor",
		"Mismatches / pairs of scores of an A/A test over the rolling window; NaN without pairs.", nil, nil)
)

// breakerStates maps the states to their names in labels and reports.
var breakerStates = map[executorv1.BreakerState]string{
	executorv1.BreakerState_BREAKER_STATE_CLOSED:    "closed",
	executorv1.BreakerState_BREAKER_STATE_HALF_OPEN: "half_open",
	executorv1.BreakerState_BREAKER_STATE_OPEN:      "open",
}

// register registers the collectors of the dispatcher.
func (d *Dispatcher) register(reg prometheus.Registerer) error {
	series := telemetry.Series(reg, d.name)
	common := []*prometheus.Desc{outcomesDesc, decisionsDesc, matchRateDesc, breakerStateDesc, breakerBlindDesc, queueDepthDesc}
	if d.name != "" {
		return series.Register(collector{append(common, modelDesc, noiseDesc, noiseFloorDesc), func(s telemetry.Sink) {
			d.collect(s)
			d.collectChallenger(s)
		}})
	}
	ofTrial := collector{append(common, successDesc, errorDesc, matchDesc, mismatchDesc, watchersDesc, watchDroppedDesc), func(s telemetry.Sink) {
		totals := d.collect(s)
		d.collectTrial(s, totals)
	}}
	requests := collector{[]*prometheus.Desc{sourcesDesc}, func(s telemetry.Sink) {
		for _, source := range Sources() {
			s.Counter(sourcesDesc, d.recorder.Requests(source), source.String())
		}
	}}
	return errors.Join(series.Register(ofTrial), reg.Register(requests))
}

// collector exports what collect sends.
type collector struct {
	descs   []*prometheus.Desc
	collect func(telemetry.Sink)
}

// Describe implements prometheus.Collector.
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) { c.collect(ch) }

// collect sends the series of every dispatcher. It reads every total once and returns the totals, so that sums add up within
// a scrape.
func (d *Dispatcher) collect(s telemetry.Sink) (totals [outcomeEnd]uint64) {
	r := d.recorder
	for _, o := range Outcomes() {
		totals[o] = r.Total(o)
		s.Counter(outcomesDesc, totals[o], o.String())
	}
	if r.threshold > 0 {
		for d := range decisionsEnd {
			baseline, shadow := d.sides()
			s.Counter(decisionsDesc, r.decided[d].Load(), baseline, shadow)
		}
	}
	matches, compared := r.compared()
	s.Rate(matchRateDesc, matches, compared)
	b := d.breaker.Status()
	for state, name := range breakerStates {
		s.Gauge(breakerStateDesc, telemetry.Bool(state == b.State), name)
	}
	s.Gauge(breakerBlindDesc, telemetry.Bool(b.Blind))
	s.Gauge(queueDepthDesc, float64(d.queue.len()))
	return totals
}

func (d *Dispatcher) collectTrial(s telemetry.Sink, totals [outcomeEnd]uint64) {
	s.Counter(successDesc, totals[Match]+totals[Mismatch])
	s.Counter(errorDesc, failed(totals))
	s.Counter(matchDesc, totals[Match])
	s.Counter(mismatchDesc, totals[Mismatch])
	s.Gauge(watchersDesc, float64(d.watchers.len()))
	s.Counter(watchDroppedDesc, d.watchers.dropped.Load())
}

func (d *Dispatcher) collectChallenger(s telemetry.Sink) {
	if m := d.model.current.Load(); m != nil && m.version != "" {
		s.Gauge(modelDesc, 1, m.version, m.digest)
	}
	r := d.recorder
	s.Counter(noiseDesc, r.together.Load(), Match.String())
	s.Counter(noiseDesc, r.apart.Load(), Mismatch.String())
	n := r.noise()
	s.Rate(noiseFloorDesc, n.apart, n.pairs)
}
