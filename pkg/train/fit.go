// Package train fits models and tests them out of time.
package train

import (
	"errors"
	"fmt"
	"math"

	"github.com/greenlight-ml/greenlight/pkg/eval"
	"github.com/greenlight-ml/greenlight/pkg/model"
)

// FitOptions are the settings of [Fit].
type FitOptions struct {
	// Penalty is the lambda of 0.5 lambda |w|^2, >= 0 (1/C in scikit-learn). 0 means no penalty.
	Penalty float64
	// Clip bounds every standardised input, > 0.
	Clip float64
	// MaxIterations is the limit of Newton's method, > 0.
	MaxIterations int
	// Tolerance is the coefficient change, in log-odds, at or below which the fit has converged, > 0.
	Tolerance float64
}

// DefaultFitOptions are the options of the production models: penalty 1, clip 8.
func DefaultFitOptions() FitOptions {
	return FitOptions{Penalty: 1, Clip: 8, MaxIterations: 100, Tolerance: 1e-9}
}

// Errors of [Fit], for errors.Is.
var (
	// ErrTooFewRows: there are fewer rows than coefficients plus one.
	ErrTooFewRows = errors.New("too few rows")
	// ErrNotConverged: Newton's method did not converge. Without a penalty this usually means that the inputs separate
	// the classes or depend on each other.
	ErrNotConverged = errors.New("fit did not converge")
)

// Fit fits a logistic regression to rows of len(names) inputs each, x in row order, with one label per row.
//
// Every input is standardised by its mean and population standard deviation and clipped at +-Clip. The fit minimises
// 0.5 Penalty |w|^2 + sum over rows of the log loss, with an unpenalised intercept, by Newton's method (iteratively
// re-weighted least squares: McCullagh and Nelder (1989), "Generalized Linear Models", 2.5). A constant input gets SD 1
// and Weight 0.
//
// The result is bit-identical for the same rows in the same order, however many cores there are: the sums run over
// fixed blocks of rows and are added in order.
//
// It returns an error for NaN or infinite inputs, and [eval.ErrOneClass], [ErrTooFewRows] or [ErrNotConverged].
func Fit(names []string, x []float64, y []bool, o FitOptions) (*model.Logistic, error) {
	k, n := len(names), len(y)
	if k == 0 {
		return nil, errors.New("no inputs")
	}
	if len(x) != n*k {
		return nil, fmt.Errorf("%d values for %d rows of %d inputs: want %d", len(x), n, k, n*k)
	}
	if n < k+2 {
		return nil, fmt.Errorf("%d rows for %d inputs: %w", n, k, ErrTooFewRows)
	}
	positive := 0
	for _, v := range y {
		if v {
			positive++
		}
	}
	if positive == 0 || positive == n {
		return nil, fmt.Errorf("%d rows, %d positive: %w", n, positive, eval.ErrOneClass)
	}
	for i, v := range x {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, fmt.Errorf("row %d: %s is %v", i/k, names[i%k], v)
		}
	}

	m := &model.Logistic{Features: append([]string(nil), names...), Weight: make([]float64, k), Clip: o.Clip}
	m.Mean, m.SD = standard(x, k)
	active := varying(x, k)
	for j, name := range names {
		if math.IsInf(m.SD[j], 0) || math.IsNaN(m.SD[j]) {
			return nil, fmt.Errorf("%s has values too large for a standard deviation: correct or leave out rows with absolute values above 1e150", name)
		}
		if !active[j] {
			m.SD[j] = 1
		}
	}
	p := newProblem(m, x, y, active, o.Penalty)
	beta := make([]float64, p.width)
	beta[0] = math.Log(float64(positive) / float64(n-positive))
	if err := p.minimise(beta, o); err != nil {
		return nil, err
	}
	m.Intercept = beta[0]
	for i, j := range p.columns {
		m.Weight[j] = beta[i+1]
	}
	return m, nil
}

// standard returns the mean and the population standard deviation of every column.
func standard(x []float64, k int) (mean, sd []float64) {
	n := float64(len(x) / k)
	mean, sd = make([]float64, k), make([]float64, k)
	for i := 0; i < len(x); i += k {
		for j, v := range x[i : i+k] {
			mean[j] += v
		}
	}
	for j := range mean {
		mean[j] /= n
	}
	for i := 0; i < len(x); i += k {
		for j, v := range x[i : i+k] {
			d := v - mean[j]
			sd[j] += float64(d * d)
		}
	}
	for j := range sd {
		sd[j] = math.Sqrt(sd[j] / n)
	}
	return mean, sd
}

// varying reports which columns are not constant. The standard deviation cannot tell: for a constant 0.1 it is not 0
// once the mean is rounded.
func varying(x []float64, k int) []bool {
	v := make([]bool, k)
	for i := k; i < len(x); i += k {
		for j := range k {
			v[j] = v[j] || x[i+j] != x[j]
		}
	}
	return v
}
