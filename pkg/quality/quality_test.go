package quality_test

import (
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/market"
	"github.com/greenlight-ml/greenlight/pkg/marketfile"
	"github.com/greenlight-ml/greenlight/pkg/quality"
	"github.com/greenlight-ml/greenlight/pkg/testkit/need"
)

const dayMinutes = 24 * 60

// bars returns a simulated market of 20 days, to be damaged by the tests.
func bars(t *testing.T) []market.Bar {
	t.Helper()
	sim, err := market.Simulate(market.SimulateOptions{Seed: 5, Days: 20})
	if err != nil {
		t.Fatal(err)
	}
	return sim.Series().Bars
}

// priced returns the bar with one price and a quote around it.
func priced(b market.Bar, mid, half float64) market.Bar {
	b.Open, b.High, b.Low, b.Close, b.Bid, b.Ask = mid, mid, mid, mid, mid-half, mid+half
	return b
}

// Frozen stretches are found with their kind, wherever they are, and left out to within a few minutes.
func TestExamineFindsFrozenStretches(t *testing.T) {
	const from, day = 7*dayMinutes + 311, dayMinutes
	spoil := func(minutes int, price func(all []market.Bar, i int, frozen float64) market.Bar) func([]market.Bar) {
		return func(all []market.Bar) {
			frozen := all[from-1].Close
			for i := from; i < from+minutes; i++ {
				all[i] = price(all, i, frozen)
			}
		}
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for _, tt := range []struct {
		name    string
		spoil   func([]market.Bar)
		kind    string
		minutes int
	}{
		{"one price for 3 hours", spoil(180, func(all []market.Bar, i int, p float64) market.Bar { return priced(all[i], p, 1) }), quality.Flat, 180},
		{"one price for a day", spoil(day, func(all []market.Bar, i int, p float64) market.Bar { return priced(all[i], p, 1) }), quality.Flat, day},
		{"one mid, bid and ask jitter", spoil(day, func(all []market.Bar, i int, p float64) market.Bar {
			return priced(all[i], p, 1+rng.Float64())
		}), quality.Flat, day},
		{"two prices in turn", spoil(day/2, func(all []market.Bar, i int, p float64) market.Bar {
			return priced(all[i], p+float64(i%2), 1)
		}), quality.Repeated, day / 2},
		{"two prices at random", spoil(day/2, func(all []market.Bar, i int, p float64) market.Bar {
			return priced(all[i], p+float64(rng.IntN(2)), 1)
		}), quality.FewValues, day / 2},
		{"seven prices at random", spoil(2*day, func(all []market.Bar, i int, p float64) market.Bar {
			return priced(all[i], p+float64(rng.IntN(7)), 1)
		}), quality.InPlace, 2 * day},
		{"noise around one price", spoil(3*day, func(all []market.Bar, i int, p float64) market.Bar {
			return priced(all[i], p*(1+1e-4*rng.NormFloat64()), 1)
		}), quality.InPlace, 3 * day},
		{"a line over a hole", spoil(300, func(all []market.Bar, i int, p float64) market.Bar {
			return priced(all[i], p+(all[from+300].Close+50-p)*float64(i-from+1)/300, 1)
		}), quality.OneWay, 300},
		{"a line over a hole, on ticks", spoil(day, func(all []market.Bar, i int, p float64) market.Bar {
			return priced(all[i], math.Round(2*(p+float64(i-from)*0.7))/2, 1)
		}), quality.OneWay, day},
		{"the previous day repeated", spoil(day, func(all []market.Bar, i int, _ float64) market.Bar {
			b := all[i-day]
			b.Start = all[i].Start
			return b
		}), quality.Repeated, day},
		{"five hours repeated an hour and a half later", spoil(300, func(all []market.Bar, i int, _ float64) market.Bar {
			b := all[i-390]
			b.Start = all[i].Start
			return b
		}), quality.Repeated, 300},
	} {
		t.Run(tt.name, func(t *testing.T) {
			all := bars(t)
			tt.spoil(all)
			q, kept := quality.Examine(all)
			found, ours := 0, 0
			for _, s := range q.Frozen {
				if s.Kind == tt.kind {
					found += s.Minutes
				}
				if s.From.UnixMilli() >= all[from].Start-30*market.MinuteMS && s.To.UnixMilli() <= all[from+tt.minutes].Start+60*market.MinuteMS {
					ours += s.Minutes
				}
			}
			most := max(60, tt.minutes/8) // the ends of a stretch look like the market
			if found < tt.minutes-most || q.FrozenMinutes > tt.minutes+most || ours != q.FrozenMinutes {
				t.Errorf("%d minutes were found as %s, %d in all, %d of them in the stretch of %d: %+v", found, tt.kind, q.FrozenMinutes, ours, tt.minutes, q.Frozen)
			}
			if len(all)-len(kept) != q.FrozenMinutes {
				t.Errorf("%d bars of %d were kept, with %d frozen minutes", len(kept), len(all), q.FrozenMinutes)
			}
		})
	}
}

func TestExamineMeasures(t *testing.T) {
	all := bars(t)
	q, kept := quality.Examine(all)
	if q.FrozenMinutes != 0 || len(kept) != len(all) || q.Days != 20 || q.Holes != 0 || q.FilledShare != 0 || q.LargestMove.Share > 0.05 {
		t.Fatalf("a sound market: %+v", q)
	}
	t.Run("a 10:1 split", func(t *testing.T) {
		all := slices.Clone(all)
		for i := 9000; i < len(all); i++ {
			all[i] = priced(all[i], all[i].Close/10, 0.1)
		}
		if q, _ := quality.Examine(all); q.LargestMove.Share < 8 || q.LargestMove.Time.UnixMilli() != all[9000].Start {
			t.Errorf("%+v", q.LargestMove)
		}
	})
	t.Run("a spike of 50 % only in the high", func(t *testing.T) {
		all := slices.Clone(all)
		all[700].High *= 1.5
		if q, _ := quality.Examine(all); q.LargestMove.Share < 0.45 || q.LargestMove.Time.UnixMilli() != all[700].Start {
			t.Errorf("%+v", q.LargestMove)
		}
	})
	t.Run("a split over a weekend", func(t *testing.T) {
		all := slices.Delete(slices.Clone(all), 5*dayMinutes, 7*dayMinutes)
		for i := range 5 * dayMinutes {
			all[i] = priced(all[i], all[i].Close*2, 0.1)
		}
		q, _ := quality.Examine(all)
		if q.LargestGapMove.Share < 0.8 || q.LargestMove.Share > 0.05 || q.Holes != 1 || q.LongestHole.Minutes != 2*dayMinutes {
			t.Errorf("%+v", q)
		}
	})
	t.Run("every third minute missing", func(t *testing.T) {
		var thin []market.Bar
		for i, b := range all {
			if i%3 > 0 {
				thin = append(thin, b)
			}
		}
		if q, _ := quality.Examine(thin); math.Abs(q.FilledShare-1./3) > 0.01 || q.FrozenMinutes != 0 {
			t.Errorf("%+v", q)
		}
	})
	t.Run("weekends filled with flat bars by an archive", func(t *testing.T) {
		all := slices.Clone(all) // starts on a Monday
		for i := range all {
			if minute := i % (7 * dayMinutes); minute >= 5*dayMinutes-120 && minute < 7*dayMinutes-120 {
				all[i] = priced(all[i], all[i-1].Close, 1)
			}
		}
		q, kept := quality.Examine(all)
		if q.ClosedMinutes != 5*dayMinutes+120 || q.FrozenMinutes != 0 || q.LongestFlatRun.Minutes > 30 || q.UnchangedShare > 0.1 || len(kept) != len(all)-q.ClosedMinutes {
			t.Errorf("%d kept: %+v", len(kept), q)
		}
	})
	t.Run("one flat weekend of three is a frozen feed", func(t *testing.T) {
		all := slices.Clone(all)
		for i := 5*dayMinutes - 120; i < 7*dayMinutes-120; i++ {
			all[i] = priced(all[i], all[i-1].Close, 1)
		}
		if q, _ := quality.Examine(all); q.ClosedMinutes != 0 || q.FrozenMinutes < 2*dayMinutes-10 {
			t.Errorf("%+v", q)
		}
	})
	t.Run("nothing", func(t *testing.T) {
		if q, kept := quality.Examine(nil); q.Minutes != 0 || len(kept) != 0 {
			t.Errorf("%+v", q)
		}
	})
	t.Run("everything frozen", func(t *testing.T) {
		all := slices.Clone(all)
		for i := range all {
			all[i] = priced(all[i], 7, 0.1)
		}
		if q, kept := quality.Examine(all); q.FrozenShare < 0.99 || len(kept) > 1 {
			t.Errorf("%+v", q)
		}
	})
}

// No real market counts as frozen: crypto and FX, quotes and trades, coarse ticks, quiet nights, maintenance.
func TestExamineRealMarkets(t *testing.T) {
	root := need.Data(t)
	for _, tt := range []struct {
		path   string
		trades bool
	}{
		{"btcperp-ftx-1m", false},
		{"gbpusd-fxcm-1m-bidask", false},
		{"btcusd-bitfinex-1m", false},
		{"filusdt-binance-1m", false},
		{"eurusd-quotes-2014-05/fxcm/minute", false},
		{"eurusd-quotes-2014-05/oanda/minute", false},
		{"coinbase-l1-minute/btcusd", false},
		{"coinbase-l1-minute/btcusd", true},
		{"coinbase-l1-minute/ethusd", false},
		{"coinbase-l1-minute/ethusd", true},
		{"coinbase-l1-minute/ltcusd", false},
		{"coinbase-l1-minute/ltcusd", true},
		{"coinbase-l1-minute/btceur", false},
		{"coinbase-l1-minute/btceur", true},
	} {
		s, err := marketfile.Read(filepath.Join(root, tt.path), marketfile.Options{TradesOnly: tt.trades})
		if err != nil {
			t.Fatal(err)
		}
		q, _ := quality.Examine(s.Bars)
		if q.FrozenMinutes != 0 || q.LongestFlatRun.Minutes > 90 || q.LargestMove.Share > 0.12 || q.LargestGapMove.Share > 0.05 ||
			q.UnchangedShare > 0.4 || q.FilledShare > 0.1 {
			t.Errorf("%s (trades %v): %+v", tt.path, tt.trades, q)
		}
	}
}
