package feature

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/market"
)

// t0 is the first instant of a day.
const t0 = 19_676 * dayMS

func newLive(t testing.TB, opts LiveOptions) *Live {
	t.Helper()
	return NewLive(opts)
}

// chatter returns a random stream of good quotes: a few a minute, holes of every kind, repeats and one-sided changes.
// After a hole that needs a second quote, a second quote follows.
func chatter(seed uint64, n int) []market.Quote {
	rng := rand.New(rand.NewPCG(seed, 1))
	price, now, before := 1.3, int64(t0), int64(t0)
	quotes := make([]market.Quote, 0, n)
	for range n {
		price *= math.Exp(1e-4 * rng.NormFloat64())
		half := price * 1e-4 * rng.Float64()
		q := market.Quote{Time: now, Bid: price - half, Ask: price + half, BidSize: float64(rng.IntN(3))}
		alone := now-before > maxJump
		if rng.IntN(20) == 0 && len(quotes) > 0 {
			q = quotes[len(quotes)-1] // repeated
		} else {
			before = now
		}
		quotes = append(quotes, q)
		switch r := rng.IntN(300); {
		case r < 60: // the same instant
		case r < 290:
			now += rng.Int64N(50_000)
		case r < 299 || alone:
			now += rng.Int64N((MaxFill + 3) * market.MinuteMS)
		default:
			now += rng.Int64N(3 * dayMS)
		}
	}
	return quotes
}

// barsOf makes the same bars from quotes as marketfile.Read.
func barsOf(quotes []market.Quote) []market.Bar {
	var builder market.BarBuilder
	var bars []market.Bar
	for _, q := range quotes {
		if b, ok := builder.Add(q); ok {
			bars = append(bars, b)
		}
	}
	if b, ok := builder.Flush(); ok {
		bars = append(bars, b)
	}
	return bars
}

// against compares every minute of a builder with a frame, bit for bit. The function it returns reports how many
// minutes were compared.
func against(t testing.TB, e *Builder, f *Frame) func() int {
	before := e.onMinute
	compared := 0
	e.onMinute = func() {
		if before != nil {
			before()
		}
		i := e.minutes - 1
		if i >= f.Len() {
			t.Fatalf("minute %d, but the frame has %d", i, f.Len())
		}
		if e.End() != f.End(i) {
			t.Fatalf("minute %d: end %d; the frame has %d", i, e.End(), f.End(i))
		}
		for c, d := range definitions {
			if got, want := d.value(e), f.columns[c][i]; !identical(got, want) {
				t.Fatalf("minute %d: %s: got %v (%x), the frame has %v (%x)", i, d.Name, got, math.Float64bits(got), want, math.Float64bits(want))
			}
		}
		compared++
	}
	return func() int { return compared }
}

// identical reports whether two numbers have the same bits, or are both NaN.
func identical(a, b float64) bool {
	return math.Float64bits(a) == math.Float64bits(b) || math.IsNaN(a) && math.IsNaN(b)
}

// Law 4: quotes one by one give, bit for bit, what their bars give in a file.
func TestLiveIsTheFrame(t *testing.T) {
	quotes := chatter(1, 60_000)
	f, err := Compute(barsOf(quotes))
	if err != nil {
		t.Fatal(err)
	}
	l := newLive(t, LiveOptions{})
	compared := against(t, l.features, f)
	s, _ := Lookup("v1.8.1")
	online, offline := make([]float64, s.Len()), make([]float64, s.Len())
	ready := 0
	for i, q := range quotes {
		n := l.Observe(q)
		if n != Accepted && n != Duplicate && n != Jump {
			t.Fatalf("quote %d: %v", i, n)
		}
		asOf, ok := l.Vector(s, online)
		if l.features.minutes == 0 || n == Jump {
			continue
		}
		// A minute is complete as soon as a later one begins, with or without quotes.
		if age := q.Time - asOf; age < 0 || age >= market.MinuteMS && age < MaxFill*market.MinuteMS {
			t.Fatalf("quote %d at %d: the features are as of %d", i, q.Time, asOf)
		}
		if want := f.Row(l.features.minutes-1, s, offline); ok != want {
			t.Fatalf("quote %d: ready %v, the frame has %v", i, ok, want)
		}
		for k := range online {
			if !identical(online[k], offline[k]) {
				t.Fatalf("quote %d: %s: got %v, the frame has %v", i, s.Features[k].Name, online[k], offline[k])
			}
		}
		if ok {
			ready++
		}
	}
	if got := compared(); got != f.Len()-1 || ready < 10_000 {
		t.Errorf("compared %d of %d minutes (the last is never complete), %d vectors ready", got, f.Len(), ready)
	}
	if l.Count(Accepted)+l.Count(Duplicate)+l.Count(Jump) != uint64(len(quotes)) || l.Count(Duplicate) == 0 || l.Count(Jump) == 0 {
		t.Errorf("counts: %d accepted, %d duplicate, %d that waited, of %d", l.Count(Accepted), l.Count(Duplicate), l.Count(Jump), len(quotes))
	}
}

