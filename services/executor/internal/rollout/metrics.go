package rollout

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/greenlight-ml/greenlight/pkg/telemetry"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

var (
	percentDesc = prometheus.NewDesc("ml_rollout_percent",
		"Share of the requests that get a shadow, in percent.", nil, nil)
	modeDesc = prometheus.NewDesc("ml_rollout_mode",
		"1 for the mode of the rollout, 0 for the others.", []string{"mode"}, nil)
	leaseDesc = prometheus.NewDesc("ml_rollout_lease_seconds",
		"How long the rollout is held unless it is renewed, in seconds; 0 without a lease.", nil, nil)
	infoDesc = prometheus.NewDesc("ml_executor_info",
		"1, with the random id of this process: the same id scraped twice is one executor.", []string{"instance_id"}, nil)
	writeErrorsDesc = prometheus.NewDesc("ml_rollout_state_write_errors_total",
		"Times that the rollout could not be saved.", nil, nil)
)

// modes are those that there are.
var modes = []executorv1.RolloutMode{executorv1.RolloutMode_ROLLOUT_MODE_OFF, executorv1.RolloutMode_ROLLOUT_MODE_OBSERVE_ONLY}

// Describe implements prometheus.Collector.
func (k *Keeper) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{percentDesc, modeDesc, leaseDesc, infoDesc, writeErrorsDesc} {
		to <- d
	}
}

// Collect implements prometheus.Collector: what is in force when it is asked.
func (k *Keeper) Collect(to chan<- prometheus.Metric) {
	now := time.Now()
	r := k.current(now)
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(percentDesc, r.Percent)
	gauge(infoDesc, 1, k.instance)
	for _, m := range modes {
		gauge(modeDesc, telemetry.Bool(r.Mode == m), modeWord(m))
	}
	gauge(leaseDesc, r.left(now).Seconds())
	to <- prometheus.MustNewConstMetric(writeErrorsDesc, prometheus.CounterValue, float64(k.writeErrors.Load()))
}
