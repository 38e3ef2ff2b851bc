package feature

import "math"

// moments are the count, the mean and the sum of squared deviations from the mean of a set of values.
//
// add and merge follow B. P. Welford (1962), "Note on a method for calculating corrected sums of squares and products",
// Technometrics 4, and T. F. Chan, G. H. Golub, R. J. LeVeque (1979). Every term of m2 is positive, so nothing cancels,
// and m2 of equal values is exactly 0.
type moments struct {
	n, mean, m2 float64
}

func (m *moments) add(x float64) {
	m.n++
	d := x - m.mean
	m.mean += d / m.n
	m.m2 += float64(d * (x - m.mean))
}

func (m moments) merge(o moments) moments {
	if m.n == 0 {
		return o
	}
	if o.n == 0 {
		return m
	}
	n := m.n + o.n
	d := o.mean - m.mean
	return moments{
		n:    n,
		mean: m.mean + float64(d*(o.n/n)),
		m2:   m.m2 + o.m2 + float64(d*d*(m.n*o.n/n)),
	}
}

// window keeps the moments of the last len(ring) values. NaN values take up a place in the window but do not enter the
// moments. A push is amortised O(1) and does not allocate.
//
// A rolling sum that subtracts departing values accumulates rounding errors, and loses all digits in a quiet hour after
// a wild one. So nothing is subtracted. The window is the tail of the previous lap over the ring, whose moments are
// known for every starting point, plus the current lap. At the end of a lap the tails are recomputed from the ring.
type window struct {
	ring []float64
	// tail[i] holds the moments of ring[i:] as it was at the end of the previous lap.
	tail []moments
	// head holds the moments of ring[:next], the current lap.
	head moments
	next int
	// now holds the moments of the whole window.
	now moments
	min float64
	// lapped reports whether a lap has ended, so that the whole ring is filled.
	lapped bool
}

// newWindow returns a window over size values. It is defined once it holds at least atLeast of them.
func newWindow(size, atLeast int) *window {
	return &window{ring: make([]float64, size), tail: make([]moments, size), min: float64(atLeast)}
}

// push appends x, which may be NaN.
func (w *window) push(x float64) {
	w.ring[w.next] = x
	w.next++
	if !math.IsNaN(x) {
		w.head.add(x)
	}
	if w.next < len(w.ring) {
		w.now = w.tail[w.next].merge(w.head)
		return
	}
	w.sum(0)
	w.now, w.head, w.next, w.lapped = w.tail[0], moments{}, 0, true
}

// sum computes the tails that start at from or later.
func (w *window) sum(from int) {
	var m moments
	for i := len(w.ring) - 1; i >= from; i-- {
		if v := w.ring[i]; !math.IsNaN(v) {
			m.add(v)
		}
		w.tail[i] = m
	}
}

// mean returns the mean of the defined values, or NaN if there are too few.
func (w *window) mean() float64 {
	if w.now.n < w.min {
		return math.NaN()
	}
	return w.now.mean
}

// z returns the distance of x from the mean in population standard deviations. It is NaN if there are too few values or
// all are equal.
func (w *window) z(x float64) float64 {
	if w.now.n < w.min || w.now.m2 == 0 {
		return math.NaN()
	}
	return (x - w.now.mean) / math.Sqrt(w.now.m2/w.now.n)
}
