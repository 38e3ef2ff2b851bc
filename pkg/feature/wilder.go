package feature

import "math"

// rsiPeriod is the n of Wilder's relative strength index.
const rsiPeriod = 14

// wilder is the relative strength index of J. Welles Wilder (1978), "New Concepts in Technical Trading Systems": the
// first averages are plain means of the first 14 changes, each later one is (13 average + change)/14.
type wilder struct {
	gain, loss float64
	changes    int
}

// push takes one change of the price, in any unit; NaN (the change is not known) leaves the averages as they are.
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

// value is the index in [0,100]: 50 when nothing changed, 100 without a loss, NaN before 14 changes.
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
