package stats_test

import (
	"math"
	"math/big"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/stats"
)

func TestWilson(t *testing.T) {
	tests := []struct {
		name      string
		k, n      uint64
		z         float64
		low, high float64
	}{
		// Newcombe (1998), "Two-sided confidence intervals for the single proportion", table I, method 3.
		{"81 of 263", 81, 263, stats.Z95, 0.2553, 0.3662},
		{"15 of 148", 15, 148, stats.Z95, 0.0624, 0.1605},
		{"0 of 20", 0, 20, stats.Z95, 0, 0.1611},
		{"1 of 29", 1, 29, stats.Z95, 0.0061, 0.1718},
		{"29 of 29", 29, 29, stats.Z95, 0.8830, 1},
		{"no trials", 0, 0, stats.Z95, 0, 1},
		{"no width", 3, 10, 0, 0.3, 0.3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			low, high := stats.Wilson(tt.k, tt.n, tt.z)
			if math.Abs(low-tt.low) > 6e-5 || math.Abs(high-tt.high) > 6e-5 {
				t.Errorf("got [%.4f,%.4f], want [%.4f,%.4f]", low, high, tt.low, tt.high)
			}
		})
	}
}

// Every interval contains the proportion, lies in [0,1], and mirrors the interval of the failures.
func TestWilsonProperties(t *testing.T) {
	for n := uint64(1); n <= 60; n++ {
		for k := range n + 1 {
			low, high := stats.Wilson(k, n, stats.Z95)
			p := float64(k) / float64(n)
			if low < 0 || high > 1 || low > p+1e-12 || high < p-1e-12 {
				t.Errorf("%d of %d: [%v,%v]", k, n, low, high)
			}
			if (low == 0) != (k == 0) || (high == 1) != (k == n) {
				t.Errorf("%d of %d: [%v,%v] is not exact at its end", k, n, low, high)
			}
			mirrorLow, mirrorHigh := stats.Wilson(n-k, n, stats.Z95)
			if math.Abs(low-(1-mirrorHigh)) > 1e-12 || math.Abs(high-(1-mirrorLow)) > 1e-12 {
				t.Errorf("%d of %d: [%v,%v], mirror [%v,%v]", k, n, low, high, mirrorLow, mirrorHigh)
			}
		}
	}
}

// Compares with the sum of the binomial's terms, whose coefficients are exact.
func TestBinomialAtLeast(t *testing.T) {
	for _, n := range []int64{1, 2, 17, 50, 400} {
		for _, p := range []float64{0.02, 0.05, 0.5, 0.9} {
			tail := 0.0
			for k := n; k >= 0; k-- {
				ways, _ := new(big.Float).SetInt(new(big.Int).Binomial(n, k)).Float64()
				tail += ways * math.Pow(p, float64(k)) * math.Pow(1-p, float64(n-k))
				if got := stats.BinomialAtLeast(uint64(k), uint64(n), p); math.Abs(got-tail) > 1e-11 {
					t.Errorf("%d of %d at %v: got %v, want %v", k, n, p, got, tail)
				}
			}
		}
	}
	if got := stats.BinomialAtLeast(3, 2, 0.5); got != 0 {
		t.Errorf("3 of 2: got %v, want 0", got)
	}
}

func TestNormalQuantile(t *testing.T) {
	tests := []struct {
		name    string
		p, want float64
	}{
		{"median", 0.5, 0},
		{"two-sided 95 %", 0.975, stats.Z95},
		{"the other side", 0.025, -stats.Z95},
		{"99 %", 0.99, 2.3263478740408408},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := stats.NormalQuantile(tt.p); math.Abs(got-tt.want) > 1e-12 {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}
