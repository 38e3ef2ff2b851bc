package feature

import "math"

// moments are the count, the mean and the sum of squared deviations from the mean of a bag of values.
//
// add and merge follow B. P. Welford (1962), "Note on a method for calculating corrected sums of squares and
// products", Technometrics 4, and T. F. Chan, G. H. Golub, R. J. LeVeque (1979): every term of m2 is positive, so
// nothing cancels, and m2 of equal values is 0 exactly.
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

// window keeps the moments of the last len(ring) values, of which some may be NaN: those take their place in the
// window but no part in the moments. One push is O(1) amortised and allocates nothing.
//
// A rolling sum that subtracts what leaves the window gathers rounding for ever, and loses all digits of a quiet hour
// that follows a wild one. So nothing is ever subtracted: the window is the tail of the previous lap over the ring,
// whose moments are known for every starting point, plus the present lap. At the end of a lap the tails are computed
// anew from the ring.
type window struct {
	ring []float64
	// tail[i] holds the moments of ring[i:] as it was at the end of the previous lap.
	tail []moments
	// head holds the moments of ring[:next], the present lap.
	head moments
	next int
	// now holds the moments of the whole window.
	now moments
	min float64
	// lapped says that a lap has ended: all of ring is filled.
	lapped bool
}

// newWindow returns a window over size values that is defined once it holds at least atLeast of them.
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

// mean is the mean of the defined values, NaN while there are too few of them.
func (w *window) mean() float64 {
	if w.now.n < w.min {
		return math.NaN()
	}
	return w.now.mean
}

// z is the distance of x from the mean in population standard deviations, NaN while there are too few values or when
// they are all equal.
func (w *window) z(x float64) float64 {
	if w.now.n < w.min || w.now.m2 == 0 {
		return math.NaN()
	}
	return (x - w.now.mean) / math.Sqrt(w.now.m2/w.now.n)
}