func TestLiveNotes(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	const hour = maxJump
	good := market.Quote{Time: t0, Bid: 10, Ask: 11}
	tests := []struct {
		name  string
		opts  LiveOptions
		quote market.Quote // sent after a good one
		want  Note
	}{
		{"later", LiveOptions{}, market.Quote{Time: t0 + 1, Bid: 10, Ask: 11}, Accepted},
		{"the same instant", LiveOptions{}, market.Quote{Time: t0, Bid: 10, Ask: 12}, Accepted},
		{"another size", LiveOptions{}, market.Quote{Time: t0, Bid: 10, Ask: 11, AskSize: 1}, Accepted},
		{"locked", LiveOptions{}, market.Quote{Time: t0, Bid: 10, Ask: 10}, Accepted},
		{"again", LiveOptions{}, good, Duplicate},
		{"earlier", LiveOptions{}, market.Quote{Time: t0 - 1, Bid: 10, Ask: 11}, OutOfOrder},
		{"crossed", LiveOptions{}, market.Quote{Time: t0 + 1, Bid: 12, Ask: 11}, Crossed},
		{"crossed and kept", LiveOptions{KeepCrossed: true}, market.Quote{Time: t0 + 1, Bid: 12, Ask: 11}, CrossedKept},
		{"crossed and earlier", LiveOptions{KeepCrossed: true}, market.Quote{Time: t0 - 1, Bid: 12, Ask: 11}, OutOfOrder},
		{"bid 0", LiveOptions{}, market.Quote{Time: t0 + 1, Ask: 11}, BadPrice},
		{"negative", LiveOptions{}, market.Quote{Time: t0 + 1, Bid: -10, Ask: 11}, BadPrice},
		{"NaN", LiveOptions{}, market.Quote{Time: t0 + 1, Bid: 10, Ask: nan}, BadPrice},
		{"infinite", LiveOptions{}, market.Quote{Time: t0 + 1, Bid: 10, Ask: inf}, BadPrice},
		{"absurd", LiveOptions{}, market.Quote{Time: t0 + 1, Bid: 10, Ask: 1e13}, BadPrice},
		{"seconds", LiveOptions{}, market.Quote{Time: t0 / 1000, Bid: 10, Ask: 11}, BadTime},
		{"microseconds", LiveOptions{}, market.Quote{Time: t0 * 1000, Bid: 10, Ask: 11}, BadTime},
		{"the latest possible time", LiveOptions{}, market.Quote{Time: math.MaxInt64, Bid: 10, Ask: 11}, BadTime},
		{"the earliest possible time", LiveOptions{}, market.Quote{Time: math.MinInt64, Bid: 10, Ask: 11}, BadTime},
		{"an hour", LiveOptions{}, market.Quote{Time: t0 + hour, Bid: 10, Ask: 11}, Accepted},
		{"more", LiveOptions{}, market.Quote{Time: t0 + hour + 1, Bid: 10, Ask: 11}, Jump},
		{"long before the only one", LiveOptions{}, market.Quote{Time: t0 - hour - 1, Bid: 10, Ask: 11}, Jump},
		{"ahead of the clock", LiveOptions{Latest: func() int64 { return t0 + 1000 }}, market.Quote{Time: t0 + 1001, Bid: 10, Ask: 11}, Ahead},
		{"as late as the clock allows", LiveOptions{Latest: func() int64 { return t0 + 1000 }}, market.Quote{Time: t0 + 1000, Bid: 10, Ask: 11}, Accepted},
	}
	seen := map[Note]bool{}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			seen[tt.want] = true
			l := newLive(t, tt.opts)
			if n := l.Observe(good); n != Accepted {
				t.Fatal(n)
			}
			before := state(t, l)
			if got := l.Observe(tt.quote); got != tt.want {
				t.Fatalf("got %v, want %v", got, tt.want)
			}
			if l.Count(tt.want) != 1 && tt.want != Accepted {
				t.Errorf("counted %d times", l.Count(tt.want))
			}
			l.counts, l.refused, l.note, l.waiting = [noteEnd]uint64{Accepted: 1}, 0, Accepted, market.Quote{}
			if changed := state(t, l) != before; changed != tt.want.Taken() {
				t.Errorf("the state changed: %v", changed)
			}
		})
	}
	for _, n := range Notes() {
		if !seen[n] {
			t.Errorf("note %v is not tested", n)
		}
	}
}

