package agent

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the metrics of an agent.
type Metrics struct {
	writeErrors   prometheus.Counter
	lastSuccess   *prometheus.GaugeVec
	criticalHours prometheus.Gauge
	missing       prometheus.Gauge
}

// NewMetrics registers the metrics.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		writeErrors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ml_evidence_write_errors_total", Help: "Writes of evidence, or of the agent's journal, that failed.",
		}),
		lastSuccess: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "ml_agent_last_success_timestamp_seconds", Help: "Time of the last successful write of a job, in Unix seconds.",
		}, []string{"job_name"}),
		criticalHours: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "ml_agent_psi_critical_hours", Help: "Consecutive hours with an overall PSI above 0.3 and above its null quantile.",
		}),
		missing: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "ml_agent_missing_services", Help: "Services that did not answer in the last sample.",
		}),
	}
	reg.MustRegister(m.writeErrors, m.lastSuccess, m.criticalHours, m.missing)
	return m
}

func (m *Metrics) succeeded(job string, now time.Time) {
	m.lastSuccess.WithLabelValues(job).Set(float64(now.UnixMilli()) / 1000)
}
