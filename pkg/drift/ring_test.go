package drift_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/drift"
)

// seen is one observed vector, for a ring made of a list.
type seen struct {
	hour int64
	x    []float64
}

// windowOf counts the vectors of a window as it is defined.
func windowOf(p *drift.Profile, all []seen, end int64, hours int) *drift.Counts {
	c := drift.NewCounts(p)
	for _, v := range all {
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

// A ring against a list, with hours that come in any order and a clock that mostly goes on.
func TestRingIsAList(t *testing.T) {
	reference, days := mixed(t, 1, 6, 100)
	p := profile(t, reference, days)
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 0))
		ring, list := drift.NewRing(p), []seen{}
		now := int64(400_000) + rng.Int64N(2000)
		for range 3000 {
			now += rng.Int64N(3) * rng.Int64N(2)
			if rng.IntN(400) == 0 {
				now += rng.Int64N(900) // a night, or longer than the ring
			}
			ring.Tick(now)
			hour := now - rng.Int64N(4)*rng.Int64N(250)
			x := []float64{rng.NormFloat64(), rng.Float64(), 1, 7 * rng.NormFloat64()}[:3+rng.IntN(2)]
			ring.Observe(hour, x)
			if hour > now-drift.RingHours {
				list = append(list, seen{hour, x})
			}
		}
		for _, hours := range []int{1, 24, 168, drift.RingHours} {
			got, hoursSeen, _ := ring.Window(now, hours)
			want := windowOf(p, list, now, hours)
			sameCounts(t, "window", p, got, want)
			if got := drift.DaysBefore(now, hoursSeen); !slices.Equal(slices.Sorted(slices.Values(got)), want.Days()) {
				t.Errorf("days of hours: got %v, want %v", got, want.Days())
			}
		}
		total := uint64(0)
		for _, n := range ring.Totals(0) {
			total += n
		}
		if total != 3000 {
			t.Errorf("totals: got %d, want 3000", total)
		}
	}
}

// What a wrong clock does, told by its hours: the ring counts every row once, none ahead, none lost.
func TestRingClock(t *testing.T) {
	reference, days := mixed(t, 1, 6, 100)
	p := profile(t, reference, days)
	const h = 480_000
	tests := []struct {
		name  string
		hours []int64 // the clock, one row each
		at    []int64 // the hours that the rows are counted in
	}{
		{"goes on", []int64{h, h + 1, h + 3}, []int64{h, h + 1, h + 3}},
		{"back by a moment, over the hour", []int64{h, h - 1, h, h + 1}, []int64{h, h, h, h + 1}},
		{"boots in 1970", []int64{h, 0, 0, h + 1, h + 2}, []int64{h, h, h, h + 1, h + 2}},
		{"three days ahead and back", []int64{h, h + 72, h + 72, h, h, h + 1, h + 2}, []int64{h, h + 1, h + 1, h + 1, h + 1, h + 1, h + 2}},
		{"forty days ahead and back", []int64{h, h + 960, h, h + 1}, []int64{h, h + 1, h + 1, h + 1}},
		{"three days back for good", []int64{h, h - 72, h - 71, h - 70}, []int64{h - 71, h - 71, h - 71, h - 70}},
		{"back further and further", []int64{h, h - 1, h - 2, h - 3, h - 2}, []int64{h - 2, h - 2, h - 2, h - 2, h - 2}},
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

func TestRingState(t *testing.T) {
	reference, days := mixed(t, 1, 6, 100)
	p := profile(t, reference, days)
	ring := drift.NewRing(p)
	for hour := range int64(900) {
		ring.Tick(1000 + hour)
		ring.Observe(1000+hour, []float64{0.1 * float64(hour%7), nan, 1, 3}[:3+hour%2])
	}
	raw, err := ring.State("digest")
	if err != nil {
		t.Fatal(err)
	}
	back, err := drift.RestoreRing(p, "digest", raw)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []*drift.Ring{back, ring.Clone()} {
		got, _, _ := r.Window(1899, drift.RingHours)
		want, _, _ := ring.Window(1899, drift.RingHours)
		sameCounts(t, "restored", p, got, want)
		if r.Present() != 1899 || r.Totals(0)[0] != 0 {
			t.Errorf("got present %d, totals %v", r.Present(), r.Totals(0))
		}
	}
	again, err := back.State("digest")
	if err != nil || !bytes.Equal(again, raw) {
		t.Errorf("saved again: %v, the same: %v", err, bytes.Equal(again, raw))
	}

	if _, err := drift.RestoreRing(p, "other", raw); !errors.Is(err, drift.ErrProfile) {
		t.Errorf("another profile: got %v", err)
	}
	for i := 0; i < len(raw); i += 101 {
		bad := bytes.Clone(raw)
		bad[i] ^= 1
		if _, err := drift.RestoreRing(p, "digest", bad); err == nil {
			t.Fatalf("byte %d of %d is flipped and nobody minds", i, len(raw))
		}
	}
	for _, bad := range [][]byte{nil, []byte("{}"), raw[:len(raw)/2], append(bytes.Clone(raw), '{')} {
		if _, err := drift.RestoreRing(p, "digest", bad); !errors.Is(err, drift.ErrState) {
			t.Errorf("%.20q: got %v", bad, err)
		}
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

// sealed is a state of the body with the digest that it must have.
func sealed(t *testing.T, body json.RawMessage) []byte {
	t.Helper()
	sum := sha256.Sum256(body)
	raw, err := json.Marshal(map[string]any{"format": "greenlight/drift_state/v1", "sha256": hex.EncodeToString(sum[:]), "body": body})
	if err != nil {
		t.Skip("no JSON")
	}
	return raw
}

func FuzzRingState(f *testing.F) {
	columns, days := rows(1, 6, 20)
	p, err := drift.NewProfile(columns, days)
	if err != nil {
		f.Fatal(err)
	}
	ring := drift.NewRing(p)
	ring.Observe(5, []float64{1, 2, 3})
	raw, err := ring.State("d")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Fuzz(func(t *testing.T, raw []byte) {
		// The digest is right, so that what is below it is reached.
		var file map[string]json.RawMessage
		if json.Unmarshal(raw, &file) == nil && len(file["body"]) > 0 {
			raw = sealed(t, file["body"])
		}
		r, err := drift.RestoreRing(p, "d", raw)
		if err != nil {
			return
		}
		// What was taken in is a ring like any other.
		r.Tick(r.Present())
		r.Observe(r.Present(), []float64{1, 2, 3})
		if c, _, _ := r.Window(r.Present(), 1); c.Rows() == 0 {
			t.Error("a row was lost")
		}
	})
}

// BenchmarkRingObserve is the row "drift: observe one vector" of the bench: seven features and the hour.
func BenchmarkRingObserve(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 0))
	const n, width = 4096, 7
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
}