// Observations that are left out leave no trace: the features are the same with and without them.
func TestLiveIgnoresWhatItLeavesOut(t *testing.T) {
	quotes := chatter(3, 20_000)
	f, err := Compute(barsOf(quotes))
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(3, 3))
	l := newLive(t, LiveOptions{})
	compared := against(t, l.features, f)
	noise := uint64(0)
	for _, q := range quotes {
		l.Observe(q)
		for range rng.IntN(3) {
			if _, _, waiting := l.Refused(); waiting { // one that disagrees replaces it
				continue
			}
			bad := q
			switch rng.IntN(5) {
			case 0:
				bad.Time -= 1 + rng.Int64N(dayMS)
			case 1:
				bad.Bid, bad.Ask = 2*bad.Ask, bad.Bid
			case 2:
				bad.Ask = math.NaN()
			case 3:
				bad.Time += 31 * dayMS
			case 4:
				bad.Time = 0
			}
			if n := l.Observe(bad); n.Taken() {
				t.Fatalf("%+v after %+v: %v", bad, q, n)
			}
			noise++
		}
	}
	if compared() != f.Len()-1 || noise < 10_000 {
		t.Errorf("compared %d of %d minutes with %d bad quotes", compared(), f.Len(), noise)
	}
}

// A feed recovers without intervention. Each step is a quote at a minute, with its expected note.
func TestLiveRecovers(t *testing.T) {
	const day = 24 * 60
	type step struct {
		minute float64
		want   Note
	}
	clock := int64(t0)
	latest := func() int64 { return clock + market.MinuteMS }
	for _, tt := range []struct {
		name  string
		now   float64 // clock time in minutes; 0 is no clock
		steps []step
		last  float64
	}{
		{"silent for 31 days, and quoted again", 0, []step{{0, Accepted}, {1, Accepted}, {31*day + 1, Jump}, {31*day + 1.5, Accepted}, {31*day + 2, Accepted}}, 31*day + 2},
		{"silent for years", 0, []step{{0, Accepted}, {1, Accepted}, {3000 * day, Jump}, {3000*day + 1, Accepted}}, 3000*day + 1},
		{"one wild quote in a good feed", 0, []step{{0, Accepted}, {1, Accepted}, {20 * day, Jump}, {2, Accepted}, {3, Accepted}}, 3},
		{"the same wild quote over and over", 0, []step{{0, Accepted}, {1, Accepted}, {20 * day, Jump}, {20 * day, Jump}, {2, Accepted}}, 2},
		{"two wild quotes that do not agree", 0, []step{{0, Accepted}, {1, Accepted}, {20 * day, Jump}, {40 * day, Jump}, {30 * day, Jump}, {2, Accepted}}, 2},
		{"wild quotes between good ones", 0, []step{{0, Accepted}, {1, Accepted}, {20 * day, Jump}, {2, Accepted}, {20*day + 1, Jump}, {3, Accepted}}, 3},
		{"the first quote is wild", 0, []step{{20 * day, Accepted}, {0, Jump}, {1, Accepted}, {2, Accepted}}, 2},
		{"the first quote is stale", 0, []step{{-20 * day, Accepted}, {0, Jump}, {1, Accepted}}, 1},
		{"replayed quotes do not end a good feed", 0, []step{{0, Accepted}, {1, Accepted}, {-5 * day, OutOfOrder}, {-5*day + 1, OutOfOrder}, {2, Accepted}}, 2},
		{"ahead of the clock", 10, []step{{0, Accepted}, {1, Accepted}, {12, Ahead}, {12.5, Ahead}, {11, Accepted}}, 11},
		{"ahead of the clock from the start", 10, []step{{12, Ahead}, {13, Ahead}, {9, Accepted}}, 9},
		{"a feed of the past is not ahead", 100 * day, []step{{0, Accepted}, {1, Accepted}}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			opts := LiveOptions{}
			if clock = t0 + int64(tt.now*market.MinuteMS); tt.now > 0 {
				opts.Latest = latest
			}
			l := newLive(t, opts)
			for i, s := range tt.steps {
				if got := l.Observe(market.Quote{Time: t0 + int64(s.minute*market.MinuteMS), Bid: 10, Ask: 11}); got != s.want {
					t.Fatalf("quote %d, of minute %v: got %v, want %v", i, s.minute, got, s.want)
				}
			}
			if got := float64(l.last.Time-t0) / market.MinuteMS; got != tt.last {
				t.Errorf("the last quote is of minute %v, want %v", got, tt.last)
			}
			if n, why, waiting := l.Refused(); n != 0 || why != Accepted || waiting {
				t.Errorf("%d are left out (%v), waiting %v", n, why, waiting)
			}
		})
	}
}

