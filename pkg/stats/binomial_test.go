package stats_test

import (
	"math"
	"math/big"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/stats"
)

// Against the sum of the binomial's terms, each exact in its coefficient.
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
