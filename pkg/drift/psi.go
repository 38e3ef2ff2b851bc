// Package drift measures whether a model's current inputs still look like its training data: the population stability
// index (PSI) of every feature against a frozen profile of the training rows, and how large an index to expect when
// nothing has changed.
//
// PSI = sum over bins of (q - p) ln(q/p), with p the reference shares and q the present shares, each at least [Floor].
// It is the symmetric Kullback-Leibler divergence of the two histograms, in nats.
//
// H. Jeffreys (1946), "An invariant form for the prior probability in estimation problems", Proc. Royal Society A 186.
// N. Siddiqi (2006), "Credit Risk Scorecards", for the name and the thresholds.
package drift

import (
	"fmt"
	"math"
)

// Floor is the smallest share of a bin: an empty bin would make the index infinite. Shares are not renormalised
// afterwards.
const Floor = 1e-4

// PSI returns the population stability index of current shares against reference shares of the same bins, >= 0. It
// panics if the lengths differ.
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

// term returns the contribution of one bin to the index.
func term(p, q float64) float64 {
	p, q = max(Floor, p), max(Floor, q)
	if p == q { // usually because both are at the floor
		return 0
	}
	return float64((q - p) * math.Log(q/p))
}
