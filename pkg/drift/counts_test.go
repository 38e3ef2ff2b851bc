package drift_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/drift"
)

func TestObserve(t *testing.T) {
	p := profile(t, []drift.Column{{Name: "x", Values: upTo(100)}, {Name: "one", Values: slices.Repeat([]float64{1}, 100)}}, make([]int, 100))
	c := drift.NewCounts(p)
	c.Observe(12, []float64{5, 1})
	c.Observe(10, []float64{95, 1})
	c.Observe(12, []float64{nan, 2})
	c.Observe(12, []float64{inf, 1})
	if got, want := c.Days(), []int{10, 12}; !slices.Equal(got, want) || c.Rows() != 4 {
		t.Errorf("got %d rows on days %v, want 4 on %v", c.Rows(), got, want)
	}
	if got, want := c.Bins(0), []uint64{1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1}; !slices.Equal(got, want) {
		t.Errorf("x: got %v, want %v", got, want)
	}
	if got, want := c.Bins(1), []uint64{0, 1, 3, 0, 0}; !slices.Equal(got, want) {
		t.Errorf("one: got %v, want %v", got, want)
	}
	if got, want := c.Shares(1), []float64{0, .25, .75, 0, 0}; !slices.Equal(got, want) {
		t.Errorf("shares: got %v, want %v", got, want)
	}
	c.Reset()
	if c.Rows() != 0 || len(c.Days()) != 0 || !math.IsNaN(c.Shares(0)[0]) {
		t.Errorf("after reset: %d rows on days %v", c.Rows(), c.Days())
	}
	if overall, features := p.PSI(c); !math.IsNaN(overall) || !math.IsNaN(features[1]) {
		t.Errorf("no rows: PSI %v and %v, want NaN", overall, features)
	}
	c.Observe(12, []float64{5, 1})
	if got := c.Days(); !slices.Equal(got, []int{12}) {
		t.Errorf("observed after reset: days %v", got)
	}
}

// By hand: the reference has ten rows in each of ten bins; the current data has all rows in the first two bins, in
// equal parts.
func TestProfilePSI(t *testing.T) {
	p := profile(t, []drift.Column{{Name: "x", Values: upTo(100)}, {Name: "one", Values: slices.Repeat([]float64{1}, 100)}}, make([]int, 100))
	c := drift.NewCounts(p)
	for _, x := range []float64{1, 2, 11, 12} {
		c.Observe(0, []float64{x, 1})
	}
	overall, features := p.PSI(c)
	// Twice (0.5 - 0.1) ln 5, and eight times (0.0001 - 0.1) ln 0.001. Missing and out of domain are empty in both.
	want := 0.8*math.Log(5) + 0.7992*math.Log(1000)
	if !same(features[0], want) || features[1] != 0 || !same(overall, want/2) {
		t.Errorf("got %v and %v, want %v and 0, overall half of it", overall, features, want)
	}
}

