package stats

import (
	"fmt"
	"math"
)

// Correlation returns the matrix of Pearson correlations of columns of equal length: symmetric, 1 on the diagonal,
// within [-1,1]. If a column is constant or contains NaN or an infinity, its entries are NaN, including the diagonal.
// It panics if the lengths differ.
func Correlation(columns ...[]float64) [][]float64 {
	unit := make([][]float64, len(columns))
	for j, c := range columns {
		if len(c) != len(columns[0]) {
			panic(fmt.Sprintf("stats: columns of %d and %d values", len(columns[0]), len(c)))
		}
		unit[j] = centred(c)
		norm := math.Sqrt(dot(unit[j], unit[j]))
		for i := range unit[j] {
			unit[j][i] /= norm
		}
	}
	r := make([][]float64, len(columns))
	for j := range r {
		r[j] = make([]float64, len(columns))
		for k := range j + 1 {
			v := max(-1, min(1, dot(unit[j], unit[k]))) // NaN stays NaN
			switch {
			case len(unit[j]) == 0:
				v = math.NaN()
			case j == k && !math.IsNaN(v):
				v = 1
			}
			r[j][k], r[k][j] = v, v
		}
	}
	return r
}

// centred returns x minus its mean; all 0 if x is constant, whatever the rounding of the mean.
func centred(x []float64) []float64 {
	c := make([]float64, len(x))
	if len(x) == 0 {
		return c
	}
	// Averages the differences from the first value, so that the mean of a constant is exact.
	mean := 0.0
	for _, v := range x {
		mean += v - x[0]
	}
	mean /= float64(len(x))
	for i, v := range x {
		c[i] = v - x[0] - mean
	}
	return c
}

func dot(a, b []float64) float64 {
	sum := 0.0
	for i, v := range a {
		sum += float64(v * b[i])
	}
	return sum
}

// Quantile returns the q-quantile, q in [0,1], of values in ascending order without NaN. It interpolates linearly
// between the order statistics at (n-1)q (type 7 of Hyndman and Fan, the default of R and numpy). NaN without values.
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
