package model

import (
	"errors"
	"fmt"
	"math"
)

// Logistic is a logistic regression over standardised, clipped inputs:
//
//	score = 1 / (1 + exp(-(Intercept + sum_i Weight[i] clip((x[i] - Mean[i]) / SD[i], -Clip, Clip))))
//
// The sum is taken in the order of Features, so that every process computes the same bits.
type Logistic struct {
	// Features names the inputs, in the order of the vectors that Score takes. An input that was constant in training,
	// such as bias, has SD 1 and Weight 0.
	Features []string `json:"features"`
	// Mean and SD standardise the inputs; SD is the population standard deviation, > 0.
	Mean []float64 `json:"mean"`
	SD   []float64 `json:"sd"`
	// Weight is per standardised input, in log-odds.
	Weight []float64 `json:"weight"`
	// Intercept is in log-odds.
	Intercept float64 `json:"intercept"`
	// Clip bounds each standardised input, > 0.
	Clip float64 `json:"clip"`
}

// Score returns the probability in [0,1] for the vector x, which has one value per feature. It panics if x is shorter.
func (m *Logistic) Score(x []float64) float64 {
	z := m.Intercept
	for i, w := range m.Weight {
		// The conversion keeps the compiler from fusing the product into the sum, which would change the last bit
		// between architectures.
		z += float64(w * clip((x[i]-m.Mean[i])/m.SD[i], m.Clip))
	}
	return Sigmoid(z)
}

// Scores sets scores[i] to the Score of row i of x, which holds the vectors one after the other. It panics if x is shorter.
func (m *Logistic) Scores(scores, x []float64) {
	k := len(m.Features)
	for i := range scores {
		scores[i] = m.Score(x[i*k : (i+1)*k])
	}
}

func clip(v, bound float64) float64 { return max(-bound, min(bound, v)) }

// Sigmoid is the logistic function, in [0,1], without overflow for any finite z.
func Sigmoid(z float64) float64 {
	if z >= 0 {
		return 1 / (1 + math.Exp(-z))
	}
	e := math.Exp(z)
	return e / (1 + e)
}

// Validate returns an error if the parameters are unusable: different lengths, a non-finite number, or a scale or clip
// that is not positive.
func (m *Logistic) Validate() error {
	k := len(m.Features)
	if k == 0 {
		return errors.New("no features")
	}
	if len(m.Mean) != k || len(m.SD) != k || len(m.Weight) != k {
		return fmt.Errorf("%d features but %d means, %d sds, %d weights", k, len(m.Mean), len(m.SD), len(m.Weight))
	}
	for i, name := range m.Features {
		if !finite(m.Mean[i]) || !finite(m.Weight[i]) {
			return fmt.Errorf("feature %q: mean %v, weight %v: not finite", name, m.Mean[i], m.Weight[i])
		}
		if !finite(m.SD[i]) || m.SD[i] <= 0 {
			return fmt.Errorf("feature %q: sd %v: want a finite number > 0", name, m.SD[i])
		}
	}
	if !finite(m.Intercept) {
		return fmt.Errorf("intercept %v: not finite", m.Intercept)
	}
	if !finite(m.Clip) || m.Clip <= 0 {
		return fmt.Errorf("clip %v: want a finite number > 0", m.Clip)
	}
	return nil
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }
