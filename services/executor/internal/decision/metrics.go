package decision

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/greenlight-ml/greenlight/pkg/telemetry"
)

// Metrics are the metrics of the service.
type Metrics struct {
	latency      prometheus.Histogram
	notReady     prometheus.Counter
	eventIgnored prometheus.Counter
}

// NewMetrics registers the metrics.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	f := promauto.With(reg)
	return &Metrics{
		latency: f.NewHistogram(prometheus.HistogramOpts{
			Name:    "ml_baseline_latency_ms",
			Help:    "Time from the arrival of a request to its baseline score, in milliseconds.",
			Buckets: telemetry.LatencyBucketsMS,
		}),
		notReady: f.NewCounter(prometheus.CounterOpts{
			Name: "ml_feature_not_ready_total",
			Help: "Requests with a quote that were refused because the features of the symbol are undefined or too old.",
		}),
		eventIgnored: f.NewCounter(prometheus.CounterOpts{
			Name: "ml_event_time_ignored_total",
			Help: "Requests whose event_time was ignored: it is invalid, before 1973, after 2199 or ahead of the clock.",
		}),
	}
}
