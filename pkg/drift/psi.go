// Package drift says whether what a model is asked about still looks like what it was trained on: the population
// stability index of every feature against a frozen profile of the training rows, and how large an index to expect
// when nothing has changed.
//
// PSI = sum over bins of (q - p) ln(q/p), with p the shares of the reference and q those of the present, each of at
// least [Floor]. It is the symmetric Kullback-Leibler divergence of the two histograms, in nats.
//
// H. Jeffreys (1946), "An invariant form for the prior probability in estimation problems", Proc. Royal Society A 186.
// N. Siddiqi (2006), "Credit Risk Scorecards", for the name and the thresholds.
package drift

import (
	"fmt"
	"math"
)

// Floor is the least share of a bin: an empty bin would make the index infinite. Shares are not renormalised after.
const Floor = 1e-4

// PSI is the population stability index of current shares against reference shares of the same bins, >= 0. It panics
// when the lengths differ.
func PSI(reference, current []float64) float64 {
	if len(reference) != len(current) {
		panic(fmt.Sprintf("drift: %d bins against %d", len(reference), len(current)))
	}
	sum := 0.0
	for i, p := range reference {
		sum += term(p, current[i])
	}
	return sum
}

// term is what one bin adds to the index.
func term(p, q float64) float64 {
	p, q = max(Floor, p), max(Floor, q)
	if p == q { // most often because both are at the floor
		return 0
	}
	return float64((q - p) * math.Log(q/p))
}

// Status is the textbook reading of an index, which knows nothing of noise.
type Status string

// The readings of an index.
const (
	// Stable is below 0.1.
	Stable Status = "stable"
	// Warning is from 0.1 to 0.2.
	Warning Status = "warning"
	// Critical is above 0.2, and whatever is not a number.
	Critical Status = "critical"
)

// StatusOf reads an index.
func StatusOf(psi float64) Status {
	switch {
	case psi < 0.1:
		return Stable
	case psi <= 0.2:
		return Warning
	default:
		return Critical
	}
}
