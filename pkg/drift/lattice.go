package drift

import (
	"math"
	"slices"
	"sort"

	"github.com/greenlight-ml/greenlight/pkg/stats"
)

// Prices move in ticks, so returns lie on a lattice: the multiples of a unit that depends on the price and on the day's
// volatility. If the unit is not small relative to the spread of the returns, a decile falls on a lattice point, and
// the index jumps when the unit changes a little. Edges are therefore placed between points.
const (
	// stepDigits is the relative precision of values: smaller differences are float noise.
	stepDigits = 9
	// minOnLattice is how many values of a day are needed to detect a lattice.
	minOnLattice = 20
	// nearPoint is how far from a multiple a value may be, in units: the unit itself moves with the price during a day.
	nearPoint = 0.1
	// onLattice is the minimum share of a day's values near a multiple for a lattice; without a lattice it is about
	// 0.2.
	onLattice = 0.9
	// A multiple is frequent if at least 1/frequentPoint of a day's values are near it.
	frequentPoint = 50
	// maxPoint is the largest multiple that is considered: larger ones run into each other.
	maxPoint = 3
	// sameUnit is the largest ratio between units of the same tick: a tick change is larger.
	sameUnit = 3
	// unitNoise is the relative difference of units that is float noise.
	unitNoise = 1e-6
	// A bin between lattice edges has at least 1/minBinShare of the rows.
	minBinShare = 25
)

// digitsOf returns the number of decimal places to which values are rounded, so that float noise does not separate
// equal values. It is negative for large values.
func digitsOf(values []float64) int {
	sizes := make([]float64, 0, len(values))
	for _, v := range values {
		if v != 0 {
			sizes = append(sizes, math.Abs(v))
		}
	}
	if len(sizes) == 0 {
		return stepDigits
	}
	slices.Sort(sizes)
	// Neither noise around zero nor an extreme value sets the scale.
	scale := stats.Quantile(sizes, 0.99)
	return min(max(stepDigits-int(math.Floor(math.Log10(scale))), -300), 300)
}

// snap rounds x to the given number of decimal places, unless x is too large for that.
func snap(x float64, digits int) float64 {
	p := math.Pow10(digits)
	if v := x * p; math.Abs(v) < 1<<52 {
		return math.Round(v)/p + 0 // -0 is 0
	}
	return x
}

// between rounds x to the decimal places and returns the edge half a step above, where no rounded value lies.
func between(x float64, digits int) float64 {
	p := math.Pow10(digits)
	if v := x * p; math.Abs(v) < 1<<52 {
		return (math.Floor(v) + 0.5) / p
	}
	return x
}

// lattice is a set of points of a feature: the multiples of a unit, or their logarithms.
type lattice struct {
	unit float64
	log  bool
}

// point returns the multiple nearest to x.
func (l lattice) point(x float64) float64 {
	if l.log {
		x = math.Exp(x)
	}
	return math.Round(x / l.unit)
}

// above returns the midpoint between point k and the next one.
func (l lattice) above(k float64) float64 {
	x := (k + 0.5) * l.unit
	if l.log {
		return math.Log(x)
	}
	return x
}

// findLattice looks for a lattice in the values of each day. If the tick changed, the unit belongs to the coarsest
// tick. ok is false if fewer than a fifth of the days have a lattice, or if its points do not move: the points of a
// code or a count are better watched one by one.
func findLattice(days [][]float64) (l lattice, ok bool) {
	for _, l.log = range []bool{false, true} {
		var units []float64
		for _, values := range days {
			if u := unitOf(values, l.log); u > 0 {
				units = append(units, u)
			}
		}
		if len(units)*5 < len(days) || len(units) == 0 {
			continue
		}
		slices.Sort(units)
		coarsest := stats.Quantile(units, 0.9)
		for units[0]*sameUnit < coarsest {
			units = units[1:]
		}
		if units[len(units)-1] <= units[0]*(1+unitNoise) {
			continue // the points do not move: they are single values
		}
		l.unit = stats.Quantile(units, 0.5)
		return l, true
	}
	return lattice{}, false
}

// unitOf returns the unit of the lattice of a day's values, or 0 if there is none: nearly all values must be near small
// multiples of it, and at least two of those must be frequent.
func unitOf(values []float64, log bool) float64 {
	sizes := make([]float64, 0, len(values))
	zeros := 0
	for _, v := range values {
		if log {
			v = math.Exp(v)
		}
		switch v = math.Abs(v); {
		case v == 0:
			zeros++
		case v <= math.MaxFloat64:
			sizes = append(sizes, v)
		}
	}
	if len(sizes) < minOnLattice {
		return 0
	}
	slices.Sort(sizes)
	// The smallest sizes are the first point, apart from price moves; a few stray values do not count.
	low := stats.Quantile(sizes, 0.01)
	unit := stats.Quantile(sizes[sort.SearchFloat64s(sizes, low*(1-nearPoint)):sort.SearchFloat64s(sizes, low*1.5)], 0.5)
	rows := [maxPoint + 1]int{zeros}
	near, all := 0, 0
	for _, v := range sizes {
		if v /= unit; v < maxPoint+0.5 {
			all++
			if k := math.Round(v); math.Abs(v-k) <= nearPoint {
				near++
				rows[int(k)]++
			}
		}
	}
	frequent := 0
	for _, n := range rows {
		if n*frequentPoint >= len(values) {
			frequent++
		}
	}
	if all < minOnLattice || float64(near) < onLattice*float64(all) || frequent < 2 {
		return 0
	}
	return unit
}

// edges returns edges between lattice points: on both sides of zero and of each point with a decile. Bins with too few
// rows are merged with a neighbour; there are at most ten.
func (l lattice) edges(sorted []float64) []float64 {
	var edges []float64
	put := func(x float64) {
		k := l.point(x)
		for _, k := range []float64{k - 1, k} {
			if e := l.above(k); !math.IsNaN(e) && !math.IsInf(e, 0) {
				edges = append(edges, e)
			}
		}
	}
	for i := 1; i < 10; i++ {
		put(stats.Quantile(sorted, float64(i)/10))
	}
	slices.Sort(edges)
	edges = slices.Compact(edges)
	for len(edges) > 0 {
		// rows counts the rows between edge i-1 and edge i.
		rows := make([]int, len(edges)+1)
		before := 0
		for i, e := range edges {
			at := sort.Search(len(sorted), func(j int) bool { return sorted[j] > e })
			rows[i], before = at-before, at
		}
		rows[len(edges)] = len(sorted) - before
		least := 0
		for i := range rows {
			if rows[i] < rows[least] {
				least = i
			}
		}
		if rows[least]*minBinShare >= len(sorted) && len(edges) <= 9 {
			break
		}
		// Drop the edge to the smaller neighbour.
		drop := least
		if least == len(edges) || least > 0 && rows[least-1] < rows[least+1] {
			drop = least - 1
		}
		edges = slices.Delete(edges, drop, drop+1)
	}
	return edges
}
