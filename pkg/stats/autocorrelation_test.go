package stats_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/stats"
)

func TestAutocorrelationAgainstStatsmodels(t *testing.T) {
	for _, c := range vectors[series](t, "testdata/adf.json") {
		t.Run(c.Name, func(t *testing.T) {
			got := stats.Autocorrelation(c.X, len(c.ACF)-1)
			for lag, want := range c.ACF {
				if math.Abs(got[lag]-want) > 1e-12 {
					t.Errorf("lag %d: got %v, want %v", lag, got[lag], want)
				}
			}
		})
	}
}

func TestAutocorrelationUndefined(t *testing.T) {
	for name, x := range map[string][]float64{
		"constant": {.1, .1, .1}, "NaN": {1, math.NaN(), 2}, "infinity": {1, 2, math.Inf(1)}, "nothing": nil,
	} {
		for lag, v := range stats.Autocorrelation(x, 2) {
			if !math.IsNaN(v) {
				t.Errorf("%s: got %v at lag %d, want NaN", name, v, lag)
			}
		}
		if v := stats.EffectiveSize(x); !math.IsNaN(v) {
			t.Errorf("%s: effective size %v, want NaN", name, v)
		}
	}
	if got := stats.Autocorrelation([]float64{1, 2}, 3); got[0] != 1 || got[1] != -.5 || got[2] != 0 || got[3] != 0 {
		t.Errorf("beyond the series: got %v", got)
	}
}

func TestEffectiveSizeAgainstGeyer(t *testing.T) {
	for _, c := range vectors[struct {
		Name string    `json:"name"`
		X    []float64 `json:"x"`
		ESS  float64   `json:"ess"`
	}](t, "testdata/ess.json") {
		t.Run(c.Name, func(t *testing.T) {
			want := min(c.ESS, float64(len(c.X)))
			if got := stats.EffectiveSize(c.X); !near(got, want, 1e-10) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

// A first-order autoregression with coefficient phi has n (1 - phi) / (1 + phi) effective values.
func TestEffectiveSizeOfAutoregression(t *testing.T) {
	for _, phi := range []float64{0, 0.5, 0.9, 0.98} {
		rng := rand.New(rand.NewPCG(3, 0))
		x := make([]float64, 100_000)
		for i := 1; i < len(x); i++ {
			x[i] = phi*x[i-1] + rng.NormFloat64()
		}
		want := float64(len(x)) * (1 - phi) / (1 + phi)
		if got := stats.EffectiveSize(x); !near(got, want, 0.15) {
			t.Errorf("phi %v: got %v, want about %v", phi, got, want)
		}
	}
}
