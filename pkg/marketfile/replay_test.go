package marketfile

import (
	"math"
	"path/filepath"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/feature"
)

// Law 4 on real markets. Every set of single quotes is computed offline from its bars, and online quote by quote. The end,
// the highest and the lowest mid of every minute must agree bit for bit, and so must every feature of every minute that a
// caller can see. Of the minutes that one quote completes together it sees the last.
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
			minutes, shown := 0, 0 // how many minutes are complete, and up to which the vectors were compared
			live, err := feature.NewBuilders(feature.BuildersOptions{
				Live: feature.LiveOptions{KeepCrossed: set.crossed},
				OnMinute: func(_ string, m feature.Minute) {
					if i := minutes; i >= frame.Len() || m.End != frame.End(i) || m.High != frame.High()[i] || m.Low != frame.Low()[i] {
						t.Errorf("minute %d of %d: %+v is not that of the frame", i, frame.Len(), m)
					}
					minutes++
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			online, offline := make([]float64, all.Len()), make([]float64, all.Len())
			compared := 0
			for _, q := range quotes {
				if n, err := live.Observe(set.symbol, q); err != nil || !n.Taken() && n != feature.Duplicate && n != feature.Jump {
					t.Fatalf("%+v: %v, %v", q, n, err)
				}
				if t.Failed() {
					return
				}
				if minutes == shown {
					continue
				}
				shown = minutes
				minute := minutes - 1
				asOf, ready := live.Vector(set.symbol, all, online)
				if asOf != frame.End(minute) {
					t.Fatalf("minute %d: the vector is as of %d, the frame has %d", minute, asOf, frame.End(minute))
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
			if minutes != frame.Len()-1 || compared < 2 { // the last minute is not complete
				t.Fatalf("compared %d minutes, %d of them with all features, of %d", minutes, compared, frame.Len())
			}
			t.Logf("%d quotes, %d minutes, %d of them with %d features each, all the same; %d crossed", len(quotes), minutes, compared, len(names), live.Count(feature.CrossedKept))
		})
	}
}
