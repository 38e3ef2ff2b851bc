package marketfile

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/market"
)

func simulate(t *testing.T, opts market.SimulateOptions) *market.Simulation {
	t.Helper()
	s, err := market.Simulate(opts)
	if err != nil {
		t.Fatal(err)
	}
	checkBars(t, s.Series().Bars)
	return s
}

func TestWriteBarsRoundTrip(t *testing.T) {
	t.Chdir(t.TempDir())
	simulated := simulate(t, market.SimulateOptions{Seed: 3, Days: 2}).Series()
	for i := range simulated.Bars { // prices in steps of 0.1, which have no exact form
		for b, p := &simulated.Bars[i], 0; p < 6; p++ {
			*[]*float64{&b.Open, &b.High, &b.Low, &b.Close, &b.Bid, &b.Ask}[p] /= 5
		}
	}
	awkward := &market.Series{Symbol: "a b\"c\n", Bars: []market.Bar{
		{Start: 1704153600000, Open: 0.1 + 0.2, High: 1e11 + 1.0/3, Low: 1e-12, Close: 1.0 / 3, Volume: 5e-324},
		{Start: 1704153660000, Open: 1, High: 1, Low: 1, Close: 1, Bid: 1.0 / 3, Ask: 2.0 / 3, Volume: 1e300},
	}}
	for _, want := range []*market.Series{simulated, awkward} {
		t.Run(want.Symbol[:3], func(t *testing.T) {
			var b bytes.Buffer
			if err := market.WriteBars(&b, want); err != nil {
				t.Fatal(err)
			}
			for name, content := range map[string]string{"x.csv": b.String(), "y.csv.gz": gzipped(t, b.String())} {
				got, err := Read(store(t, name, content), Options{})
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
	sim := simulate(t, market.SimulateOptions{Seed: 3, Days: 2})
	var b bytes.Buffer
	if err := market.WriteQuotes(&b, sim.Symbol(), true, sim.Quotes()); err != nil {
		t.Fatal(err)
	}
	file := store(t, "sim-quotes.csv", b.String())
	got, quotes, err := readQuotes(file, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, slices.Collect(sim.Quotes())) {
		t.Error("the quotes changed")
	}
	if !quotes.src.simulated() || quotes.src.symbol != "SIM-PERP" || len(quotes.files) != 1 {
		t.Errorf("got %q, simulated %v, %d files", quotes.src.symbol, quotes.src.simulated(), len(quotes.files))
	}
	bars, err := Read(file, Options{})
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
	sim := simulate(t, market.SimulateOptions{Days: 1})
	if err := market.WriteBars(full{}, sim.Series()); !errors.Is(err, errFull) {
		t.Errorf("WriteBars: got %v, want %v", err, errFull)
	}
	if err := market.WriteQuotes(full{}, "x", true, sim.Quotes()); !errors.Is(err, errFull) {
		t.Errorf("WriteQuotes: got %v, want %v", err, errFull)
	}
}
