package feature

import "math"

// rsiPeriod is the n of Wilder's relative strength index.
const rsiPeriod = 14

// wilder is the relative strength index of J. Welles Wilder (1978), "New Concepts in Technical Trading Systems". The
// first averages are the means of the first 14 changes; each later one is (13 average + change)/14.
type wilder struct {
	gain, loss float64
	changes    int
}

// push takes one price change in any unit. NaN (unknown) leaves the averages unchanged.
func (w *wilder) push(change float64) {
	if math.IsNaN(change) {
		return
	}
	gain, loss := max(change, 0), max(-change, 0)
	if w.changes < rsiPeriod {
		w.changes++
		w.gain += gain / rsiPeriod
		w.loss += loss / rsiPeriod
		return
	}
	w.gain = (float64((rsiPeriod-1)*w.gain) + gain) / rsiPeriod
	w.loss = (float64((rsiPeriod-1)*w.loss) + loss) / rsiPeriod
}

// value returns the index in [0,100]: 50 if nothing changed, 100 without a loss, NaN before 14 changes.
func (w *wilder) value() float64 {
	switch {
	case w.changes < rsiPeriod:
		return math.NaN()
	case w.gain == 0 && w.loss == 0:
		return 50
	case w.loss == 0:
		return 100
	}
	return 100 - 100/(1+w.gain/w.loss)
}

// CorwinSchultz estimates the bid-ask spread, >= 0, in basis points of the price, from the high and low trade prices of
// two successive bars. Negative estimates become 0. All prices must be > 0.
//
// S. A. Corwin, P. Schultz (2012), "A Simple Way to Estimate Bid-Ask Spreads from Daily High and Low Prices", Journal
// of Finance 67, equations 14 and 18, without the adjustment for overnight moves, which minutes do not have.
func CorwinSchultz(high1, low1, high2, low2 float64) float64 {
	const k = 3 - 2*math.Sqrt2
	range1, range2 := math.Log(high1/low1), math.Log(high2/low2)
	both := math.Log(max(high1, high2) / min(low1, low2))
	beta := float64(range1*range1) + float64(range2*range2)
	alpha := (math.Sqrt(2*beta)-math.Sqrt(beta))/k - both/math.Sqrt(k)
	e := math.Exp(alpha)
	return max(0, 1e4*2*(e-1)/(1+e))
}
