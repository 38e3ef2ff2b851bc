package member

import (
	"math"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/greenlight-ml/greenlight/pkg/group"
	"github.com/greenlight-ml/greenlight/pkg/telemetry"
)

var (
	connectedDesc = prometheus.NewDesc("ml_fleet_connected",
		"1 if the last read of the group's record was answered, 0 otherwise. The label group is empty without --fleet; all ml_fleet_* are then 0.", []string{"group"}, nil)
	revisionDesc = prometheus.NewDesc("ml_fleet_record_revision",
		"Highest revision of the group's record that this executor has seen; 0 before the first.", nil, nil)
	renewalAgeDesc = prometheus.NewDesc("ml_fleet_renewal_age_seconds",
		"Time since the newest record or renewal was first seen, in seconds; NaN before the first.", nil, nil)
	refusedDesc = prometheus.NewDesc("ml_fleet_refused_total",
		"Messages of the group that this executor has refused, by reason.", []string{"reason"}, nil)
	waitingDesc = prometheus.NewDesc("ml_fleet_blocks_waiting",
		"Closed blocks of quality records that wait to be published.", nil, nil)
)

// Describe implements prometheus.Collector.
func (h *Member) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{connectedDesc, revisionDesc, renewalAgeDesc, refusedDesc, waitingDesc} {
		to <- d
	}
}

// Collect implements prometheus.Collector. A nil Member is an executor without a group, so that its series exist.
func (h *Member) Collect(to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	refused := func(r group.Reason, n uint64) {
		to <- prometheus.MustNewConstMetric(refusedDesc, prometheus.CounterValue, float64(n), string(r))
	}
	if h == nil {
		gauge(connectedDesc, 0, "")
		for _, d := range []*prometheus.Desc{revisionDesc, renewalAgeDesc, waitingDesc} {
			gauge(d, 0)
		}
		for _, r := range group.Reasons() {
			refused(r, 0)
		}
		return
	}
	h.mu.Lock()
	connected, revision, waiting, age := h.absent == nil, h.follower.State().Revision, h.waiting, math.NaN()
	if !h.renewed.IsZero() {
		age = time.Since(h.renewed).Seconds()
	}
	h.mu.Unlock()
	gauge(connectedDesc, telemetry.Bool(connected), h.opts.Group)
	gauge(revisionDesc, float64(revision))
	gauge(renewalAgeDesc, age)
	gauge(waitingDesc, float64(waiting))
	for _, r := range group.Reasons() {
		refused(r, h.refused[r].Load())
	}
}
