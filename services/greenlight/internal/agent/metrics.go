package agent

import (
	"math"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/greenlight-ml/greenlight/pkg/outcome"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/report"
)

// Metrics are the metrics of an agent.
type Metrics struct {
	writeErrors   prometheus.Counter
	lastSuccess   *prometheus.GaugeVec
	criticalHours prometheus.Gauge
	missing       prometheus.Gauge
	verdict       *prometheus.GaugeVec
	bound         *prometheus.GaugeVec
	daysNeeded    prometheus.Gauge
	alarm         prometheus.Gauge
	pending       prometheus.Gauge
}

// NewMetrics registers the metrics.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	auto := promauto.With(reg)
	gauge := func(name, help string) prometheus.Gauge {
		return auto.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	vec := func(name, label, help string) *prometheus.GaugeVec {
		return auto.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, []string{label})
	}
	m := &Metrics{
		writeErrors: auto.NewCounter(prometheus.CounterOpts{
			Name: "ml_evidence_write_errors_total", Help: "Failed writes of evidence or of the agent's journal.",
		}),
		lastSuccess:   vec("ml_agent_last_success_timestamp_seconds", "job_name", "Time of the job's last successful write, in Unix seconds."),
		criticalHours: gauge("ml_agent_psi_critical_hours", "Consecutive hours with an overall PSI above 0.3 and above its null quantile."),
		missing:       gauge("ml_agent_missing_services", "Services that did not answer in the last sample."),
		verdict:       vec("ml_quality_verdict", "verdict", "1 for the current verdict on the model's quality, from the records of all executors; 0 for the others. All are 0 without a plan."),
		bound:         vec("ml_quality_bound", "side", "Bound of the mean difference in Brier loss, from the records of all executors. Above 0 the model is better. NaN without a verdict."),
		daysNeeded:    gauge("ml_quality_days_needed", "Days until a PASS if the difference so far continues, from the records of all executors. +Inf if it would never pass, NaN without a verdict."),
		alarm:         gauge("ml_quality_alarm", "1 if the promoted model has become worse than its margin allows since its promotion. The test raises about one false alarm a year."),
		pending:       gauge("ml_gate_alarms_pending", "Active alarms that could not be raised at an executor, which may have a gate for the model."),
	}
	m.quality(nil)
	return m
}

// quality exports a verdict on live quality; nil means no verdict.
func (m *Metrics) quality(q *report.Quality) {
	for _, v := range outcome.Verdicts() {
		m.verdict.WithLabelValues(string(v)).Set(0)
	}
	m.alarm.Set(0)
	lower, upper, days := math.NaN(), math.NaN(), math.NaN()
	defer func() {
		m.bound.WithLabelValues("lower").Set(lower)
		m.bound.WithLabelValues("upper").Set(upper)
		m.daysNeeded.Set(days)
	}()
	if q == nil {
		return
	}
	m.verdict.WithLabelValues(string(q.Verdict)).Set(1)
	if q.Verdict != outcome.Error {
		lower, upper, days = q.Lower, q.Upper, math.Inf(1)
		if q.DaysNeeded != nil {
			days = *q.DaysNeeded
		}
	}
	if q.Alarmed() {
		m.alarm.Set(1)
	}
}

func (m *Metrics) succeeded(job string, now time.Time) {
	m.lastSuccess.WithLabelValues(job).Set(float64(now.UnixMilli()) / 1000)
}
