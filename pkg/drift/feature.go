package drift

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/greenlight-ml/greenlight/pkg/stats"
)

// Feature is how one feature was distributed in the reference: its bins, and their shares.
//
// The bins are, in this order: len(Edges)+1 bins between the edges, where that of x is the number of edges strictly
// below x; one for each of Values, which then counts nowhere else; [Missing]; [OutOfDomain].
type Feature struct {
	Name string `json:"name"`
	// Role is what it is to the model.
	Role Role `json:"role"`
	// Domain bounds the values that can be; nil is all finite numbers.
	Domain *Domain `json:"domain,omitempty"`
	// Step is what values are rounded to before they are binned, a power of ten: what differs by less is float noise. 0
	// does not round, as the first profiles did.
	Step float64 `json:"step,omitempty"`
	// Unit is the distance of the points of a lattice on which the values are, because the price moves in ticks; of
	// exp(value) where that is on one. 0 without a lattice. It records how the edges were made.
	Unit float64 `json:"unit,omitempty"`
	// Weight is the share of what the model makes of its features that it makes of this one, in [0,1]; those of all
	// features add up to 1, or are all 0 where that is not known.
	Weight float64 `json:"weight,omitempty"`
	// Edges are the deciles of the reference (type 7) without duplicates, ascending; on a lattice, the middles between
	// points that are nearest to them.
	Edges []float64 `json:"edges"`
	// Values are those that 5 % of the rows or more had, ascending: a value that is that frequent would break bins
	// between edges, as a constant does. There are none on a lattice, whose edges separate the points.
	Values []float64 `json:"values"`
	// Shares are the shares of the reference's rows, one per bin, in [0,1], before the floor.
	Shares []float64 `json:"shares"`
	// Daily are the rows of each of the reference's days, in the order of [Profile.Days], one number per bin: what the
	// index does without drift follows from how the days differ.
	Daily [][]int `json:"daily"`

	search search
}

// Role is what a watched column is to the model.
type Role string

// The roles. The zero value stands for [ModelFeature].
const (
	// ModelFeature is what the model scores. The overall index is the mean over these.
	ModelFeature Role = "feature"
	// Score is the model's answer.
	Score Role = "score"
	// RawInput is what the features are made of, such as the price: it is watched beside them, where it is known, and
	// so has rows and days of its own.
	RawInput Role = "input"
)

// Domain is the values that a feature can have, Low <= x <= High.
type Domain struct {
	Low  float64 `json:"low"`
	High float64 `json:"high"`
}

// valueShare is the inverse of the share of rows that makes a value a bin of its own.
const valueShare = 20

// newFeature makes the bins of a column; its shares follow from the counts. days are the numbers of the rows of each day.
func newFeature(c Column, days [][]int) Feature {
	f := Feature{Name: c.Name, Role: c.Role, Weight: c.Weight, Edges: []float64{}, Values: []float64{}}
	if c.Domain != nil {
		d := *c.Domain
		f.Domain = &d
	}
	usual := make([]float64, 0, len(c.Values))
	for _, v := range c.Values {
		if f.within(v) {
			usual = append(usual, v)
		}
	}
	if len(usual) > 0 {
		f.bins(usual, c.Values, days)
	}
	f.search = newSearch(&f)
	return f
}

// bins sets the edges and the single values, from the usual values and from all of them by row.
func (f *Feature) bins(usual, all []float64, days [][]int) {
	digits := digitsOf(usual)
	f.Step = math.Pow10(-digits)
	for i, v := range usual {
		usual[i] = snap(v, digits)
	}
	slices.Sort(usual)
	daily := make([][]float64, len(days))
	for d, rows := range days {
		for _, i := range rows {
			if v := all[i]; f.within(v) {
				daily[d] = append(daily[d], snap(v, digits))
			}
		}
	}
	if l, ok := findLattice(daily); ok {
		if f.Edges = l.edges(usual); len(f.Edges) > 0 {
			f.Unit = l.unit
			f.clamp()
			return
		}
	}
	for start := 0; start < len(usual); {
		end := start
		for end < len(usual) && usual[end] == usual[start] {
			end++
		}
		if (end-start)*valueShare >= len(all) {
			f.Values = append(f.Values, usual[start])
		}
		start = end
	}
	for i := 1; i < 10; i++ {
		e := stats.Quantile(usual, float64(i)/10)
		// Noise must not carry rows over an edge; a single value has its own bin.
		if _, onRow := slices.BinarySearch(usual, e); onRow && !slices.Contains(f.Values, e) {
			e = between(e, digits)
		}
		f.Edges = append(f.Edges, e)
	}
	f.clamp()
}

// clamp keeps the edges in the domain, ascending.
func (f *Feature) clamp() {
	for i, e := range f.Edges {
		if f.Domain != nil {
			f.Edges[i] = min(max(e, f.Domain.Low), f.Domain.High)
		}
	}
	f.Edges = slices.Compact(f.Edges)
}

