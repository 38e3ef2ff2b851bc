package drift_test

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/drift"
)

// list is a ring by definition: every vector with the hour in which it counts, and the accepted hour.
type list struct {
	rows           []seen
	present, since int64
	began, pending bool
}

// seen is one observed vector.
type seen struct {
	hour int64
	x    []float64
}

func (l *list) tick(hour int64) {
	if !l.began || hour >= l.present {
		l.present, l.began, l.pending = hour, true, false
		return
	}
	if !l.pending || hour < l.since {
		l.pending, l.since = true, hour // the first report of an earlier hour
		return
	}
	if hour == l.since {
		return
	}
	moved := false
	for _, v := range l.rows {
		moved = moved || v.hour > hour
	}
	if moved {
		l.make(hour)
	}
	for i := range l.rows {
		l.rows[i].hour = min(l.rows[i].hour, hour)
	}
	l.present, l.pending = hour, false
}

// make makes room for the hour: hours that are whole rings older are dropped.
func (l *list) make(hour int64) {
	l.rows = slices.DeleteFunc(l.rows, func(v seen) bool { return v.hour < hour && (hour-v.hour)%drift.RingHours == 0 })
}

func (l *list) observe(hour int64, x []float64) {
	if !l.began || hour > l.present {
		l.present, l.began = hour, true
	}
	if hour > l.present-drift.RingHours {
		l.make(hour)
		l.rows = append(l.rows, seen{hour, x})
	}
}

// window counts the vectors of a window by definition.
func (l *list) window(p *drift.Profile, end int64, hours int) *drift.Counts {
	c := drift.NewCounts(p)
	for _, v := range l.rows {
		if v.hour <= end && v.hour > end-int64(hours) {
			c.Observe(-int((end-v.hour)/24), v.x)
		}
	}
	return c
}

func sameCounts(t *testing.T, what string, p *drift.Profile, got, want *drift.Counts) {
	t.Helper()
	for i := range p.Features {
		if !slices.Equal(got.Bins(i), want.Bins(i)) || !slices.Equal(got.DaysOf(i), want.DaysOf(i)) || got.RowsOf(i) != want.RowsOf(i) {
			t.Fatalf("%s: feature %d: got %v of days %v, want %v of %v", what, i, got.Bins(i), got.DaysOf(i), want.Bins(i), want.DaysOf(i))
		}
	}
}

// randomVector returns a vector of the mixed reference, with or without its raw input.
func randomVector(rng *rand.Rand) []float64 {
	return []float64{rng.NormFloat64(), rng.Float64(), 1, 7 * rng.NormFloat64()}[:3+rng.IntN(2)]
}

// Compares a ring with a list. The clock advances, stands still, sleeps, and is set wrong and right by hours, days and
// months. Some rows are for earlier hours.
func TestRingIsAList(t *testing.T) {
	reference, days := mixed(t, 1, 6, 100)
	p := profile(t, reference, days)
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 0))
		ring, want := drift.NewRing(p), &list{}
		now, wrong, observed := int64(400_000)+rng.Int64N(2000), int64(0), uint64(0)
		for step := range 3000 {
			now += rng.Int64N(3) * rng.Int64N(2)
			switch rng.IntN(300) {
			case 0:
				now += rng.Int64N(900) // a night, or longer than the ring
			case 1:
				wrong = rng.Int64N(200) - 100
			case 2:
				wrong = rng.Int64N(3000) - 1500
			case 3, 4, 5:
				wrong = 0
			}
			ring.Tick(now + wrong)
			want.tick(now + wrong)
			hour, x := ring.Present(), randomVector(rng)
			if rng.IntN(3) == 0 {
				hour -= rng.Int64N(4) * rng.Int64N(250)
			}
			ring.Observe(hour, x)
			want.observe(hour, x)
			observed++
			if ring.Present() != want.present {
				t.Fatalf("step %d: present: got %d, want %d", step, ring.Present(), want.present)
			}
			if step%100 > 0 {
				continue
			}
			for _, hours := range []int{1, 24, 168, drift.RingHours} {
				end := want.present - rng.Int64N(drift.RingHours)*rng.Int64N(2)
				got, hoursSeen, _ := ring.Window(end, hours)
				counts := want.window(p, end, hours)
				sameCounts(t, "window", p, got, counts)
				if got := drift.DaysBefore(end, hoursSeen); !slices.Equal(slices.Sorted(slices.Values(got)), counts.Days()) || len(got) > max(hours/24, 1) {
					t.Errorf("days of hours: got %v, want %v", got, counts.Days())
				}
			}
			if ahead, _, _ := ring.Window(want.present+drift.RingHours, drift.RingHours); ahead.Rows() > 0 {
				t.Fatalf("step %d: %d rows lie in future hours", step, ahead.Rows())
			}
			if rng.IntN(4) == 0 { // a restart
				ring = restarted(t, p, ring)
				want.pending = false
				observed = 0
			}
			total := uint64(0)
			for _, n := range ring.Totals(0) {
				total += n
			}
			if total != observed {
				t.Errorf("totals: got %d, want %d", total, observed)
			}
		}
	}
}

