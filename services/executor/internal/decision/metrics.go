package decision

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"google.golang.org/grpc/codes"

	"github.com/greenlight-ml/greenlight/pkg/telemetry"
)

// Metrics are the metrics of the service.
type Metrics struct {
	latency      prometheus.Histogram
	notReady     prometheus.Counter
	eventIgnored prometheus.Counter
	// messages count the answers to messages of streams, by code.
	messages [codes.Unauthenticated + 1]prometheus.Counter
}

// NewMetrics registers the metrics.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	f := promauto.With(reg)
	m := &Metrics{
		latency: f.NewHistogram(telemetry.LatencyMS("ml_baseline_latency_ms",
			"Time from the arrival of a request to its baseline score, in milliseconds.")),
		notReady: f.NewCounter(prometheus.CounterOpts{
			Name: "ml_feature_not_ready_total",
			Help: "Requests with a quote for which the features of the symbol are undefined or too old. They are refused, unless the caller's own score is the baseline.",
		}),
		eventIgnored: f.NewCounter(prometheus.CounterOpts{
			Name: "ml_event_time_ignored_total",
			Help: "Requests whose event_time was ignored: it is invalid, before 1973, after 2199 or ahead of the clock.",
		}),
	}
	messages := f.NewCounterVec(prometheus.CounterOpts{
		Name: "ml_decide_messages_total", Help: "Messages of Decide by the gRPC code of their answer.",
	}, []string{"code"})
	for code := range m.messages {
		m.messages[code] = messages.WithLabelValues(codes.Code(code).String())
	}
	return m
}
