package page

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// Gatherer is the source of the metrics on the page.
type Gatherer = prometheus.Gatherer

// The histograms on the page.
const (
	baselineLatency = "ml_baseline_latency_ms"
	shadowLatency   = "ml_shadow_latency_ms"
	absDelta        = "ml_shadow_abs_delta"
	gateWait        = "ml_gate_wait_ms"
)

// gather reads the histograms since the start of the process.
func gather(metrics prometheus.Gatherer) (map[string]Histogram, error) {
	families, err := metrics.Gather()
	if err != nil && len(families) == 0 {
		return nil, fmt.Errorf("gather the metrics: %w", err)
	}
	found := map[string]Histogram{}
	for _, f := range families {
		switch f.GetName() {
		case baselineLatency, shadowLatency, absDelta, gateWait:
		default:
			continue
		}
		m := f.GetMetric()[0].GetHistogram()
		h := Histogram{N: m.GetSampleCount()}
		below := uint64(0)
		for _, b := range m.GetBucket() {
			h.Edges = append(h.Edges, b.GetUpperBound())
			h.Counts = append(h.Counts, b.GetCumulativeCount()-below)
			below = b.GetCumulativeCount()
		}
		h.Counts = append(h.Counts, h.N-below)
		found[f.GetName()] = h
	}
	return found, nil
}