// within reports whether x is in the domain; NaN is in none.
func (f *Feature) within(x float64) bool {
	if f.Domain != nil {
		return f.Domain.Low <= x && x <= f.Domain.High
	}
	return math.Abs(x) <= math.MaxFloat64
}

// Bins is the number of bins.
func (f *Feature) Bins() int { return len(f.Edges) + 1 + len(f.Values) + 2 }

// The names of the last two bins.
const (
	Missing     = "missing"
	OutOfDomain = "out_of_domain"
)

// BinName is a bin's name for machines, short and without spaces: q1, q2, ... between the edges, v1, v2, ... for single
// values, [Missing] and [OutOfDomain].
func (f *Feature) BinName(bin int) string {
	between, single := len(f.Edges)+1, len(f.Values)
	switch {
	case bin < between:
		return fmt.Sprintf("q%d", bin+1)
	case bin < between+single:
		return fmt.Sprintf("v%d", bin-between+1)
	case bin == between+single:
		return Missing
	default:
		return OutOfDomain
	}
}

// BinRange says for people what is in a bin: "(0.1, 0.25]", "= 0".
func (f *Feature) BinRange(bin int) string {
	edges, between, single := f.Edges, len(f.Edges)+1, len(f.Values)
	switch {
	case bin >= between+single:
		return map[bool]string{true: "missing", false: "out of domain"}[bin == between+single]
	case bin >= between:
		return fmt.Sprintf("= %.4g", f.Values[bin-between])
	case len(edges) == 0:
		return "any"
	case bin == 0:
		return fmt.Sprintf("<= %.4g", edges[0])
	case bin == len(edges):
		return fmt.Sprintf("> %.4g", edges[bin-1])
	default:
		return fmt.Sprintf("(%.4g, %.4g]", edges[bin-1], edges[bin])
	}
}

// Bin is the bin of x.
func (f *Feature) Bin(x float64) int { return f.search.bin(x) }

// define is the bin of x by definition; [Feature.Bin] is the same, faster.
func (f *Feature) define(x float64) int {
	between, single := len(f.Edges)+1, len(f.Values)
	switch {
	case math.IsNaN(x):
		return between + single
	case !f.within(x):
		return between + single + 1
	}
	for i, v := range f.Values {
		if low, high := f.around(v); low < x && x <= high {
			return between + i
		}
	}
	below := 0
	for _, e := range f.Edges {
		if e < x {
			below++
		}
	}
	return below
}

// around is where values are that are rounded to v: above low, and not above high.
func (f *Feature) around(v float64) (low, high float64) {
	if f.Step == 0 {
		return math.Nextafter(v, math.Inf(-1)), v
	}
	return v - f.Step/2, v + f.Step/2
}

// check says what is wrong with a feature that was read.
func (f *Feature) check(days []int, rows int) error {
	if d := f.Domain; d != nil && !(d.Low <= d.High) {
		return fmt.Errorf("domain from %v to %v", d.Low, d.High)
	}
	for _, v := range []struct {
		name string
		is   []float64
	}{{"edges", f.Edges}, {"values", f.Values}} {
		for i, x := range v.is {
			if !f.within(x) || i > 0 && !(v.is[i-1] < x) {
				return fmt.Errorf("%s are not ascending numbers of the domain: %v", v.name, v.is)
			}
		}
	}
	for _, v := range []float64{f.Step, f.Unit, f.Weight} {
		if !(v >= 0) || v > math.MaxFloat64 {
			return fmt.Errorf("step %v, unit %v, weight %v: want finite numbers >= 0", f.Step, f.Unit, f.Weight)
		}
	}
	if len(f.Edges) > 9 || len(f.Values) > valueShare {
		return fmt.Errorf("%d edges and %d values: want at most 9 and %d", len(f.Edges), len(f.Values), valueShare)
	}
	if len(f.Daily) != len(days) {
		return fmt.Errorf("%d days of counts: want %d", len(f.Daily), len(days))
	}
	sum := make([]int, f.Bins())
	total := 0
	for _, day := range f.Daily {
		if len(day) != len(sum) {
			return fmt.Errorf("%d counts of a day: want %d", len(day), len(sum))
		}
		for bin, n := range day {
			if n < 0 || n > rows {
				return fmt.Errorf("count %d of %d rows", n, rows)
			}
			sum[bin] += n
			total += n
		}
	}
	if total != rows {
		return fmt.Errorf("%d rows in the bins: want %d", total, rows)
	}
	if !slices.Equal(f.Shares, shares(sum, rows)) {
		return errors.New("shares are not those of the daily counts")
	}
	return nil
}

// shares are counts divided by rows.
func shares(counts []int, rows int) []float64 {
	s := make([]float64, len(counts))
	for i, n := range counts {
		s[i] = float64(n) / float64(rows)
	}
	return s
}
