package gate

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/greenlight-ml/greenlight/pkg/decide"
	"github.com/greenlight-ml/greenlight/pkg/telemetry"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

var (
	decisionsDesc = prometheus.NewDesc("ml_decisions_total",
		"Decisions by who decided, and why the baseline did; the reason is none if the model decided. They add up to the requests.", []string{"decided_by", "reason"}, nil)
	latchDesc = prometheus.NewDesc("ml_gate_latch",
		"1 for each latch that keeps the gate shut until a person clears it, 0 for the others.", []string{"latch"}, nil)
	openDesc = prometheus.NewDesc("ml_gate_open",
		"1 if the model may decide now, otherwise 0.", nil, nil)
	hourRequestsDesc = prometheus.NewDesc("ml_gate_hour_requests",
		"Requests of the last hour; 0 without --allow-gated.", nil, nil)
	hourChangedDesc = prometheus.NewDesc("ml_gate_hour_changed",
		"Requests of the last hour that the model has changed by more than 0.05.", nil, nil)
	hourLimitDesc = prometheus.NewDesc("ml_gate_hour_changed_limit",
		"Limit on the requests of the last hour that the model may change by more than 0.05; 0 without a gate.", nil, nil)
	writeErrorsDesc = prometheus.NewDesc("ml_gate_state_write_errors_total",
		"Failed writes of the state of the gate to the state folder.", nil, nil)
)

// metrics are the counts of a keeper.
type metrics struct {
	// decisions are counted by reason; the model's have [decide.None].
	decisions   []atomic.Uint64
	writeErrors atomic.Uint64
	wait        prometheus.Histogram
}

func newMetrics() *metrics {
	return &metrics{
		decisions: make([]atomic.Uint64, 1+len(decide.Reasons())),
		wait: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "ml_gate_wait_ms",
			Help:    "Time from the arrival of a request that waits for the model to its decision, in milliseconds.",
			Buckets: telemetry.LatencyBucketsMS,
		}),
	}
}

func (m *metrics) count(r decide.Reason) { m.decisions[r].Add(1) }

// Describe implements prometheus.Collector.
func (k *Keeper) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{decisionsDesc, latchDesc, openDesc, hourRequestsDesc, hourChangedDesc, hourLimitDesc, writeErrorsDesc} {
		to <- d
	}
	k.metrics.wait.Describe(to)
}

// Collect implements prometheus.Collector.
func (k *Keeper) Collect(to chan<- prometheus.Metric) {
	s := telemetry.Sink(to)
	s.Counter(decisionsDesc, k.metrics.decisions[decide.None].Load(), "model", "none")
	for _, r := range decide.Reasons() {
		s.Counter(decisionsDesc, k.metrics.decisions[r].Load(), "baseline", r.String())
	}
	s.Counter(writeErrorsDesc, k.metrics.writeErrors.Load())
	for which, l := range k.latched.Load() {
		if which > 0 {
			s.Gauge(latchDesc, telemetry.Bool(l != nil), word(executorv1.GateLatch(which)))
		}
	}
	at := time.Now()
	standing, sum := k.standing(at), k.budget.now(at)
	s.Gauge(openDesc, telemetry.Bool(k.open(&standing)))
	s.Gauge(hourRequestsDesc, float64(sum.Requests))
	s.Gauge(hourChangedDesc, float64(sum.Changed))
	s.Gauge(hourLimitDesc, float64(k.limit(&standing, sum.Requests)))
	k.metrics.wait.Collect(to)
}
