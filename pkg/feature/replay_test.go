package feature

import (
	"path/filepath"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/marketfile"
)

// replays lists the data sets of GREENLIGHT_DATA, with every file.
var replays = []struct {
	path, symbol string
	ticks        bool
	trades       bool
	crossed      bool // marketfile.Read keeps the crossed quotes of this feed
}{
	{path: "btcperp-ftx-1m"},
	{path: "filusdt-binance-1m"},
	{path: "btcusd-bitfinex-1m"},
	{path: "gbpusd-fxcm-1m-bidask", crossed: true},
	{path: "eurusd-quotes-2014-05", symbol: "fxcm/minute", crossed: true},
	{path: "eurusd-quotes-2014-05", symbol: "oanda/minute"},
	{path: "eurusd-quotes-2014-05", symbol: "fxcm/tick", ticks: true, crossed: true},
	{path: "eurusd-quotes-2014-05", symbol: "oanda/tick", ticks: true},
	{path: "coinbase-l1-minute", symbol: "btcusd"},
	{path: "coinbase-l1-minute", symbol: "ethusd"},
	{path: "coinbase-l1-minute", symbol: "ltcusd"},
	{path: "coinbase-l1-minute", symbol: "btceur"},
	{path: "coinbase-l1-minute", symbol: "btcusd", trades: true},
	{path: "coinbase-l1-minute", symbol: "ethusd", trades: true},
	{path: "binance-bookticker-2024-08", symbol: "BTCUSD_PERP", ticks: true},
	{path: "binance-bookticker-2024-08", symbol: "ETHUSD_PERP", ticks: true},
	{path: "binance-bookticker-2024-08", symbol: "BTCUSDT", ticks: true},
}

// Law 4 on real markets. Every set is computed offline from its file, and online quote by quote (bar by bar where it
// has no quotes). Every feature of every minute must agree bit for bit. Bars also go through a [Builder] alone.
func TestReplayBothWays(t *testing.T) {
	dir := dataDir(t)
	for _, set := range replays {
		t.Run(filepath.Join(set.path, set.symbol), func(t *testing.T) {
			t.Parallel()
			path, opts := filepath.Join(dir, set.path), marketfile.Options{Symbol: set.symbol, TradesOnly: set.trades}
			series, err := marketfile.Read(path, opts)
			if err != nil {
				t.Fatal(err)
			}
			f, err := Compute(series.Bars)
			if err != nil {
				t.Fatal(err)
			}
			l := newLive(t, LiveOptions{KeepCrossed: set.crossed})
			compared := against(t, l.features, f)
			observations, want := 0, f.Len()
			if set.ticks {
				quotes, err := marketfile.ReadQuotes(path, opts)
				if err != nil {
					t.Fatal(err)
				}
				for q, err := range quotes.All() {
					if err != nil {
						t.Fatal(err)
					}
					if n := l.Observe(q); !n.Taken() && n != Duplicate && n != Jump {
						t.Fatalf("%+v: %v", q, n)
					}
					observations++
				}
				want-- // the last minute is not complete
			} else {
				for _, b := range series.Bars {
					if n := l.ObserveBar(b); !n.Taken() && n != Jump {
						t.Fatalf("%+v: %v", b, n)
					}
					observations++
				}
			}
			if got := compared(); got != want || got < 2 {
				t.Fatalf("compared %d of %d minutes", got, f.Len())
			}
			t.Logf("%d observations, %d minutes, %d features each, all the same; %d crossed", observations, want, len(definitions), l.Count(CrossedKept))
			if set.ticks || testing.Short() {
				return
			}
			e := NewBuilder()
			compared = against(t, e, f)
			for _, b := range series.Bars {
				if err := e.Push(b); err != nil {
					t.Fatal(err)
				}
			}
			if got := compared(); got != f.Len() {
				t.Fatalf("the builder alone: %d of %d minutes", got, f.Len())
			}
		})
	}
}
