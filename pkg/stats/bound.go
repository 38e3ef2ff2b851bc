package stats

import "math"

// meanBets are the fixed fractions that a [MeanBound] and a [Detector] bet. They must not depend on the data: bets that do
// raise false alarms in nearly every run when only the average difference is 0.
var meanBets = [...]float64{0.03, 0.06, 0.125, 0.25, 0.5, 0.9}

// Bets is the number of bets.
const Bets = len(meanBets)

// MeanBound bounds the running mean D_n of the conditional expectations E[x_i | past] of values in [-1,1]. A bound holds at
// all n at once with probability 1 - alpha, so it may be read after every value. The values need not be independent, and
// their mean may move. The zero value is ready to use.
//
// With A_k = sum ln(1 + lambda_k x_i), the mixture M_n(m) = mean over k of exp(A_k - lambda_k n m) is at D_n at most a
// nonnegative martingale that starts at 1, because 1 + y <= exp(y). Ville's inequality then gives
// P(exists n: M_n(D_n) >= 1/alpha) <= alpha. M falls in m, so all m below the one where M = 1/alpha are excluded.
//
// J. Ville (1939), "Etude critique de la notion de collectif". I. Waudby-Smith, A. Ramdas (2024), "Estimating means of
// bounded random variables by betting", JRSS B 86. Y. J. Choe, A. Ramdas (2023), "Comparing sequential forecasters",
// Operations Research 72(4). A. Henzi, J. F. Ziegel (2022), "Valid sequential inference on probability forecast
// performance", Biometrika 109.
type MeanBound struct {
	n int
	// wealth has the A_k of the values, and mirrored the A_k of the negated values.
	wealth, mirrored [Bets]float64
}

// Add takes the next value. A value outside [-1,1] is moved to the nearer end; NaN must not occur.
func (b *MeanBound) Add(x float64) {
	x = max(-1, min(1, x))
	b.n++
	for k, bet := range meanBets {
		b.wealth[k] += math.Log1p(float64(bet * x))
		b.mirrored[k] += math.Log1p(-float64(bet * x))
	}
}

// N returns the number of values.
func (b *MeanBound) N() int { return b.n }

// Lower returns the lower bound of D_n at level alpha in (0,1): the m with M_n(m) = 1/alpha, at least -1.
func (b *MeanBound) Lower(alpha float64) float64 { return excluded(&b.wealth, b.n, alpha) }

// Upper returns the upper bound of D_n at level alpha in (0,1): minus the lower bound of the negated values, at most 1.
func (b *MeanBound) Upper(alpha float64) float64 { return -excluded(&b.mirrored, b.n, alpha) }

// Above reports whether the lower bound at level alpha is at least m, without searching for the bound.
func (b *MeanBound) Above(m, alpha float64) bool {
	return logMixture(&b.wealth, b.n, m) >= -math.Log(alpha)
}

// Below reports whether the upper bound at level alpha is at most m.
func (b *MeanBound) Below(m, alpha float64) bool {
	return logMixture(&b.mirrored, b.n, -m) >= -math.Log(alpha)
}

// Needed returns the total number of values that [MeanBound.Above] needs for m and alpha if later values average the same as
// those so far. It is +Inf if such values never reach it, or if there is no value.
func (b *MeanBound) Needed(m, alpha float64) float64 {
	var gain [Bets]float64
	best := 0.0
	for k, bet := range meanBets {
		gain[k] = b.wealth[k] - float64(bet*float64(b.n)*m)
		best = max(best, gain[k])
	}
	if best == 0 {
		return math.Inf(1)
	}
	target := -math.Log(alpha)
	// With so many times the values, the best bet alone reaches the target.
	low, high := 0.0, (target+math.Log(float64(Bets)))/best
	for range 60 {
		times := (low + high) / 2
		scaled := gain
		for k := range scaled {
			scaled[k] *= times
		}
		if logMean(&scaled) >= target {
			high = times
		} else {
			low = times
		}
	}
	return high * float64(b.n)
}

// LeastCount returns the fewest values after which a lower bound of values that are all 0 can be at least -margin, at
// level alpha: ln(K/alpha) / (largest bet x margin).
func LeastCount(margin, alpha float64) float64 {
	return math.Log(float64(Bets)/alpha) / (meanBets[Bets-1] * margin)
}

// excluded returns the largest m with M_n(m) >= 1/alpha, or -1. M_n(1) is at most 1, because ln(1 + bet) <= bet.
func excluded(a *[Bets]float64, n int, alpha float64) float64 {
	target := -math.Log(alpha)
	low, high := -1.0, 1.0
	if logMixture(a, n, low) < target {
		return low
	}
	for range 60 {
		if m := (low + high) / 2; logMixture(a, n, m) >= target {
			low = m
		} else {
			high = m
		}
	}
	return low
}

// logMixture returns ln M_n(m).
func logMixture(a *[Bets]float64, n int, m float64) float64 {
	var e [Bets]float64
	for k, bet := range meanBets {
		e[k] = a[k] - float64(bet*float64(n)*m)
	}
	return logMean(&e)
}

// logMean returns ln(mean exp(e_k)), without overflow.
func logMean(e *[Bets]float64) float64 {
	highest := math.Inf(-1)
	for _, v := range e {
		highest = max(highest, v)
	}
	sum := 0.0
	for _, v := range e {
		sum += math.Exp(v - highest)
	}
	return highest + math.Log(sum/float64(Bets))
}

// Detector watches for a change: values z in [-1,1] whose conditional mean was at most 0 now have a positive one. While it is
// at most 0, the mean number of values until the statistic reaches C is at least C. The zero value is ready to use.
//
// J. Shin, A. Ramdas, A. Rinaldo (2023), "E-detectors: a nonparametric framework for sequential change detection", New
// England Journal of Statistics in Data Science 2.
type Detector struct{ s [Bets]float64 }

// most keeps a statistic finite long after an alarm.
const most = 1e300

// Add takes the next value and returns the statistic.
func (d *Detector) Add(z float64) float64 {
	z = max(-1, min(1, z))
	sum := 0.0
	for k, bet := range meanBets {
		d.s[k] = min(most, float64((d.s[k]+1)*(1+float64(bet*z))))
		sum += d.s[k]
	}
	return sum / float64(Bets)
}
