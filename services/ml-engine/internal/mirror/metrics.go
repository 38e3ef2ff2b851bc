package mirror

import "github.com/prometheus/client_golang/prometheus"

var (
	successDesc = prometheus.NewDesc("ml_models_mirror_last_success_timestamp_seconds",
		"Time at which the repository of models was last read, in Unix seconds; 0 before the first time, and without a repository.", nil, nil)
	failuresDesc = prometheus.NewDesc("ml_models_mirror_failures_total",
		"Failed attempts to read the repository of models (of=\"repository\"), or to copy one of its models (of=\"model\").", []string{"of"}, nil)
)

// Describe implements prometheus.Collector.
func (*Mirror) Describe(to chan<- *prometheus.Desc) {
	to <- successDesc
	to <- failuresDesc
}

// Collect implements prometheus.Collector. A nil Mirror has the series too, all 0.
func (m *Mirror) Collect(to chan<- prometheus.Metric) {
	var success float64
	var repository, models int
	if m != nil {
		m.mu.Lock()
		if !m.success.IsZero() {
			success = float64(m.success.Unix())
		}
		repository, models = m.unread, m.uncopied
		m.mu.Unlock()
	}
	to <- prometheus.MustNewConstMetric(successDesc, prometheus.GaugeValue, success)
	to <- prometheus.MustNewConstMetric(failuresDesc, prometheus.CounterValue, float64(repository), "repository")
	to <- prometheus.MustNewConstMetric(failuresDesc, prometheus.CounterValue, float64(models), "model")
}
