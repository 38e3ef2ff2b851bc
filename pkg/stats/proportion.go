// Package stats holds statistics that the programs share: quantiles, correlations, intervals and tests.
package stats

import (
	"math"

	"gonum.org/v1/gonum/mathext"
)

// Z95 is the two-sided 95 % normal quantile.
const Z95 = 1.959963984540054

// Wilson returns the score interval of a binomial proportion, [low, high] within [0,1], for k successes in n trials at
// the normal quantile z. Without trials it is [0,1].
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
	// The ends are exactly 0 and 1; rounding would leave 1e-19, which prints as "0.00 %" instead of "0.0 %".
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

// BinomialAtLeast returns the probability of k or more successes in n independent trials with rate p, in (0,1). It is
// the p-value of the exact one-sided test of "the rate is at most p". It is 1 for k = 0 and 0 for k > n.
func BinomialAtLeast(k, n uint64, p float64) float64 {
	switch {
	case k == 0:
		return 1
	case k > n:
		return 0
	}
	// Abramowitz and Stegun (1964), 26.5.24.
	return mathext.RegIncBeta(float64(k), float64(n-k+1), p)
}
