package feature

import "math"

// CorwinSchultz estimates the bid-ask spread, in basis points of the price, >= 0, from the high and low trade prices
// of two successive bars; a negative estimate is 0. All prices are > 0.
//
// S. A. Corwin, P. Schultz (2012), "A Simple Way to Estimate Bid-Ask Spreads from Daily High and Low Prices", Journal
// of Finance 67, equations 14 and 18; without the adjustment for overnight moves, which minutes do not have.
func CorwinSchultz(high1, low1, high2, low2 float64) float64 {
	const k = 3 - 2*math.Sqrt2
	range1, range2 := math.Log(high1/low1), math.Log(high2/low2)
	both := math.Log(max(high1, high2) / min(low1, low2))
	beta := float64(range1*range1) + float64(range2*range2)
	alpha := (math.Sqrt(2*beta)-math.Sqrt(beta))/k - both/math.Sqrt(k)
	e := math.Exp(alpha)
	return max(0, 1e4*2*(e-1)/(1+e))
}
