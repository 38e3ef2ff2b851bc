package agent

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics say how an agent does.
type Metrics struct {
	writeErrors     prometheus.Counter
	lastSuccess     *prometheus.GaugeVec
	criticalSamples prometheus.Gauge
}

// NewMetrics registers the metrics.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		writeErrors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ml_evidence_write_errors_total", Help: "Writes of evidence, or of the agent's journal, that failed.",
		}),
		lastSuccess: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "ml_agent_last_success_timestamp_seconds", Help: "When a job last wrote what it is for, in Unix seconds.",
		}, []string{"job_name"}),
		criticalSamples: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "ml_agent_psi_critical_samples", Help: "Samples in a row whose overall PSI is above 0.3.",
		}),
	}
	reg.MustRegister(m.writeErrors, m.lastSuccess, m.criticalSamples)
	return m
}

func (m *Metrics) succeeded(job string, now time.Time) {
	m.lastSuccess.WithLabelValues(job).Set(float64(now.UnixMilli()) / 1000)
}
