package feature

import (
	"math"
	"strings"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/market"
)

// A feature is undefined exactly while one of its inputs lacks something, whatever the market did.
func TestNeedsAreTheNaN(t *testing.T) {
	flat := func(bars []market.Bar) []market.Bar { // a market without movement
		for i := range bars {
			bars[i].Open, bars[i].High, bars[i].Low, bars[i].Close = 7, 7, 7, 7
		}
		return bars
	}
	for name, bars := range map[string][]market.Bar{
		"trades": wander(20, 5000, false), "quotes": wander(20, 5000, true), "still": flat(wander(21, 3000, false)),
		"trades then quotes": append(wander(20, 2000, false), shifted(wander(20, 2000, true), 30*dayMS)...),
	} {
		t.Run(name, func(t *testing.T) {
			e := NewBuilder()
			missing := map[string]int{}
			check := func() {
				for _, d := range definitions {
					lacks := false
					for _, in := range d.needs {
						need := in.lacks(e)
						lacks = lacks || need != ""
						if strings.Contains(need, "%!") {
							t.Fatalf("%s: %s", d.Name, need)
						}
					}
					if nan := math.IsNaN(d.value(e)); nan != lacks {
						t.Fatalf("minute %d: %s is %v, but lacks something: %v", e.minutes, d.Name, d.value(e), lacks)
					}
					if lacks {
						missing[d.Name]++
					}
				}
			}
			check()
			e.onMinute = check
			for _, b := range bars {
				if err := e.Push(b); err != nil {
					t.Fatal(err)
				}
			}
			if len(missing) != len(definitions)-1 {
				t.Errorf("only %v were ever missing", missing)
			}
		})
	}
}

func shifted(bars []market.Bar, ms int64) []market.Bar {
	for i := range bars {
		bars[i].Start += ms
	}
	return bars
}

// The text that people read while an instrument warms up: v1.8 takes half an hour, v1.8.1 twelve hours and a completed
// day.
func TestReadinessOfAWarmUp(t *testing.T) {
	v18, _ := Lookup("v1.8")
	v181, _ := Lookup("v1.8.1")
	l := newLive(t, LiveOptions{})
	quote := func(minute int) {
		mid := 100 + math.Sin(float64(minute))
		l.Observe(market.Quote{Time: t0 + int64(minute)*market.MinuteMS + 5, Bid: mid - 0.01, Ask: mid + 0.01})
	}
	steps := []struct {
		minutes int // completed by a quote of the next minute
		schema  *Schema
		want    string
	}{
		{0, v18, "not ready: no minute is complete"},
		{1, v18, "not ready: vol1m needs 30 returns, has 0; rsi14 needs 14 changes from minute to minute, has 0; mid_logret_1m needs 2 completed minutes, has 1"},
		{15, v18, "not ready: vol1m needs 30 returns, has 14"},
		{30, v18, "not ready: vol1m needs 30 returns, has 29"},
		{31, v18, "ready"},
		{300, v181, "not ready: sigma_ref needs one completed UTC day with 300 returns (today has 299 so far); spread_ref needs one completed UTC day with 300 returns (today has 299 so far); rsi14_z needs 720 minutes of rsi14, has 286; zscore_mid_24h needs 720 minutes of mid, has 300"},
		{734, v181, "not ready: sigma_ref needs one completed UTC day with 300 returns (today has 733 so far); spread_ref needs one completed UTC day with 300 returns (today has 733 so far)"},
		{1440, v181, "not ready: sigma_ref needs one completed UTC day with 300 returns (today has 1439 so far); spread_ref needs one completed UTC day with 300 returns (today has 1439 so far)"},
		{1441, v181, "ready"},
	}
	minute := 0
	for _, step := range steps {
		for ; minute <= step.minutes; minute++ {
			quote(minute)
		}
		got := l.Readiness(step.schema)
		if got != step.want {
			t.Errorf("after %d minutes: got %q, want %q", step.minutes, got, step.want)
		}
		if _, ready := l.Vector(step.schema, make([]float64, step.schema.Len())); ready != (got == "ready") {
			t.Errorf("after %d minutes: the vector is ready: %v, readiness: %s", step.minutes, ready, got)
		}
	}
	if l.features.minutes != 1441 || l.features.End() != t0+1441*market.MinuteMS {
		t.Errorf("got %d minutes, as of %d", l.features.minutes, l.features.End())
	}
}

// After a session break the first minute has no return, and the fifth again has one over five minutes. The windows and
// Wilder's index continue.
func TestReadinessAfterASessionBreak(t *testing.T) {
	s, err := NewSchema("returns", "mid_logret_1m", "mid_logret_5m", "rsi14", "vol1m")
	if err != nil {
		t.Fatal(err)
	}
	l := newLive(t, LiveOptions{})
	minute := int64(0)
	observe := func() string {
		price := 100 + math.Sin(float64(minute))
		if n := l.Observe(market.Quote{Time: t0 + minute*market.MinuteMS, Bid: price, Ask: price}); n != Accepted && n != Jump {
			t.Fatal(n)
		}
		minute++
		return l.Readiness(s)
	}
	for range 60 {
		observe()
	}
	if got := observe(); got != "ready" {
		t.Fatal(got)
	}
	minute += 47 * 60 // the weekend
	for i, want := range []string{
		"ready; the last observation was left out (jump)", // it waits for the next one
		"not ready: mid_logret_1m needs one more minute: a hole of more than 10 minutes came before this one; mid_logret_5m needs 5 returns without a hole of more than 10 minutes, has 0",
		"not ready: mid_logret_5m needs 5 returns without a hole of more than 10 minutes, has 1",
		"not ready: mid_logret_5m needs 5 returns without a hole of more than 10 minutes, has 2",
		"not ready: mid_logret_5m needs 5 returns without a hole of more than 10 minutes, has 3",
		"not ready: mid_logret_5m needs 5 returns without a hole of more than 10 minutes, has 4",
		"ready",
	} {
		if got := observe(); got != want {
			t.Errorf("quote %d after the break: got %q, want %q", i, got, want)
		}
	}
	minute += MaxFill // ten minutes without a quote
	if got := observe(); got != "ready" || l.features.End() != t0+(minute-1)*market.MinuteMS {
		t.Errorf("after a short hole: %q, as of %d", got, l.features.End())
	}
}
