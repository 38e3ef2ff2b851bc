package outcome

import (
	"math"

	"github.com/prometheus/client_golang/prometheus"

	quality "github.com/greenlight-ml/greenlight/pkg/outcome"
	"github.com/greenlight-ml/greenlight/pkg/telemetry"
)

var (
	verdictDesc = prometheus.NewDesc("ml_quality_verdict",
		"1 for the verdict on the quality of the model under the plan, 0 for the others. All are 0 without a plan, and if another program judges.",
		[]string{"verdict"}, nil)
	boundDesc = prometheus.NewDesc("ml_quality_bound",
		"Bound of the mean difference of the Brier losses; above 0 the model is better. NaN without a verdict.", []string{"side"}, nil)
	labelsDesc = prometheus.NewDesc("ml_quality_labels_total",
		"Sampled requests by the state of their label. Together with ml_quality_pending_rows and ml_quality_lost_total they add up to all sampled requests.", []string{"label"}, nil)
	pendingDesc = prometheus.NewDesc("ml_quality_pending_rows",
		"Sampled requests that wait for their label.", nil, nil)
	lostDesc = prometheus.NewDesc("ml_quality_lost_total",
		"Sampled requests whose row was lost in a kill or an overload.", nil, nil)
	coverageDesc = prometheus.NewDesc("ml_quality_coverage",
		"Share of the sampled requests with a due label that have it, for the current model and plan, in [0,1]. NaN if none is due.", nil, nil)
	daysDesc = prometheus.NewDesc("ml_quality_days_needed",
		"Days that a PASS still needs at the difference so far; +Inf if it would never pass, NaN without a verdict.", nil, nil)
	writeErrorsDesc = prometheus.NewDesc("ml_quality_state_write_errors_total",
		"Failed writes of labels and records to the state folder.", nil, nil)
)

// Describe implements prometheus.Collector.
func (k *Keeper) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{verdictDesc, boundDesc, labelsDesc, pendingDesc, lostDesc, coverageDesc, daysDesc, writeErrorsDesc} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (k *Keeper) Collect(to chan<- prometheus.Metric) {
	labels, lost := k.Counts()
	k.mu.Lock()
	v := k.judged
	now, lostNow := k.joins[k.current].Counts()
	k.mu.Unlock()
	s := telemetry.Sink(to)
	lower, upper, days := math.NaN(), math.NaN(), math.NaN()
	if v != nil {
		lower, upper, days = v.Lower, v.Upper, math.Inf(1)
		if v.DaysNeeded != nil {
			days = *v.DaysNeeded
		}
	}
	for _, verdict := range quality.Verdicts() {
		s.Gauge(verdictDesc, telemetry.Bool(v != nil && v.Verdict == verdict), string(verdict))
	}
	s.Gauge(boundDesc, lower, "lower")
	s.Gauge(boundDesc, upper, "upper")
	s.Gauge(daysDesc, days)
	for _, l := range quality.Labels() {
		if l != quality.Pending {
			s.Counter(labelsDesc, labels[l], l.String())
		}
	}
	s.Gauge(pendingDesc, float64(labels[quality.Pending]))
	s.Counter(lostDesc, lost)
	share, ok := coverage(&now, lostNow)
	if !ok {
		share = math.NaN()
	}
	s.Gauge(coverageDesc, share)
	s.Counter(writeErrorsDesc, k.writeErrors.Load())
}
