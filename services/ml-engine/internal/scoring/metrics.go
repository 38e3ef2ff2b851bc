package scoring

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/telemetry"
)

// Metrics are the metric families of the service; a snapshot holds its model's series. Only the active and the previous
// version have series, so that their number is bounded.
type Metrics struct {
	requests *prometheus.CounterVec
	latency  *prometheus.HistogramVec
	score    *prometheus.HistogramVec
	info     *prometheus.GaugeVec

	mu               sync.Mutex
	active, previous string // versions
}

// NewMetrics registers the metrics.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	f := promauto.With(reg)
	return &Metrics{
		requests: f.NewCounterVec(prometheus.CounterOpts{
			Name: "ml_predict_requests_total",
			Help: "Requested predictions by status; each row of a batch counts as one.",
		}, []string{"model_version", "status"}),
		latency: f.NewHistogramVec(telemetry.LatencyMS("ml_predict_latency_ms",
			"Time in the handler of Predict, BatchPredict or ModelInfer, or for a message of StreamPredict, in milliseconds.",
		), []string{"model_version"}),
		score: f.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "ml_prediction_score",
			Help:    "Scores in [0,1].",
			Buckets: []float64{.05, .1, .15, .2, .25, .3, .35, .4, .45, .5, .55, .6, .65, .7, .75, .8, .85, .9, .95, 1},
		}, []string{"model_version"}),
		info: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "ml_model_info",
			Help: "1 for the active model.",
		}, []string{"version", "digest", "schema"}),
	}
}

// The statuses of ml_predict_requests_total.
const (
	statusOK        = "ok"
	statusInvalid   = "invalid_argument"
	statusExhausted = "resource_exhausted"
	statusInternal  = "internal"
)

// modelMetrics are one model's series, resolved once so that a prediction needs no look-up.
type modelMetrics struct {
	ok, invalid, exhausted, internal prometheus.Counter
	latency, score                   prometheus.Observer
}

func (m *Metrics) of(a *model.Artifact) modelMetrics {
	v := a.Manifest.Version
	m.mu.Lock()
	defer m.mu.Unlock()
	if v != m.active {
		if m.previous != v {
			m.forget(m.previous)
		}
		m.active, m.previous = v, m.active
	}
	m.info.Reset()
	m.info.WithLabelValues(v, a.Digest(), a.Spec.Schema).Set(1)
	return modelMetrics{
		ok:        m.requests.WithLabelValues(v, statusOK),
		invalid:   m.requests.WithLabelValues(v, statusInvalid),
		exhausted: m.requests.WithLabelValues(v, statusExhausted),
		internal:  m.requests.WithLabelValues(v, statusInternal),
		latency:   m.latency.WithLabelValues(v),
		score:     m.score.WithLabelValues(v),
	}
}

// forget deletes the series of a version. A request in flight may still count in a deleted series.
func (m *Metrics) forget(version string) {
	labels := prometheus.Labels{"model_version": version}
	m.requests.DeletePartialMatch(labels)
	m.latency.Delete(labels)
	m.score.Delete(labels)
}
