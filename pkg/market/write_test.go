package market

import (
	"bytes"
	"errors"
	"slices"
	"testing"
)

func TestWriteBarsRoundTrip(t *testing.T) {
	t.Chdir(t.TempDir())
	simulated := mustSimulate(t, SimulateOptions{Seed: 3, Days: 2, TickSize: 0.1}).Series()
	awkward := &Series{Symbol: "a b\"c\n", Bars: []Bar{
		{Start: 1704153600000, Open: 0.1 + 0.2, High: 1e11 + 1.0/3, Low: 1e-12, Close: 1.0 / 3, Volume: 5e-324},
		{Start: 1704153660000, Open: 1, High: 1, Low: 1, Close: 1, Bid: 1.0 / 3, Ask: 2.0 / 3, Volume: 1e300},
	}}
	for _, want := range []*Series{simulated, awkward} {
		t.Run(want.Symbol[:3], func(t *testing.T) {
			var b bytes.Buffer
			if err := WriteBars(&b, want); err != nil {
				t.Fatal(err)
			}
			for name, content := range map[string]string{"x.csv": b.String(), "y.csv.gz": gzipped(t, b.String())} {
				got, err := Read(store(t, name, content), ReadOptions{})
				if err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(got.Bars, want.Bars) {
					t.Errorf("%s: the bars changed", name)
				}
				if got.Symbol != want.Symbol || got.Simulated != want.Simulated {
					t.Errorf("%s: got %q, simulated %v; want %q, %v", name, got.Symbol, got.Simulated, want.Symbol, want.Simulated)
				}
			}
		})
	}
}

func TestWriteQuotesRoundTrip(t *testing.T) {
	t.Chdir(t.TempDir())
	sim := mustSimulate(t, SimulateOptions{Seed: 3, Days: 2})
	var b bytes.Buffer
	if err := WriteQuotes(&b, sim.Symbol(), true, sim.Quotes()); err != nil {
		t.Fatal(err)
	}
	file := store(t, "sim-quotes.csv", b.String())
	quotes, err := ReadQuotes(file, ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var got []Quote
	for q, err := range quotes.All() {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, q)
	}
	if !slices.Equal(got, slices.Collect(sim.Quotes())) {
		t.Error("the quotes changed")
	}
	if !quotes.Simulated || quotes.Symbol != "SIM-PERP" || len(quotes.Files) != 1 {
		t.Errorf("got %q, simulated %v, %d files", quotes.Symbol, quotes.Simulated, len(quotes.Files))
	}
	bars, err := Read(file, ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(bars.Bars, sim.Series().Bars) || !bars.Simulated {
		t.Error("the bars of the quotes on disk differ from the simulation's")
	}
}

// full is a writer without space.
type full struct{}

var errFull = errors.New("disk full")

func (full) Write([]byte) (int, error) { return 0, errFull }

func TestWriteFails(t *testing.T) {
	sim := mustSimulate(t, SimulateOptions{Days: 1})
	if err := WriteBars(full{}, sim.Series()); !errors.Is(err, errFull) {
		t.Errorf("WriteBars: got %v, want %v", err, errFull)
	}
	if err := WriteQuotes(full{}, "x", true, sim.Quotes()); !errors.Is(err, errFull) {
		t.Errorf("WriteQuotes: got %v, want %v", err, errFull)
	}
}
