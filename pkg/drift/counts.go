package drift

import (
	"fmt"
	"math"
	"slices"
)

// Counts counts current rows by the bins of a profile, to measure drift. Counts of single days can be merged into any
// window. It is not safe for concurrent use.
type Counts struct {
	profile *Profile
	// bins holds the bins of all features, one after the other.
	bins []uint64
	// scored counts all vectors, inputs those that came with raw inputs.
	scored, inputs rowCount
}

// rowCount is a number of rows and their days.
type rowCount struct {
	rows uint64
	// days are the observed days, ascending; last is the latest one observed.
	days []int
	last int
}

func (t *rowCount) add(day int, rows uint64) {
	if day != t.last || len(t.days) == 0 {
		if i, seen := slices.BinarySearch(t.days, day); !seen {
			t.days = slices.Insert(t.days, i, day)
		}
		t.last = day
	}
	t.rows += rows
}

func (t *rowCount) merge(o rowCount) {
	for _, d := range o.days {
		t.add(d, 0)
	}
	t.rows += o.rows
}

// NewCounts returns empty counts.
func NewCounts(p *Profile) *Counts {
	return &Counts{profile: p, bins: make([]uint64, p.offsets[len(p.Features)])}
}

// maxRows limits the rows of foreign counts to what a float64 represents exactly. Shares of them stay exact, and sums
// over many replicas do not overflow.
const maxRows = 1 << 53

// CountsOf returns counts from another process with the same profile: for each feature the rows in its bins, and the
// days of the vectors and of those with raw inputs, in any order. It returns an error if these are inconsistent, do not
// fit the profile, or have more than 2^53 rows.
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
				return nil, fmt.Errorf("counts of feature %q: more than %d rows, which is the limit", f.Name, uint64(maxRows))
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

// Observe counts one vector on the given UTC day, with a value per feature of the profile, NaN if missing. The raw
// inputs, which come last, may be left out together: they are then not counted. It allocates only for a new day. It
// panics if x has another length.
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

// Merge adds the counts of o. It returns [ErrProfile] if o is of another profile.
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

// Reset drops all rows and days.
func (c *Counts) Reset() {
	for _, t := range []*rowCount{&c.scored, &c.inputs} {
		t.rows, t.days = 0, t.days[:0]
	}
	clear(c.bins)
}

// of returns the row count that feature i belongs to.
func (c *Counts) of(i int) *rowCount {
	if i < c.profile.scored {
		return &c.scored
	}
	return &c.inputs
}

// Rows returns the number of vectors.
func (c *Counts) Rows() uint64 { return c.scored.rows }

// RowsOf returns the number of vectors that had feature i: fewer than all for a raw input.
func (c *Counts) RowsOf(i int) uint64 { return c.of(i).rows }

// Days returns the UTC days with a vector, ascending.
func (c *Counts) Days() []int { return slices.Clone(c.scored.days) }

// DaysOf returns the UTC days with feature i, ascending.
func (c *Counts) DaysOf(i int) []int { return slices.Clone(c.of(i).days) }

// Bins returns the number of rows in each bin of feature i. The slice is the counts' own memory and must not be
// changed.
func (c *Counts) Bins(i int) []uint64 { return c.bins[c.profile.offsets[i]:c.profile.offsets[i+1]] }

// Shares returns the share of rows in each bin of feature i; NaN without rows.
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
