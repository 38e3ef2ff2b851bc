package stats

import (
	"fmt"
	"math"
)

// Correlation is the matrix of Pearson's correlations of columns of one length: symmetric, 1 on the diagonal, within
// [-1,1]. A pair with a column that is constant, or that has a NaN or an infinity, is NaN, its diagonal too. It panics
// when the lengths differ.
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

// centred is x less its mean; all 0 when x is constant, whatever the rounding of its mean.
func centred(x []float64) []float64 {
	c := make([]float64, len(x))
	if len(x) == 0 {
		return c
	}
	// The mean is of what exceeds the first value: that of a constant is then exact.
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
