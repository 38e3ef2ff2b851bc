package stats

import "math"

// Quantile is the q-quantile, q in [0,1], of values in ascending order, without NaN: linear interpolation between the
// order statistics at (n-1)q (type 7 of Hyndman and Fan, the default of R and numpy). NaN without values.
//
// R. J. Hyndman, Y. Fan (1996), "Sample Quantiles in Statistical Packages", The American Statistician 50.
func Quantile(ascending []float64, q float64) float64 {
	n := len(ascending)
	if n == 0 || math.IsNaN(q) {
		return math.NaN()
	}
	h := max(0, min(1, q)) * float64(n-1)
	i := int(h)
	if i >= n-1 {
		return ascending[n-1]
	}
	low, high := ascending[i], ascending[i+1]
	return low + float64((h-float64(i))*(high-low))
}
