// Package stats holds the statistics that the programs share: order statistics, ranks, intervals.
package stats

import "math"

// Z95 is the two-sided 95 % normal quantile.
const Z95 = 1.959963984540054

// Wilson returns the score interval of a binomial proportion, [low, high] within [0,1], for k successes in n trials
// at the normal quantile z. Without trials nothing is known: [0,1].
//
// E. B. Wilson (1927), "Probable inference, the law of succession, and statistical inference", JASA 22.
func Wilson(k, n uint64, z float64) (low, high float64) {
	if n == 0 {
		return 0, 1
	}
	nf := float64(n)
	p := float64(k) / nf
	z2 := z * z
	centre := p + z2/(2*nf)
	spread := z * math.Sqrt(p*(1-p)/nf+z2/(4*nf*nf))
	low, high = (centre-spread)/(1+z2/nf), (centre+spread)/(1+z2/nf)
	// Exactly 0 and 1 at the ends; rounding would leave 1e-19, which reads as "0.00 %" where "0.0 %" is meant.
	if k == 0 {
		low = 0
	}
	if k >= n {
		high = 1
	}
	return max(0, low), min(1, high)
}

// NormalQuantile returns z with P(Z <= z) = p for a standard normal Z, p in (0,1).
func NormalQuantile(p float64) float64 { return math.Sqrt2 * math.Erfinv(2*p-1) }
