package gate_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/telemetry"
)

// The quantile is in the bucket of the true one, on the correct side of every edge, and exact for values spread evenly
// within buckets.
func TestHistogramQuantile(t *testing.T) {
	edges := []float64{1, 60, 80, 120}
	rng := rand.New(rand.NewPCG(2, 0))
	for range 500 {
		values := make([]float64, 1+rng.IntN(400))
		counts := make([]uint64, len(edges)+1)
		for i := range values {
			values[i] = 130 * rng.Float64() * rng.Float64()
			bucket, _ := slices.BinarySearch(edges, values[i])
			counts[bucket]++
		}
		slices.Sort(values)
		rank := int(math.Ceil(0.95*float64(len(values)))) - 1
		got, want := gate.HistogramQuantile(0.95, edges, counts), values[rank]
		for _, e := range edges {
			if (got > e) != (want > e) && want <= 120 {
				t.Fatalf("got %v, the true one is %v, on the other side of %v", got, want, e)
			}
		}
	}
	if got := gate.HistogramQuantile(0.95, edges, []uint64{0, 0, 100, 0, 0}); got != 79 {
		t.Errorf("even between 60 and 80: got %v, want 79", got)
	}
	if got := gate.HistogramQuantile(0.95, edges, []uint64{0, 0, 0, 0, 7}); got != 120 {
		t.Errorf("above the last edge: got %v, want 120", got)
	}
	for name, counts := range map[string][]uint64{"nothing": make([]uint64, 5), "a bucket too few": {1, 2, 3, 4}} {
		if got := gate.HistogramQuantile(0.95, edges, counts); !math.IsNaN(got) {
			t.Errorf("%s: got %v, want NaN", name, got)
		}
	}
	if got := gate.HistogramQuantile(0.95, nil, []uint64{3}); !math.IsNaN(got) {
		t.Errorf("no edges: got %v, want NaN", got)
	}
}

// At every limit, with the services' buckets: if 95 of 100 are within the limit, the quantile is at the limit, which no
// "below" passes and no "above" aborts. With one fewer it is above the limit.
func TestHistogramQuantileAtTheLimits(t *testing.T) {
	edges := telemetry.LatencyBucketsMS
	for _, promise := range []float64{60, 80, 120} {
		i := slices.Index(edges, promise)
		if i < 0 {
			t.Fatalf("%v ms is not an edge", promise)
		}
		for _, hundreds := range []uint64{1, 7, 1_000_000_000} {
			counts := make([]uint64, len(edges)+1)
			counts[i], counts[i+1] = 95*hundreds, 5*hundreds
			if got := gate.HistogramQuantile(0.95, edges, counts); got != promise {
				t.Errorf("95 %% within %v: got %v", promise, got)
			}
			counts[i], counts[i+1] = 95*hundreds-1, 5*hundreds+1
			if got := gate.HistogramQuantile(0.95, edges, counts); !(got > promise) {
				t.Errorf("less than 95 %% within %v: got %v", promise, got)
			}
			counts[i], counts[i+1] = 95*hundreds+1, 5*hundreds-1
			if got := gate.HistogramQuantile(0.95, edges, counts); !(got < promise) {
				t.Errorf("more than 95 %% within %v: got %v", promise, got)
			}
		}
	}
}
