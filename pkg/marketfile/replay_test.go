package marketfile

import (
	"math"
	"path/filepath"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/feature"
)

// Law 4 on real markets. Every set of single quotes is computed offline from its bars, and online quote by quote. Every
// feature of every minute must agree bit for bit.
func TestReplayBothWays(t *testing.T) {
	dir := dataDir(t)
	for _, set := range []struct {
		path, symbol string
		crossed      bool // Read keeps the crossed quotes of this feed
	}{
		{path: "eurusd-quotes-2014-05", symbol: "fxcm/tick", crossed: true},
		{path: "eurusd-quotes-2014-05", symbol: "oanda/tick"},
		{path: "binance-bookticker-2024-08", symbol: "BTCUSD_PERP"},
		{path: "binance-bookticker-2024-08", symbol: "ETHUSD_PERP"},
		{path: "binance-bookticker-2024-08", symbol: "BTCUSDT"},
	} {
		t.Run(filepath.Join(set.path, set.symbol), func(t *testing.T) {
			t.Parallel()
			path, opts := filepath.Join(dir, set.path), Options{Symbol: set.symbol}
			series, err := Read(path, opts)
			if err != nil {
				t.Fatal(err)
			}
			frame, err := feature.Compute(series.Bars)
			if err != nil {
				t.Fatal(err)
			}
			quotes, _, err := readQuotes(path, opts)
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, d := range feature.Catalogue() {
				names = append(names, d.Name)
			}
			all, err := feature.NewSchema("all", names...)
			if err != nil {
				t.Fatal(err)
			}
			live := feature.NewLive(feature.LiveOptions{KeepCrossed: set.crossed})
			online, offline := make([]float64, all.Len()), make([]float64, all.Len())
			minute, compared := -1, 0
			for _, q := range quotes {
				if n := live.Observe(q); !n.Taken() && n != feature.Duplicate && n != feature.Jump {
					t.Fatalf("%+v: %v", q, n)
				}
				asOf, ready := live.Vector(all, online)
				if asOf == 0 || minute >= 0 && asOf == frame.End(minute) {
					continue
				}
				for minute++; frame.End(minute) != asOf; minute++ { // a quote completes the empty minutes before its own too
				}
				if want := frame.Row(minute, all, offline); ready != want {
					t.Fatalf("minute %d: ready %v, the frame has %v", minute, ready, want)
				}
				for k := range online {
					if a, b := online[k], offline[k]; math.Float64bits(a) != math.Float64bits(b) && !(math.IsNaN(a) && math.IsNaN(b)) {
						t.Fatalf("minute %d: %s: got %v, the frame has %v", minute, names[k], a, b)
					}
				}
				compared++
			}
			if minute != frame.Len()-2 || compared < 2 { // the last minute is not complete
				t.Fatalf("compared %d minutes up to %d of %d", compared, minute, frame.Len())
			}
			t.Logf("%d quotes, %d minutes, %d features each, all the same; %d crossed", len(quotes), compared, len(names), live.Count(feature.CrossedKept))
		})
	}
}
