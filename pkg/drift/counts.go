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
	rows    uint64
	// bins are those of all features, one after the other.
	bins []uint64
	// days are those seen, ascending; last is the latest one observed.
	days []int
	last int
}

// NewCounts are counts of nothing.
func NewCounts(p *Profile) *Counts {
	return &Counts{profile: p, bins: make([]uint64, p.offsets[len(p.Features)])}
}

// Observe counts one vector, with a value per feature of the profile, NaN where there is none, on the given UTC day. It
// allocates nothing but for a new day. It panics when x has another length.
func (c *Counts) Observe(day int, x []float64) {
	features := c.profile.Features
	if len(x) != len(features) {
		panic(fmt.Sprintf("drift: vector of %d values for %d features", len(x), len(features)))
	}
	if day != c.last || c.rows == 0 {
		c.see(day)
		c.last = day
	}
	c.rows++
	at := 0
	for i := range features {
		f := &features[i]
		c.bins[at+f.search.bin(x[i])]++
		at += len(f.Shares)
	}
}

func (c *Counts) see(day int) {
	if i, seen := slices.BinarySearch(c.days, day); !seen {
		c.days = slices.Insert(c.days, i, day)
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
	for _, d := range o.days {
		c.see(d)
	}
	if c.rows == 0 {
		c.last = o.last
	}
	c.rows += o.rows
	return nil
}

// Reset forgets all rows and days.
func (c *Counts) Reset() {
	c.rows, c.days = 0, c.days[:0]
	clear(c.bins)
}

// Rows is the number of vectors.
func (c *Counts) Rows() uint64 { return c.rows }

// Days are the UTC days that have a vector, ascending.
func (c *Counts) Days() []int { return slices.Clone(c.days) }

// Bins are the numbers of rows in the bins of feature i. It is the counts' own memory and must not be changed.
func (c *Counts) Bins(i int) []uint64 { return c.bins[c.profile.offsets[i]:c.profile.offsets[i+1]] }

// Shares are the shares of rows in the bins of feature i; NaN without rows.
func (c *Counts) Shares(i int) []float64 {
	bins := c.Bins(i)
	s := make([]float64, len(bins))
	for b, n := range bins {
		s[b] = math.NaN()
		if c.rows > 0 {
			s[b] = float64(n) / float64(c.rows)
		}
	}
	return s
}
