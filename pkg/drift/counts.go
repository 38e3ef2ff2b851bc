package drift

import (
	"fmt"
	"math"
	"slices"
)

// Counts are rows counted by the bins of a profile: the present, as far as drift is concerned. Counts of single days
// can be kept and merged into any window. They are not safe for concurrent use.
type Counts struct {
	profile *Profile
	// bins are those of all features, one after the other.
	bins []uint64
	// scored are the vectors, inputs those of them that came with raw inputs.
	scored, inputs tally
}

// tally is how many rows there are, and of which days.
type tally struct {
	rows uint64
	// days are those seen, ascending; last is the latest one observed.
	days []int
	last int
}

func (t *tally) add(day int, rows uint64) {
	if day != t.last || len(t.days) == 0 {
		if i, seen := slices.BinarySearch(t.days, day); !seen {
			t.days = slices.Insert(t.days, i, day)
		}
		t.last = day
	}
	t.rows += rows
}

func (t *tally) merge(o tally) {
	for _, d := range o.days {
		t.add(d, 0)
	}
	t.rows += o.rows
}

// NewCounts are counts of nothing.
func NewCounts(p *Profile) *Counts {
	return &Counts{profile: p, bins: make([]uint64, p.offsets[len(p.Features)])}
}

// maxRows is how many rows counts from elsewhere may be of: as many as a float64 tells apart, so that shares of them are right
// and sums of many replicas' do not overflow.
const maxRows = 1 << 53

// CountsOf are counts that were made elsewhere with the same profile: for each feature the rows in its bins, and the
// days of the vectors and of those with raw inputs, in any order. It fails when these do not agree with each other or
// with the profile, or are of more rows than have ever been counted anywhere (2^53).
func CountsOf(p *Profile, bins [][]uint64, days, inputDays []int) (*Counts, error) {
	if len(bins) != len(p.Features) {
		return nil, fmt.Errorf("counts of %d features: the profile has %d", len(bins), len(p.Features))
	}
	c := NewCounts(p)
	for i, counts := range bins {
		f := &p.Features[i]
		if len(counts) != f.Bins() {
			return nil, fmt.Errorf("counts of feature %q in %d bins: the profile has %d", f.Name, len(counts), f.Bins())
		}
		rows := uint64(0)
		for b, n := range counts {
			if n > maxRows-rows {
				return nil, fmt.Errorf("counts of feature %q: more than %d rows, which nobody has counted", f.Name, uint64(maxRows))
			}
			c.Bins(i)[b] = n
			rows += n
		}
		t := c.of(i)
		if first := i == 0 || i == p.scored; first {
			t.rows = rows
		} else if t.rows != rows {
			return nil, fmt.Errorf("counts of feature %q: %d rows, but others have %d", f.Name, rows, t.rows)
		}
	}
	for _, d := range days {
		c.scored.add(d, 0)
	}
	for _, d := range inputDays {
		c.inputs.add(d, 0)
	}
	if (c.scored.rows > 0) != (len(days) > 0) || (c.inputs.rows > 0) != (len(inputDays) > 0) || c.inputs.rows > c.scored.rows {
		return nil, fmt.Errorf("counts of %d rows on %d days, %d on %d of them with raw inputs: they do not agree",
			c.scored.rows, len(days), c.inputs.rows, len(inputDays))
	}
	return c, nil
}

// Observe counts one vector, with a value per feature of the profile, NaN where it is missing, on the given UTC day. The
// raw inputs, which come last, may be left out as a whole: they then count nowhere. It allocates nothing but for a new
// day. It panics when x has another length.
func (c *Counts) Observe(day int, x []float64) {
	features := c.profile.Features
	if len(x) != len(features) && len(x) != c.profile.scored {
		panic(fmt.Sprintf("drift: vector of %d values for %d features, %d of them scored", len(x), len(features), c.profile.scored))
	}
	c.scored.add(day, 1)
	if len(x) > c.profile.scored {
		c.inputs.add(day, 1)
	}
	at := 0
	for i, v := range x {
		f := &features[i]
		c.bins[at+f.search.bin(v)]++
		at += len(f.Shares)
	}
}

// Merge adds what o has counted. It fails with [ErrProfile] when o is of another profile.
func (c *Counts) Merge(o *Counts) error {
	if c.profile != o.profile {
		return ErrProfile
	}
	for i, n := range o.bins {
		c.bins[i] += n
	}
	c.scored.merge(o.scored)
	c.inputs.merge(o.inputs)
	return nil
}

// Reset forgets all rows and days.
func (c *Counts) Reset() {
	for _, t := range []*tally{&c.scored, &c.inputs} {
		t.rows, t.days = 0, t.days[:0]
	}
	clear(c.bins)
}

// of is the tally that feature i belongs to.
func (c *Counts) of(i int) *tally {
	if i < c.profile.scored {
		return &c.scored
	}
	return &c.inputs
}

// Rows is the number of vectors.
func (c *Counts) Rows() uint64 { return c.scored.rows }

// RowsOf is the number of vectors that had feature i: fewer than all of them for a raw input.
func (c *Counts) RowsOf(i int) uint64 { return c.of(i).rows }

// Days are the UTC days that have a vector, ascending.
func (c *Counts) Days() []int { return slices.Clone(c.scored.days) }

// DaysOf are the UTC days that have feature i, ascending.
func (c *Counts) DaysOf(i int) []int { return slices.Clone(c.of(i).days) }

// Bins are the numbers of rows in the bins of feature i. It is the counts' own memory and must not be changed.
func (c *Counts) Bins(i int) []uint64 { return c.bins[c.profile.offsets[i]:c.profile.offsets[i+1]] }

// Shares are the shares of rows in the bins of feature i; NaN without rows.
func (c *Counts) Shares(i int) []float64 {
	bins, rows := c.Bins(i), c.RowsOf(i)
	s := make([]float64, len(bins))
	for b, n := range bins {
		s[b] = math.NaN()
		if rows > 0 {
			s[b] = float64(n) / float64(rows)
		}
	}
	return s
}
