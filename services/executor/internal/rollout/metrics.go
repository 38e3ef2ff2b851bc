package rollout

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/greenlight-ml/greenlight/pkg/telemetry"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

var (
	percentDesc = prometheus.NewDesc("ml_rollout_percent",
		"Percentage of the requests that get a shadow, in [0,100]; in mode GATED the gate's observe_percent.", nil, nil)
	gateDesc = prometheus.NewDesc("ml_gate_percent",
		"Percentage of the requests that the model may decide, in [0,100], before the list of symbols; 0 unless the mode is GATED.", nil, nil)
	modeDesc = prometheus.NewDesc("ml_rollout_mode",
		"1 for the current mode of the rollout, 0 for the others.", []string{"mode"}, nil)
	leaseDesc = prometheus.NewDesc("ml_rollout_lease_seconds",
		"Remaining time of the rollout's lease, in seconds; 0 without a lease.", nil, nil)
	infoDesc = prometheus.NewDesc("ml_executor_info",
		"Always 1, with the random id of this process: two scrapes with the same id come from one executor.", []string{"instance_id"}, nil)
	writeErrorsDesc = prometheus.NewDesc("ml_rollout_state_write_errors_total",
		"Failed writes of the rollout to the state folder.", nil, nil)
)

// modes are all modes.
var modes = []executorv1.RolloutMode{off, observe, gated}

// Describe implements prometheus.Collector.
func (k *Keeper) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{percentDesc, gateDesc, modeDesc, leaseDesc, infoDesc, writeErrorsDesc} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (k *Keeper) Collect(to chan<- prometheus.Metric) {
	now := time.Now()
	r := k.current(now)
	s := telemetry.Sink(to)
	s.Gauge(percentDesc, r.Percent)
	s.Gauge(gateDesc, r.Decides)
	s.Gauge(infoDesc, 1, k.instance)
	for _, m := range modes {
		s.Gauge(modeDesc, telemetry.Bool(r.Mode == m), modeWord(m))
	}
	s.Gauge(leaseDesc, r.left(now).Seconds())
	s.Counter(writeErrorsDesc, k.writeErrors.Load())
}
