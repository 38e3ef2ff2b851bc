package stats

import (
	"errors"
	"fmt"
	"math"

	"gonum.org/v1/gonum/mat"
)

// ADF is the result of an augmented Dickey-Fuller test. The null hypothesis is a unit root (a random walk). A statistic
// below a critical value rejects it in favour of a mean-reverting series.
type ADF struct {
	// Statistic is the t value of the lagged level.
	Statistic float64 `json:"statistic"`
	// PValue is the probability of a statistic at or below this one under a unit root, in [0,1].
	PValue float64 `json:"p_value"`
	// Lags is the number of lagged differences in the regression, and N the number of observations.
	Lags int `json:"lags"`
	N    int `json:"n"`
	// Critical are the values below which the statistic rejects a unit root at 1, 5 and 10 %.
	Critical Critical `json:"critical"`
}

// Critical are the critical values of a test by its size.
type Critical struct {
	OnePercent  float64 `json:"1%"`
	FivePercent float64 `json:"5%"`
	TenPercent  float64 `json:"10%"`
}

// Errors of the Dickey-Fuller tests, for errors.Is.
var (
	// ErrTooShort: there are too few values for the lags.
	ErrTooShort = errors.New("series is too short")
	// ErrDegenerate: the series is constant, or its regression fits without error, so that there is no statistic.
	ErrDegenerate = errors.New("series is degenerate")
)

// DickeyFuller tests a series, in time order and evenly spaced, for a unit root. It is the augmented test with a
// constant. The number of lagged differences minimises the AIC among 0 to ceil(12 (n/100)^(1/4)), all compared on the
// same observations. It equals statsmodels' adfuller(x) up to rounding.
//
// For a long series the AIC chooses many lags, and the minutes of a day are not alike. Test a series of moderate
// length, and read the p-value as a description.
//
// S. E. Said, D. A. Dickey (1984), "Testing for unit roots in autoregressive-moving average models of unknown order",
// Biometrika 71. G. W. Schwert (1989), "Tests for unit roots: a Monte Carlo investigation", JBES 7, for the lags.
func DickeyFuller(x []float64) (ADF, error) {
	most := min(mostLags(len(x)), int(math.Ceil(12*math.Pow(float64(len(x))/100, 0.25))))
	if most < 0 {
		return ADF{}, fmt.Errorf("%d values: %w", len(x), ErrTooShort)
	}
	if err := usable(x); err != nil {
		return ADF{}, err
	}
	// One factorisation gives the residual sum of squares for every number of lags. With the response as the last
	// column, R holds what each regressor in turn explains, and what remains.
	k := 2 + most
	r := triangle(regressors(x, most, 1))
	n := float64(len(x) - 1 - most)
	rest := r.At(k, k) * r.At(k, k)
	best, least := 0, math.Inf(1)
	for lags := most; lags >= 0; lags-- {
		// AIC = n ln(RSS/n) + 2 (lags + 2), without terms that do not depend on the lags. For equal values the fewest
		// lags win.
		if aic := n*math.Log(rest/n) + 2*float64(lags+2); aic <= least {
			best, least = lags, aic
		}
		rest += r.At(lags+1, k) * r.At(lags+1, k)
	}
	return DickeyFullerLags(x, best)
}

// DickeyFullerLags is [DickeyFuller] with a given number of lagged differences, from 0 to n/2 - 2.
func DickeyFullerLags(x []float64, lags int) (ADF, error) {
	switch {
	case lags < 0:
		return ADF{}, fmt.Errorf("%d lags: want 0 or more", lags)
	case lags > mostLags(len(x)):
		return ADF{}, fmt.Errorf("%d values for %d lags: %w", len(x), lags, ErrTooShort)
	}
	if err := usable(x); err != nil {
		return ADF{}, err
	}
	// The level is the last regressor, so its coefficient is a single division.
	k := 2 + lags
	r := triangle(regressors(x, lags, k-1))
	n := len(x) - 1 - lags
	// The part of the level, and of the differences, that the other regressors leave unexplained.
	if !independent(r, k-1) || !independent(r, k) {
		return ADF{}, fmt.Errorf("%d lags explain the level or all %d differences: %w", lags, n, ErrDegenerate)
	}
	t := r.At(k-1, k) / (math.Abs(r.At(k, k)) / math.Sqrt(float64(n-k)))
	if r.At(k-1, k-1) < 0 {
		t = -t
	}
	return ADF{Statistic: t, PValue: dickeyFullerP(t), Lags: lags, N: n, Critical: dickeyFullerCritical(n)}, nil
}

// mostLags leaves about half of n values as degrees of freedom.
func mostLags(n int) int { return n/2 - 2 }

func usable(x []float64) error {
	constant := true
	for i, v := range x {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return fmt.Errorf("value %d is %v: want finite numbers", i, v)
		}
		constant = constant && v == x[0]
	}
	if constant {
		return fmt.Errorf("all %d values are %v: %w", len(x), x[0], ErrDegenerate)
	}
	return nil
}

// regressors returns the matrix of the test regression, with one row per difference that has all its lags: the
// constant, the lagged differences with the level at column at, and the difference itself last. The mean is subtracted
// from the level. Next to a constant this changes nothing, but it keeps the digits of small moves of a price of 60,000.
func regressors(x []float64, lags, at int) *mat.Dense {
	level := centred(x)
	n := len(x) - 1 - lags
	m := mat.NewDense(n, lags+3, nil)
	for i := range n {
		row, t := m.RawRowView(i), i+lags // the difference from t to t+1
		row[0], row[at], row[lags+2] = 1, level[t], x[t+1]-x[t]
		column := 1
		for lag := range lags {
			if column == at {
				column++
			}
			row[column] = x[t-lag] - x[t-lag-1]
			column++
		}
	}
	return m
}

// independent reports whether a column, given its R, is more than rounding relative to the columns to its left.
func independent(r *mat.Dense, column int) bool {
	norm := mat.Norm(r.ColView(column), 2)
	return math.Abs(r.At(column, column)) > 1e-12*norm
}

// triangle returns the R of m = QR.
func triangle(m *mat.Dense) *mat.Dense {
	var qr mat.QR
	qr.Factorize(m)
	var r mat.Dense
	qr.RTo(&r)
	return &r
}
