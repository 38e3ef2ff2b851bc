// Package eval measures scores against outcomes: how well they rank, how well they are calibrated, and how certain
// either result is.
//
// A score is a probability in [0,1] that the label is true. Functions take scores and labels as slices of equal length
// and in the same order, and panic if the lengths differ. They return NaN where the measure is not defined, for example
// without rows or, for AUC, without both classes. Scores must not be NaN.
package eval

import (
	"errors"
	"fmt"
	"math"
)

// Sample holds scored rows with their outcomes, as slices of equal length.
type Sample struct {
	// Scores are probabilities in [0,1].
	Scores []float64
	// Labels are the outcomes.
	Labels []bool
	// Days are UTC days, in whole days since 1970-01-01: the blocks of the bootstrap.
	Days []int
}

// ErrOneClass is returned for an empty sample, or one whose labels are all the same: nothing can be ranked.
var ErrOneClass = errors.New("labels of one class only")

// Len returns the number of rows.
func (s Sample) Len() int { return len(s.Scores) }

// Pool returns the rows of the samples, one sample after the other.
func Pool(samples ...Sample) Sample {
	n := 0
	for _, s := range samples {
		n += s.Len()
	}
	pooled := Sample{make([]float64, 0, n), make([]bool, 0, n), make([]int, 0, n)}
	for _, s := range samples {
		pooled.Scores = append(pooled.Scores, s.Scores...)
		pooled.Labels = append(pooled.Labels, s.Labels...)
		pooled.Days = append(pooled.Days, s.Days...)
	}
	return pooled
}

func (s Sample) validate() error {
	if len(s.Labels) != len(s.Scores) || len(s.Days) != len(s.Scores) {
		return fmt.Errorf("%d scores but %d labels and %d days", len(s.Scores), len(s.Labels), len(s.Days))
	}
	for i, v := range s.Scores {
		if !(v >= 0 && v <= 1) { // also true for NaN
			return fmt.Errorf("score %v of row %d is not in [0,1]", v, i)
		}
	}
	if p := positives(s.Labels); p == 0 || p == len(s.Labels) {
		return fmt.Errorf("%d rows, %d positive: %w", len(s.Labels), p, ErrOneClass)
	}
	return nil
}

func positives(labels []bool) int {
	n := 0
	for _, y := range labels {
		if y {
			n++
		}
	}
	return n
}

// BaseRate returns the share of true labels, in [0,1]; NaN without rows.
func BaseRate(labels []bool) float64 {
	if len(labels) == 0 {
		return math.NaN()
	}
	return float64(positives(labels)) / float64(len(labels))
}

func sameLength(scores []float64, labels []bool) {
	if len(scores) != len(labels) {
		panic(fmt.Sprintf("eval: %d scores but %d labels", len(scores), len(labels)))
	}
}

func unit(y bool) float64 {
	if y {
		return 1
	}
	return 0
}
