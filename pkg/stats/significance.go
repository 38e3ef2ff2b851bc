package stats

import (
	"math"
	"slices"
)

// bets are the increases in log odds that the parts of the wealth bet on, from 1.6 times the odds (less is no reason to stop)
// to 55 times. They double, so that one is always within a factor of 1.4 of the true rate. That costs little growth, and
// splitting among four costs at most log 4 in log wealth.
var bets = [...]float64{0.5, 1, 2, 4}

// EValue returns the wealth of a gambler who started with 1 and bets, trial by trial, that failures occur more often
// than at the rate p0, in (0,1). It is an even mixture of likelihood ratios against rates above p0.
//
// While the true rate is at most p0, whatever happened before, the wealth is a supermartingale: the probability that it
// ever reaches 1/alpha is at most alpha (Ville's inequality). It may be checked after every trial, and acted on at any
// time. It depends on the counts alone, not on their order, and falls as p0 rises. It is NaN if failures exceed trials
// or p0 is out of range. It never exceeds the largest float64, so that it fits into JSON.
//
// J. Ville (1939), "Etude critique de la notion de collectif". I. Waudby-Smith and A. Ramdas (2024), "Estimating means of
// bounded random variables by betting", J. Royal Statistical Society B 86.
func EValue(failures, trials uint64, p0 float64) float64 {
	if failures > trials || !(p0 > 0 && p0 < 1) {
		return math.NaN()
	}
	k, rest := float64(failures), float64(trials-failures)
	sum := 0.0
	for _, bet := range bets {
		// p1/p0 and (1-p1)/(1-p0) with p1 = expit(logit(p0) + bet).
		worse := math.Exp(bet)
		norm := math.Log1p(p0 * (worse - 1))
		sum += math.Exp(k*(bet-norm) - rest*norm)
	}
	return min(math.MaxFloat64, sum/float64(len(bets)))
}

// AnytimeLower returns a lower bound of the failure rate, in [0,1]: the smallest rate that [EValue] does not reject at
// alpha, in (0,1). However often it is checked, the probability that it ever exceeds the true rate is at most alpha. It
// is 0 without trials, and NaN if failures exceed trials or alpha is out of range. An upper bound is 1 minus the lower
// bound of the success rate.
func AnytimeLower(failures, trials uint64, alpha float64) float64 {
	if failures > trials || !(alpha > 0 && alpha < 1) {
		return math.NaN()
	}
	low, high := 0.0, 1.0
	for range 60 { // bisect [0,1] to the last bits of a float64
		if middle := (low + high) / 2; EValue(failures, trials, middle) >= 1/alpha {
			low = middle
		} else {
			high = middle
		}
	}
	return low
}

// BenjaminiHochberg returns the adjusted p-values of a family of tests, in the same order. If all tests with an
// adjusted p-value at or below a level are called, on average at most that share of the calls is wrong.
//
// Y. Benjamini and Y. Hochberg (1995), "Controlling the false discovery rate: a practical and powerful approach to
// multiple testing", J. Royal Statistical Society B 57.
func BenjaminiHochberg(p []float64) []float64 {
	order := make([]int, len(p))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch {
		case p[a] < p[b]:
			return -1
		case p[a] > p[b]:
			return 1
		}
		return 0
	})
	adjusted := make([]float64, len(p))
	least := 1.0
	for rank := len(p); rank > 0; rank-- {
		i := order[rank-1]
		least = min(least, p[i]*float64(len(p))/float64(rank))
		adjusted[i] = least
	}
	return adjusted
}
