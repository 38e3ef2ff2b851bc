package drift_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/drift"
)

func same(got, want float64) bool { return math.Abs(got-want) <= 1e-12*max(1, math.Abs(want)) }

func TestPSI(t *testing.T) {
	tests := []struct {
		name    string
		p, q    []float64
		want    float64
		byWords drift.Status
	}{
		// -0.25 ln 0.5 + 0.25 ln 1.5
		{"half to a quarter", []float64{.5, .5}, []float64{.25, .75}, 0.25 * math.Log(3), drift.Warning},
		// 0.1 ln 1.5 - 0.1 ln 0.8
		{"a tenth moves", []float64{.2, .3, .5}, []float64{.3, .3, .4}, 0.1 * math.Log(1.875), drift.Stable},
		// 0.15 ln 1.75 - 0.15 ln 0.8125
		{"more moves", []float64{.2, .8}, []float64{.35, .65}, 0.15 * (math.Log(1.75) - math.Log(0.8125)), drift.Moderate},
		// Both bins meet the floor, and 1 stays 1: 2 (1 - 0.0001) ln 10^4
		{"from one bin to another", []float64{1, 0}, []float64{0, 1}, 2 * 0.9999 * math.Log(1e4), drift.Critical},
		{"empty in both", []float64{1, 0, 0}, []float64{1, 0, 0}, 0, drift.Stable},
		{"less than the floor in both", []float64{1, .00001}, []float64{1, .00009}, 0, drift.Stable},
		{"no bins", nil, nil, 0, drift.Stable},
		{"no rows", []float64{1}, []float64{math.NaN()}, math.NaN(), drift.Critical},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := drift.PSI(tt.p, tt.q)
			if !same(got, tt.want) && !(math.IsNaN(got) && math.IsNaN(tt.want)) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
			if back := drift.PSI(tt.q, tt.p); !same(back, got) && !math.IsNaN(got) {
				t.Errorf("exchanged: got %v, want %v", back, got)
			}
			if got := drift.StatusOf(got); got != tt.byWords {
				t.Errorf("status: got %s, want %s", got, tt.byWords)
			}
		})
	}
	defer func() {
		if recover() == nil {
			t.Error("shares of different bins: no panic")
		}
	}()
	drift.PSI([]float64{1}, nil)
}

func TestPSIIsNotNegative(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 0))
	for range 1000 {
		p, q := histogram(rng), histogram(rng)
		if psi := drift.PSI(p, q); !(psi >= 0) {
			t.Fatalf("%v against %v: %v", p, q, psi)
		}
		if psi := drift.PSI(p, p); psi != 0 {
			t.Fatalf("%v against itself: %v", p, psi)
		}
	}
}

// histogram returns shares of ten bins, some of which are empty.
func histogram(rng *rand.Rand) []float64 {
	h := make([]float64, 10)
	sum := 0.0
	for i := range h {
		h[i] = max(0, rng.Float64()-0.2)
		sum += h[i]
	}
	for i := range h {
		h[i] /= sum
	}
	return h
}
