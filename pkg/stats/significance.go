package stats

import "math"

// bets are how much larger, in log odds, the rate is that each part of the wealth bets on: from 1.6 times the odds, since
// less is nothing to stop for, to 55 times. They double, so that one of them is at most a factor of 1.4 off whatever the
// true rate is, which costs little of the growth, and four of them cost at most log 4 in log wealth.
var bets = [...]float64{0.5, 1, 2, 4}

// EValue is the wealth of a gambler who began with 1 and has bet, trial by trial, that failures come more often than at
// the rate p0, in (0,1): an even mixture of likelihood ratios against rates above p0.
//
// While the true rate is at most p0, whatever happened before, the wealth is a supermartingale, so that the chance that it
// ever reaches 1/alpha is at most alpha (Ville's inequality). It may therefore be looked at after every trial, and acted
// upon at any time. It depends on the counts alone, not on their order, and falls as p0 rises. It is NaN when failures
// exceed trials or p0 is out of range, and never more than the largest float64, so that it can stand in JSON.
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

// AnytimeLower is a lower bound of the rate of failures, in [0,1]: the smallest rate that [EValue] does not reject at
// alpha, in (0,1). However often it is looked at, the chance that it ever lies above the true rate is at most alpha. It is
// 0 without trials, and NaN when failures exceed trials or alpha is out of range. An upper bound is 1 less the lower bound
// of the rate of successes.
func AnytimeLower(failures, trials uint64, alpha float64) float64 {
	if failures > trials || !(alpha > 0 && alpha < 1) {
		return math.NaN()
	}
	low, high := 0.0, 1.0
	for range 60 { // halvings of [0,1]: to the last bits of a float64
		if middle := (low + high) / 2; EValue(failures, trials, middle) >= 1/alpha {
			low = middle
		} else {
			high = middle
		}
	}
	return low
}
