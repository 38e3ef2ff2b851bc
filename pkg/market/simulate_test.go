package market

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"math"
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
	s := mustSimulate(t, SimulateOptions{Seed: 1, Days: 3})
	n, last := 0, int64(startMS-1)
	for q := range s.Quotes() {
		n++
		if q.Time <= last || q.Bid <= 0 || q.Ask <= q.Bid || q.BidSize <= 0 || q.AskSize <= 0 {
			t.Fatalf("quote %d: got %+v after %d", n, q, last)
		}
		if ticks := q.Bid / tickSize; ticks != math.Round(ticks) {
			t.Fatalf("quote %d: bid %v is not on a tick", n, q.Bid)
		}
		last = q.Time
	}
	const minutes = 3 * 24 * 60
	if perMinute := float64(n) / minutes; perMinute < 3 || perMinute > 6 {
		t.Errorf("quotes a minute: got %.2f, want 3 to 6", perMinute)
	}
	if got := len(s.Series().Bars); got != minutes {
		t.Errorf("bars: got %d, want %d", got, minutes)
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
