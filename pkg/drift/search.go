package drift

import (
	"math"
	"math/bits"
	"slices"
)

// search finds the bin of a value in a fixed number of steps without a branch on it, which a processor would guess
// wrong half of the time: every bin is a union of cells between cuts, and the cell is the number of cuts strictly below
// the value.
type search struct {
	// cuts are keys, ascending, padded with that of +Inf, at least once, to a power of two.
	cuts []uint64
	// bins has one entry per cell.
	bins []uint16
	// missing is the bin of NaN.
	missing int
}

func newSearch(f *Feature) search {
	low, high := -math.MaxFloat64, math.MaxFloat64
	if f.Domain != nil {
		low, high = f.Domain.Low, f.Domain.High
	}
	// A cut is the last number of its cell. The number before a single value ends the cell before it.
	before := func(x float64) float64 { return math.Nextafter(x, math.Inf(-1)) }
	cuts := append([]float64{before(low), high}, f.Edges...)
	for _, v := range f.Values {
		cuts = append(cuts, before(v), v)
	}
	slices.Sort(cuts)
	cuts = slices.Compact(cuts)
	size := 1
	for size < len(cuts)+1 {
		size *= 2
	}
	s := search{missing: f.define(math.NaN())}
	for cell := range size {
		last := math.Inf(1)
		if cell < len(cuts) {
			last = cuts[cell]
		}
		s.cuts = append(s.cuts, key(last))
		s.bins = append(s.bins, uint16(f.define(last)))
	}
	return s
}

// key maps numbers to integers of the same order; NaN has none.
func key(x float64) uint64 {
	b := math.Float64bits(x + 0) // -0 + 0 is 0
	return b ^ (uint64(int64(b)>>63) | 1<<63)
}

func (s *search) bin(x float64) int {
	if math.IsNaN(x) {
		return s.missing
	}
	k, cell, cuts := key(x), uint64(0), s.cuts
	for half := uint64(len(cuts)) / 2; half > 0; half /= 2 {
		_, below := bits.Sub64(cuts[cell+half-1], k, 0)
		cell += half & -below
	}
	return int(s.bins[cell])
}
