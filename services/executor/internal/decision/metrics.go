package decision

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/greenlight-ml/greenlight/pkg/telemetry"
)

// Metrics are what the service exports.
type Metrics struct {
	latency prometheus.Histogram
}

// NewMetrics registers the metrics.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	return &Metrics{latency: promauto.With(reg).NewHistogram(prometheus.HistogramOpts{
		Name:    "ml_baseline_latency_ms",
		Help:    "Time from the arrival of a request to its baseline score, in milliseconds.",
		Buckets: telemetry.LatencyBucketsMS,
	})}
}
