package page

import (
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func TestGather(t *testing.T) {
	reg := prometheus.NewRegistry()
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: baselineLatency, Help: "Latency.", Buckets: []float64{1, 2}})
	other := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "other_ms", Help: "Something else.", Buckets: []float64{1}})
	reg.MustRegister(h, other)
	for _, v := range []float64{.5, 1, 1.5, 3, 4, 5} {
		h.Observe(v)
	}
	named, err := gather(reg)
	if err != nil || len(named) != 1 {
		t.Fatalf("got %v, %v; want only %s", named, err, baselineLatency)
	}
	got := named[baselineLatency]
	if !slices.Equal(got.Edges, []float64{1, 2}) || !slices.Equal(got.Counts, []uint64{2, 1, 3}) || got.N != 6 {
		t.Errorf("got %+v, want 2, 1 and 3 of 6", got)
	}
	for edge, want := range map[float64]uint64{.5: 0, 1: 2, 2: 3, 100: 3} {
		if n := got.within(edge); n != want {
			t.Errorf("within %v: got %d, want %d", edge, n, want)
		}
	}
}
