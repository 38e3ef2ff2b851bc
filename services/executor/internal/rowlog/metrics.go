package rowlog

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/greenlight-ml/greenlight/pkg/featurelog"
)

// RegisterMetrics exports the counts of the log, at zero if it is off.
func (l *Log) RegisterMetrics(reg prometheus.Registerer) {
	f := promauto.With(reg)
	counter := func(name, help string, count func(featurelog.Stats) uint64) {
		f.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return float64(count(l.Stats())) })
	}
	counter("ml_feature_log_rows_total", "Rows of the feature log that are on disk.",
		func(s featurelog.Stats) uint64 { return s.Written })
	counter("ml_feature_log_dropped_total", "Rows of the feature log that were dropped because the disk was too slow or failed.", featurelog.Stats.Lost)
	counter("ml_feature_log_write_errors_total", "Failed writes of feature log files. Their rows are retried.",
		func(s featurelog.Stats) uint64 { return s.WriteErrors })
}
