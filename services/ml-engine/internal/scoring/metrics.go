package scoring

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/telemetry"
)

// Metrics are what the service exports: the families; a snapshot holds its model's children of them. There are series of
// the active version and of the one before, so that their number is bounded however many models come and go.
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
			Help: "Predictions asked for, by how they ended; each row of a batch is one.",
		}, []string{"model_version", "status"}),
		latency: f.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "ml_predict_latency_ms",
			Help:    "Time that a call to Predict or BatchPredict took in the handler, in milliseconds.",
			Buckets: telemetry.LatencyBucketsMS,
		}, []string{"model_version"}),
		score: f.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "ml_prediction_score",
			Help:    "Scores, in [0,1].",
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

// modelMetrics are one model's children, resolved once so that a prediction looks nothing up.
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

// forget deletes the series of a version. A request that is still under way counts in a series that nobody reads.
func (m *Metrics) forget(version string) {
	labels := prometheus.Labels{"model_version": version}
	m.requests.DeletePartialMatch(labels)
	m.latency.Delete(labels)
	m.score.Delete(labels)
}
