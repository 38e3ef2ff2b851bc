package market

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

func mustSimulate(t testing.TB, opts SimulateOptions) *Simulation {
	t.Helper()
	s, err := Simulate(opts)
	if err != nil {
		t.Fatalf("Simulate: %v", err)
	}
	return s
}

// written returns the quotes and bars of a simulation as files.
func written(t testing.TB, s *Simulation) string {
	t.Helper()
	var b bytes.Buffer
	if err := WriteQuotes(&b, s.Symbol(), true, s.Quotes()); err != nil {
		t.Fatal(err)
	}
	if err := WriteBars(&b, s.Series()); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestSimulateSameSeedSameBytes(t *testing.T) {
	one, again := written(t, mustSimulate(t, SimulateOptions{Seed: 7, Days: 2})), written(t, mustSimulate(t, SimulateOptions{Seed: 7, Days: 2}))
	if one != again {
		t.Error("the same seed gave other bytes")
	}
	other := written(t, mustSimulate(t, SimulateOptions{Seed: 8, Days: 2}))
	if one == other {
		t.Error("another seed gave the same bytes")
	}
	longer := written(t, mustSimulate(t, SimulateOptions{Seed: 7, Days: 3}))
	const quotes = 10_000 // these bytes are certainly part of the first day
	if one[:quotes] != longer[:quotes] {
		t.Error("a longer market starts differently")
	}
}

func TestSimulateGolden(t *testing.T) {
	// If this digest changes, every figure made with the simulator changes: say so in CHANGELOG.
	const want = "9289f091fbbc877c1bfd027bbf3033c2bb0af684925a356cfb72047ecbd395c0"
	sum := sha256.Sum256([]byte(written(t, mustSimulate(t, SimulateOptions{Seed: 1, Days: 1}))))
	if got := hex.EncodeToString(sum[:]); got != want {
		t.Errorf("digest of the first day of seed 1: got %s, want %s", got, want)
	}
}

func TestSimulateOptions(t *testing.T) {
	tests := []struct {
		name string
		opts SimulateOptions
		want string
	}{
		{"negative days", SimulateOptions{Days: -1}, "simulate: days -1: want 1 to 3660"},
		{"too many days", SimulateOptions{Days: 4000}, "simulate: days 4000: want 1 to 3660"},
		{"half a minute", SimulateOptions{Start: time.Unix(1736121630, 0).UTC()}, "want a whole minute"},
		{"too early", SimulateOptions{Start: time.Date(1960, 1, 1, 0, 0, 0, 0, time.UTC)}, "want 1973 to 2189"},
		{"price", SimulateOptions{StartPrice: -5}, "simulate: start price -5: want 1e-6 to 1e9"},
		{"price not a number", SimulateOptions{StartPrice: math.NaN()}, "simulate: start price NaN: want 1e-6 to 1e9"},
		{"coarse ticks", SimulateOptions{TickSize: 100}, "simulate: tick size 100: want 1e-8 to 1e-3 of the start price 50000"},
		{"drift day", SimulateOptions{Drift: Drift{Day: -1}}, "drift: want a day"},
		{"drift spread", SimulateOptions{Drift: Drift{Spread: 1e6}}, "drift: want multipliers"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Simulate(tt.opts)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestSimulateDefaults(t *testing.T) {
	s := mustSimulate(t, SimulateOptions{}).Series()
	if s.Symbol != "SIM-PERP" || !s.Simulated {
		t.Errorf("got symbol %q, simulated %v", s.Symbol, s.Simulated)
	}
	if got, want := len(s.Bars), 42*24*60; got != want {
		t.Errorf("bars: got %d, want %d", got, want)
	}
	if got, want := s.Bars[0].Start, time.Date(2025, 1, 6, 0, 0, 0, 0, time.UTC).UnixMilli(); got != want {
		t.Errorf("start: got %d, want %d", got, want)
	}
	if p := s.Bars[0].Open; math.Abs(p/50_000-1) > 0.01 {
		t.Errorf("first price: got %v, want about 50000", p)
	}
}

func TestSimulateQuotes(t *testing.T) {
	for _, opts := range []SimulateOptions{
		{Seed: 1, Days: 3},
		{Seed: 2, Days: 3, StartPrice: 1.1, TickSize: 0.00001},
		{Seed: 3, Days: 3, StartPrice: 0.00002, TickSize: 1e-8},
		{Seed: 4, Days: 3, StartPrice: 7, TickSize: 0.003}, // not a whole number of ticks per unit
	} {
		t.Run(fmt.Sprint(opts.StartPrice), func(t *testing.T) {
			s := mustSimulate(t, opts)
			n, last := 0, s.opts.Start.UnixMilli()-1
			for q := range s.Quotes() {
				n++
				if q.Time <= last || q.Bid <= 0 || q.Ask <= q.Bid || q.BidSize <= 0 || q.AskSize <= 0 {
					t.Fatalf("quote %d: got %+v after %d", n, q, last)
				}
				if ticks := q.Bid / s.opts.TickSize; math.Abs(ticks-math.Round(ticks)) > 1e-6*max(1, ticks*1e-6) {
					t.Fatalf("quote %d: bid %v is not on a tick", n, q.Bid)
				}
				last = q.Time
			}
			minutes := opts.Days * 24 * 60
			if perMinute := float64(n) / float64(minutes); perMinute < 3 || perMinute > 6 {
				t.Errorf("quotes a minute: got %.2f, want 3 to 6", perMinute)
			}
			if got := len(s.Series().Bars); got != minutes {
				t.Errorf("bars: got %d, want %d", got, minutes)
			}
		})
	}
}

func TestSimulateStops(t *testing.T) {
	n := 0
	for range mustSimulate(t, SimulateOptions{}).Quotes() {
		if n++; n == 3 {
			break
		}
	}
	if n != 3 {
		t.Errorf("got %d quotes, want 3", n)
	}
}

func TestSimulateDrift(t *testing.T) {
	calm := mustSimulate(t, SimulateOptions{Seed: 5, Days: 9}).Series().Bars
	wild := mustSimulate(t, SimulateOptions{Seed: 5, Days: 9, Drift: Drift{Day: 3, Days: 3, Volatility: 2, Spread: 3}}).Series().Bars
	const day = 24 * 60
	if !slices.Equal(calm[:3*day], wild[:3*day]) {
		t.Error("the days before the drift changed")
	}
	ratio := func(f func(Bar, Bar) float64, from, to int) float64 {
		sum := [2]float64{}
		for i := from + 1; i < to; i++ {
			sum[0] += f(calm[i-1], calm[i])
			sum[1] += f(wild[i-1], wild[i])
		}
		return sum[1] / sum[0]
	}
	size := func(a, b Bar) float64 { return math.Abs(math.Log(b.Close / a.Close)) }
	width := func(_, b Bar) float64 { return (b.Ask - b.Bid) / b.Close }
	for _, tt := range []struct {
		name     string
		f        func(Bar, Bar) float64
		from, to int
		want     float64
	}{
		{"volatility during", size, 3 * day, 6 * day, 2},
		{"spread during", width, 3 * day, 6 * day, 3},
		{"volatility after", size, 6*day + 1, 9 * day, 1},
		{"spread after", width, 6*day + 1, 9 * day, 1},
	} {
		if got := ratio(tt.f, tt.from, tt.to); math.Abs(got/tt.want-1) > 0.1 {
			t.Errorf("%s: got %.2f times, want about %v", tt.name, got, tt.want)
		}
	}
}

func BenchmarkSimulate(b *testing.B) {
	s := mustSimulate(b, SimulateOptions{})
	for b.Loop() {
		s.Series()
	}
}

func BenchmarkWriteQuotes(b *testing.B) {
	s := mustSimulate(b, SimulateOptions{})
	for b.Loop() {
		if err := WriteQuotes(io.Discard, "SIM-PERP", true, s.Quotes()); err != nil {
			b.Fatal(err)
		}
	}
}