// The clock of the machine was wrong, and so were quotes that were taken. Once it is right again, two quotes with the
// true time restart the symbol; one does not.
func TestLiveRecoversFromAWrongClock(t *testing.T) {
	clock := int64(t0 + 30*dayMS)
	l := newLive(t, LiveOptions{Latest: func() int64 { return clock + market.MinuteMS }})
	at := func(ms int64) market.Quote { return market.Quote{Time: ms, Bid: 10, Ask: 11} }
	for i := range int64(5) {
		l.Observe(at(t0 + 30*dayMS + i*market.MinuteMS/5))
	}
	clock = t0
	for _, tt := range []struct {
		time int64
		want Note
	}{
		{t0 + 30*dayMS + market.MinuteMS, Ahead},
		{t0, Jump},
		{t0 + 2*market.MinuteMS, Ahead},
		{t0 - 2*dayMS, Jump},
		{t0, Jump},
		{t0 + 1000, Accepted},
		{t0 + 2000, Accepted},
	} {
		if got := l.Observe(at(tt.time)); got != tt.want {
			t.Fatalf("at %d: got %v, want %v", tt.time-t0, got, tt.want)
		}
	}
	if l.last.Time != t0+2000 || l.features.minutes != 0 || l.Count(Accepted) != 7 {
		t.Errorf("last %d, %d minutes, %d accepted", l.last.Time-t0, l.features.minutes, l.Count(Accepted))
	}
}

// A waiting observation is part of the snapshot.
func TestWaitingIsRestored(t *testing.T) {
	l := newLive(t, LiveOptions{})
	for _, at := range []int64{t0, t0 + 1, t0 + dayMS} {
		l.Observe(market.Quote{Time: at, Bid: 10, Ask: 11})
	}
	again := restore(t, state(t, l), LiveOptions{})
	if n, why, waiting := again.Refused(); n != 1 || why != Jump || !waiting {
		t.Errorf("got %d, %v, %v", n, why, waiting)
	}
	if n := again.Observe(market.Quote{Time: t0 + dayMS + 1, Bid: 10, Ask: 11}); n != Accepted {
		t.Errorf("got %v", n)
	}
}

func TestLiveDoesNotAllocate(t *testing.T) {
	quotes := chatter(4, 5000)
	l := newLive(t, LiveOptions{})
	s, _ := Lookup("v1.8.1")
	dst := make([]float64, s.Len())
	i := 0
	if got := testing.AllocsPerRun(4000, func() {
		l.Observe(quotes[i])
		l.Vector(s, dst)
		i++
	}); got != 0 {
		t.Errorf("got %v allocations per quote, want 0", got)
	}
}

// One quote a minute is the worst case, since each completes a minute. Real feeds have 10 to 1000 a minute.
func BenchmarkLiveObserve(b *testing.B) {
	for name, step := range map[string]int64{"one-a-minute": market.MinuteMS, "one-a-second": 1000, "thousand-a-second": 1} {
		b.Run(name, func(b *testing.B) {
			quotes := chatter(5, 4096)
			l := newLive(b, LiveOptions{})
			b.ReportAllocs()
			now := int64(t0)
			for i := 0; b.Loop(); i++ {
				q := quotes[i&4095]
				now += step
				q.Time = now
				if now > 7e12 { // near the latest valid time
					b.StopTimer()
					l, now = newLive(b, LiveOptions{}), t0
					b.StartTimer()
					continue
				}
				if !l.Observe(q).Taken() {
					b.Fatal("left out")
				}
			}
		})
	}
}