func TestPSIProperties(t *testing.T) {
	reference, days := rows(1, 8, 100)
	present, presentDays := rows(2, 5, 100)
	present[0].Values[3], present[1].Values[4] = nan, inf
	p := profile(t, reference, days)
	overall, features := p.PSI(count(p, present, presentDays))
	if !(overall > 0 && features[0] > 0 && features[1] > 0 && features[2] == 0) {
		t.Fatalf("got %v and %v", overall, features)
	}
	check := func(name string, p *drift.Profile, c *drift.Counts) {
		t.Helper()
		if o, f := p.PSI(c); o != overall || !slices.Equal(f, features) {
			t.Errorf("%s: got %v and %v, want %v and %v", name, o, f, overall, features)
		}
	}

	if o, f := p.PSI(count(p, reference, days)); o != 0 || slices.Max(f) != 0 {
		t.Errorf("against itself: got %v and %v", o, f)
	}

	rng := rand.New(rand.NewPCG(4, 0))
	x := make([]float64, len(present))
	c := drift.NewCounts(p)
	for _, i := range rng.Perm(len(presentDays)) {
		for j := range x {
			x[j] = present[j].Values[i]
		}
		c.Observe(presentDays[i], x)
	}
	check("rows in another order", p, c)

	parts := []*drift.Counts{drift.NewCounts(p), drift.NewCounts(p), drift.NewCounts(p)}
	for i, day := range presentDays {
		for j := range x {
			x[j] = present[j].Values[i]
		}
		parts[rng.IntN(len(parts))].Observe(day, x)
	}
	for name, order := range map[string][]int{"forwards": {0, 1, 2}, "backwards": {2, 1, 0}} {
		merged := drift.NewCounts(p)
		for _, i := range order {
			if err := merged.Merge(parts[i]); err != nil {
				t.Fatal(err)
			}
		}
		check("merged "+name, p, merged)
		if !slices.Equal(merged.Days(), c.Days()) || merged.Rows() != c.Rows() {
			t.Errorf("merged %s: %d rows on %v, want %d on %v", name, merged.Rows(), merged.Days(), c.Rows(), c.Days())
		}
	}

	// In another unit the bins move with the values. The factor is a power of two, so nothing is rounded.
	scale := func(columns []drift.Column) []drift.Column {
		scaled := slices.Clone(columns)
		for j := range scaled {
			scaled[j].Values = slices.Clone(columns[j].Values)
			for i := range scaled[j].Values {
				scaled[j].Values[i] *= 1024
			}
		}
		return scaled
	}
	scaled := profile(t, scale(reference), days)
	check("rescaled", scaled, count(scaled, scale(present), presentDays))
	if reflect.DeepEqual(scaled.Features[0].Edges, p.Features[0].Edges) {
		t.Error("rescaled: the edges did not change")
	}
}

func TestCountsOfAnotherProfile(t *testing.T) {
	columns, days := rows(1, 3, 10)
	p, other := profile(t, columns, days), profile(t, columns, days)
	if err := drift.NewCounts(p).Merge(drift.NewCounts(other)); !errors.Is(err, drift.ErrProfile) {
		t.Errorf("merge: got %v, want %v", err, drift.ErrProfile)
	}
	if _, err := p.Snapshot(drift.NewCounts(other), drift.NewNulls(p, 10, 1), drift.DefaultLimits()); !errors.Is(err, drift.ErrProfile) {
		t.Errorf("snapshot: got %v, want %v", err, drift.ErrProfile)
	}
	panics := func(name string, f func()) {
		t.Helper()
		defer func() {
			if recover() == nil {
				t.Errorf("%s: no panic", name)
			}
		}()
		f()
	}
	panics("PSI", func() { p.PSI(drift.NewCounts(other)) })
	panics("short vector", func() { drift.NewCounts(p).Observe(1, []float64{1}) })
}

func TestObserveDoesNotAllocate(t *testing.T) {
	columns, days := rows(1, 3, 100)
	c := drift.NewCounts(profile(t, columns, days))
	x := []float64{0.3, 0.1, 1}
	c.Observe(7, x)
	if n := testing.AllocsPerRun(1000, func() { c.Observe(7, x) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkObserve(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 0))
	const n, width = 4096, 7
	columns := make([]drift.Column, width)
	for j := range columns {
		columns[j].Name = string(rune('a' + j))
		for range n {
			v := 1.0 // the first feature is bias
			if j > 0 {
				v = rng.NormFloat64()
			}
			columns[j].Values = append(columns[j].Values, v)
		}
	}
	p := profile(b, columns, make([]int, n))
	vectors := make([][]float64, n)
	for i := range vectors {
		for j := range columns {
			vectors[i] = append(vectors[i], columns[j].Values[i])
		}
	}
	c := drift.NewCounts(p)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		c.Observe(19_000, vectors[i%n])
		i++
	}
}
