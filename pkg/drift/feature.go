package drift

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/greenlight-ml/greenlight/pkg/stats"
)

// Feature describes how one feature was distributed in the reference: its bins and their shares.
//
// The bins are, in this order: len(Edges)+1 bins between the edges, where the bin of x is the number of edges strictly
// below x; one for each of Values, which counts in no other bin; [Missing]; [OutOfDomain].
type Feature struct {
	Name string `json:"name"`
	// Role is the role of the column for the model.
	Role Role `json:"role"`
	// Domain limits the possible values; nil means all finite numbers.
	Domain *Domain `json:"domain,omitempty"`
	// Step is the power of ten to which values are rounded before binning: smaller differences are float noise. 0 means
	// no rounding, as in the first profiles.
	Step float64 `json:"step,omitempty"`
	// Unit is the distance between the lattice points on which the values (or exp(value)) lie, because the price moves
	// in ticks. It is 0 without a lattice. It records how the edges were made.
	Unit float64 `json:"unit,omitempty"`
	// Weight is the feature's share of the model's total importance, in [0,1]. The weights of all features add up to 1,
	// or are all 0 if unknown.
	Weight float64 `json:"weight,omitempty"`
	// Edges are the deciles of the reference (type 7) without duplicates, ascending; on a lattice, the nearest
	// midpoints between points.
	Edges []float64 `json:"edges"`
	// Values are the values that at least 5 % of the rows have, ascending: such frequent values, and constants, would
	// make bins between edges useless. There are none on a lattice, whose edges separate the points.
	Values []float64 `json:"values"`
	// Shares are the shares of the reference rows, one per bin, in [0,1], before the floor.
	Shares []float64 `json:"shares"`
	// Daily are the rows of each reference day, in the order of [Profile.Days], one number per bin. How the days differ
	// determines the index to expect without drift.
	Daily [][]int `json:"daily"`

	search search
}

// Role is the role of a watched column for the model.
type Role string

// The roles. The zero value stands for [ModelFeature].
const (
	// ModelFeature is an input of the model. The overall index is the mean over these.
	ModelFeature Role = "feature"
	// Score is the model's output.
	Score Role = "score"
	// RawInput is a value that features are computed from, such as the price. It is not always known, so it has its own
	// rows and days.
	RawInput Role = "input"
)

// Domain is the range of possible values of a feature, Low <= x <= High.
type Domain struct {
	Low  float64 `json:"low"`
	High float64 `json:"high"`
}

// A value gets its own bin if at least 1/valueShare of the rows have it.
const valueShare = 20

// newFeature makes the bins of a column; its shares follow from the counts. days lists the row numbers of each day.
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

// bins sets the edges and the single values, from the ordinary values and from all values by row.
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

// clamp keeps the edges within the domain, ascending.
func (f *Feature) clamp() {
	for i, e := range f.Edges {
		if f.Domain != nil {
			f.Edges[i] = min(max(e, f.Domain.Low), f.Domain.High)
		}
	}
	f.Edges = slices.Compact(f.Edges)
}

// within reports whether x is in the domain; NaN never is.
func (f *Feature) within(x float64) bool {
	if f.Domain != nil {
		return f.Domain.Low <= x && x <= f.Domain.High
	}
	return math.Abs(x) <= math.MaxFloat64
}

// Bins returns the number of bins.
func (f *Feature) Bins() int { return len(f.Edges) + 1 + len(f.Values) + 2 }

// The names of the last two bins.
const (
	Missing     = "missing"
	OutOfDomain = "out_of_domain"
)

// BinName returns a bin's name for machines, short and without spaces: q1, q2, ... between the edges, v1, v2, ... for
// single values, [Missing] and [OutOfDomain].
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

// BinRange describes the content of a bin for people: "(0.1, 0.25]", "= 0".
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

// Bin returns the bin of x.
func (f *Feature) Bin(x float64) int { return f.search.bin(x) }

// define returns the bin of x by definition; [Feature.Bin] gives the same result faster.
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

// around returns the interval (low, high] of values that round to v.
func (f *Feature) around(v float64) (low, high float64) {
	if f.Step == 0 {
		return math.Nextafter(v, math.Inf(-1)), v
	}
	return v - f.Step/2, v + f.Step/2
}

// check returns an error if a feature that was read is invalid.
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
				return fmt.Errorf("%s are not ascending numbers in the domain: %v", v.name, v.is)
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
		return errors.New("shares do not match the daily counts")
	}
	return nil
}

// shares returns counts divided by rows.
func shares(counts []int, rows int) []float64 {
	s := make([]float64, len(counts))
	for i, n := range counts {
		s[i] = float64(n) / float64(rows)
	}
	return s
}
