package stats

import "math"

// dickeyFullerP approximates the p-value of the Dickey-Fuller statistic with a constant: the normal CDF of a polynomial.
//
// J. G. MacKinnon (1994), "Approximate asymptotic distribution functions for unit-root and cointegration tests", JBES
// 12, tables 3 and 4, with the coefficients as statsmodels prints them.
func dickeyFullerP(t float64) float64 {
	switch {
	case t > 2.74:
		return 1
	case t < -18.83:
		return 0
	case t <= -1.61:
		return normalCDF(polynomial(t, 2.1659, 1.4412, 3.8269e-2))
	default:
		return normalCDF(polynomial(t, 1.7339, 9.3202e-1, -1.2745e-1, -1.0368e-2))
	}
}

// dickeyFullerCritical returns the critical values with a constant for n observations.
//
// J. G. MacKinnon (2010), "Critical values for cointegration tests", Queen's University working paper 1227, table 2.
func dickeyFullerCritical(n int) Critical {
	u := 1 / float64(n)
	return Critical{
		OnePercent:  polynomial(u, -3.43035, -6.5393, -16.786, -79.433),
		FivePercent: polynomial(u, -2.86154, -2.8903, -4.234, -40.040),
		TenPercent:  polynomial(u, -2.56677, -1.5384, -2.809),
	}
}

// polynomial returns c[0] + c[1] x + c[2] x^2 + ...
func polynomial(x float64, c ...float64) float64 {
	sum := 0.0
	for i := len(c) - 1; i >= 0; i-- {
		sum = float64(sum*x) + c[i]
	}
	return sum
}

// normalCDF returns P(Z <= z) for a standard normal Z, exact in the lower tail too.
func normalCDF(z float64) float64 { return math.Erfc(-z/math.Sqrt2) / 2 }