// restarted returns the ring restored from its file.
func restarted(t *testing.T, p *drift.Profile, r *drift.Ring) *drift.Ring {
	t.Helper()
	raw, err := r.State(owner)
	if err != nil {
		t.Fatal(err)
	}
	back, err := drift.RestoreRing(p, owner, raw)
	if err != nil {
		t.Fatal(err)
	}
	return back
}

// A wrong clock, given by its hours: the ring counts every row once, none ahead, none lost.
func TestRingClock(t *testing.T) {
	reference, days := mixed(t, 1, 6, 100)
	p := profile(t, reference, days)
	const h = 480_000
	tests := []struct {
		name  string
		hours []int64 // the clock, one row each
		at    []int64 // the hours that the rows are counted in
	}{
		{"advances", []int64{h, h + 1, h + 3}, []int64{h, h + 1, h + 3}},
		{"back by a moment, over the hour", []int64{h, h - 1, h, h + 1}, []int64{h, h, h, h + 1}},
		{"boots in 1970", []int64{h, 0, 0, h + 1, h + 2}, []int64{h, h, h, h + 1, h + 2}},
		{"three days ahead and back", []int64{h, h + 72, h + 72, h, h, h + 1, h + 2}, []int64{h, h + 1, h + 1, h + 1, h + 1, h + 1, h + 2}},
		{"forty days ahead and back", []int64{h, h + 960, h, h + 1}, []int64{h, h + 1, h + 1, h + 1}},
		{"three days back for good", []int64{h, h - 72, h - 71, h - 70}, []int64{h - 71, h - 71, h - 71, h - 70}},
		{"back again and again", []int64{h, h - 1, h - 2, h - 3, h - 2}, []int64{h - 2, h - 2, h - 2, h - 2, h - 2}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ring, want := drift.NewRing(p), map[int64]uint64{}
			for i, hour := range tt.hours {
				ring.Tick(hour)
				ring.Observe(ring.Present(), []float64{0, 0, 1, float64(i)})
				want[tt.at[i]]++
			}
			end := ring.Present()
			if end != tt.at[len(tt.at)-1] {
				t.Errorf("present: got %d, want %d", end, tt.at[len(tt.at)-1])
			}
			got := map[int64]uint64{}
			for hour := end - drift.RingHours; hour <= end+1000; hour++ {
				if c, _, _ := ring.Window(hour, 1); c.Rows() > 0 {
					got[hour] = c.Rows()
				}
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

// Rows of future hours are dropped, and the newest remaining hour becomes the present.
func TestRingDropAfter(t *testing.T) {
	reference, days := mixed(t, 1, 6, 100)
	ring := drift.NewRing(profile(t, reference, days))
	const h = 480_000
	for _, hour := range []int64{h, h + 1, h + 3, h + 5, h + 5, h + 400*24} {
		ring.Observe(hour, []float64{0, 0, 1})
	}
	for _, tt := range []struct {
		after, present int64
		dropped        uint64
	}{{h + 400*24, h + 400*24, 0}, {h + 4, h + 3, 3}, {h + 4, h + 3, 0}, {h - 1, 0, 3}} {
		if got := ring.DropAfter(tt.after); got != tt.dropped || ring.Present() != tt.present {
			t.Errorf("after %d: dropped %d, present %d, want %d and %d", tt.after-h, got, ring.Present(), tt.dropped, tt.present)
		}
	}
	ring.Observe(h-10, []float64{0, 0, 1})
	if c, _, _ := ring.Window(h-10, 24); ring.Present() != h-10 || c.Rows() != 1 {
		t.Errorf("present %d, %d rows, want it to restart", ring.Present(), c.Rows())
	}
}

func TestRingObserveDoesNotAllocate(t *testing.T) {
	reference, days := mixed(t, 1, 6, 100)
	ring := drift.NewRing(profile(t, reference, days))
	x, hour := []float64{0.3, 0.1, 1, 2}, int64(480_000)
	if n := testing.AllocsPerRun(2000, func() {
		hour++
		ring.Tick(hour)
		ring.Observe(hour, x)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkRingObserve counts one vector and passes the hour of the clock. A vector
// has seven values, the features of v1.8.1 and its score, or eleven with the raw inputs.
func BenchmarkRingObserve(b *testing.B) {
	for _, width := range []int{7, 11} {
		b.Run(strconv.Itoa(width), func(b *testing.B) {
			rng := rand.New(rand.NewPCG(1, 0))
			const n = 4096
			columns := make([]drift.Column, width)
			for j := range columns {
				columns[j].Name = string(rune('a' + j))
				for range n {
					columns[j].Values = append(columns[j].Values, rng.NormFloat64())
				}
			}
			ring := drift.NewRing(profile(b, columns, make([]int, n)))
			vectors := make([][]float64, n)
			for i := range vectors {
				for j := range columns {
					vectors[i] = append(vectors[i], columns[j].Values[i])
				}
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				ring.Tick(480_000 + int64(i>>16))
				ring.Observe(ring.Present(), vectors[i%n])
				i++
			}
		})
	}
}
