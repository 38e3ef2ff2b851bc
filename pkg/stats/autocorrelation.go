package stats

// Autocorrelation returns the autocorrelation of an evenly spaced series at lags 0 to most: sums of products over n -
// lag pairs, divided by the sum over n squares (the biased estimator, the default of R and statsmodels). The first is
// 1. Lags of n or more are 0. All are NaN if the series is constant or contains NaN or an infinity.
//
// G. E. P. Box, G. M. Jenkins (1976), "Time Series Analysis", 2.1.5.
func Autocorrelation(x []float64, most int) []float64 {
	c := centred(x)
	rho := make([]float64, most+1)
	variance := autocovariance(c, 0)
	for lag := range rho {
		rho[lag] = autocovariance(c, lag) / variance
	}
	return rho
}

// autocovariance returns n times the autocovariance of centred values.
func autocovariance(c []float64, lag int) float64 {
	if lag >= len(c) {
		return 0
	}
	return dot(c[:len(c)-lag], c[lag:])
}

// EffectiveSize returns how many independent values have a mean as uncertain as that of the series: n / (1 + 2 sum of
// its autocorrelations). The sum is Geyer's initial monotone sequence, which ends where pairs of autocorrelations are
// noise. It is at most n, even where negative correlation makes the mean more certain. Its cost grows with n times the
// correlation length. It is NaN if the series is empty, constant, or contains NaN or an infinity.
//
// C. J. Geyer (1992), "Practical Markov chain Monte Carlo", Statistical Science 7, section 3.3.
func EffectiveSize(x []float64) float64 {
	n := float64(len(x))
	c := centred(x)
	variance := autocovariance(c, 0)
	pairs, last := 0.0, variance+autocovariance(c, 1)
	for lag := 0; lag < len(c); lag += 2 {
		pair := autocovariance(c, lag) + autocovariance(c, lag+1)
		if !(pair > 0) { // also true for NaN
			break
		}
		last = min(last, pair)
		pairs += last
	}
	// The sum covers both sides of lag 0, which is in the pairs once.
	return n / max(1, (2*pairs-variance)/variance)
}
