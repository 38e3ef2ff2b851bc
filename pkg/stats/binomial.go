package stats

import "gonum.org/v1/gonum/mathext"

// BinomialAtLeast is the chance of k or more successes in n independent trials of rate p, in (0,1): the p-value of the
// exact one-sided test of "the rate is at most p". It is 1 for k = 0 and 0 for k > n.
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
