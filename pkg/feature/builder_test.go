package feature

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/market"
)

// wander returns a random walk of one-minute bars with holes of every kind and minutes without movement.
func wander(seed uint64, n int, quoted bool) []market.Bar {
	rng := rand.New(rand.NewPCG(seed, 0))
	price, start := 40_000.0, int64(1_700_000_040_000)/market.MinuteMS*market.MinuteMS
	bars := make([]market.Bar, 0, n)
	for range n {
		open := price
		if rng.IntN(5) > 0 {
			price *= math.Exp(1e-4 * rng.NormFloat64())
		}
		b := market.Bar{Start: start, Open: open, Close: price}
		b.High = max(open, price) * (1 + 1e-4*rng.Float64())
		b.Low = min(open, price) * (1 - 1e-4*rng.Float64())
		if quoted {
			half := price * 1e-4 * rng.Float64()
			b.Bid, b.Ask = price-half, price+half
		}
		bars = append(bars, b)
		start += market.MinuteMS
		switch r := rng.IntN(400); {
		case r < 12:
			start += int64(1+rng.IntN(MaxFill)) * market.MinuteMS
		case r == 12:
			start += int64(MaxFill+1+rng.IntN(600)) * market.MinuteMS
		}
	}
	return bars
}

// grid fills the short holes of bars; joined reports for each minute whether it directly follows the one before.
func grid(bars []market.Bar) (minutes []market.Bar, joined []bool) {
	for i, b := range bars {
		near := i > 0 && b.Start-bars[i-1].Start <= (MaxFill+1)*market.MinuteMS
		for near && minutes[len(minutes)-1].End() < b.Start {
			last := minutes[len(minutes)-1]
			minutes = append(minutes, market.Bar{
				Start: last.End(), Open: last.Close, High: last.Close, Low: last.Close, Close: last.Close, Bid: last.Bid, Ask: last.Ask,
			})
			joined = append(joined, true)
		}
		minutes = append(minutes, b)
		joined = append(joined, near)
	}
	return minutes, joined
}

// brute computes the raw series of a grid by definition. Apart from Wilder's index it carries no state between minutes.
func brute(minutes []market.Bar, joined []bool) map[string][]float64 {
	n := len(minutes)
	nan := math.NaN()
	out := map[string][]float64{}
	set := func(name string, i int, v float64) {
		if out[name] == nil {
			out[name] = make([]float64, n)
		}
		out[name][i] = v
	}
	r1, squares, pairs := make([]float64, n), make([]float64, n), make([]float64, n)
	mid, rsi := make([]float64, n), make([]float64, n)
	var up, down float64
	for i, b := range minutes {
		r1[i], pairs[i], rsi[i] = nan, nan, nan
		mid[i] = b.Close
		if joined[i] {
			r1[i] = 1e4 * math.Log(b.Close/minutes[i-1].Close)
			pairs[i] = CorwinSchultz(minutes[i-1].High, minutes[i-1].Low, b.High, b.Low)
		}
		squares[i] = r1[i] * r1[i]
		if i > 0 {
			change := b.Close - mid[i-1]
			up, down = up+max(change, 0), down+max(-change, 0)
			if i > 14 {
				up, down = up-max(change, 0), down-max(-change, 0)
				up = up*13/14 + max(change, 0)
				down = down*13/14 + max(-change, 0)
			}
		}
		if i >= 14 {
			rsi[i] = 100 * up / (up + down)
		}

		set("mid", i, mid[i])
		set("mid_logret_1m", i, r1[i])
		set("rsi14", i, rsi[i])
		r5 := nan
		if i >= 4 {
			r5 = r1[i-4] + r1[i-3] + r1[i-2] + r1[i-1] + r1[i]
		}
		set("mid_logret_5m", i, r5)
		vol := nan
		if k, mean, _ := bruteMoments(squares[:i+1], 60); k >= 30 {
			vol = math.Sqrt(mean)
		}
		set("vol1m", i, vol)
		spread := nan
		if b.Quoted() {
			spread = 1e4 * (b.Ask - b.Bid) / b.Close
		} else if k, mean, _ := bruteMoments(pairs[:i+1], 60); k >= 30 {
			spread = mean
		}
		set("spread_bp", i, spread)
		for name, values := range map[string][]float64{"rsi14_z": rsi, "zscore_mid_24h": mid} {
			z := nan
			if k, mean, sd := bruteMoments(values[:i+1], 1440); k >= 720 {
				z = (values[i] - mean) / sd
			}
			set(name, i, z)
		}
	}
	return out
}

func TestBuilderAgainstBruteForce(t *testing.T) {
	for _, quoted := range []bool{false, true} {
		bars := wander(7, 3500, quoted)
		f, err := Compute(bars)
		if err != nil {
			t.Fatal(err)
		}
		minutes, joined := grid(bars)
		if f.Len() != len(minutes) {
			t.Fatalf("got %d minutes, want %d", f.Len(), len(minutes))
		}
		for name, want := range brute(minutes, joined) {
			got, defined := f.Column(name), 0
			for i := range got {
				if !same(got[i], want[i]) {
					t.Fatalf("quoted %v: %s at minute %d: got %v, want %v", quoted, name, i, got[i], want[i])
				}
				if !math.IsNaN(got[i]) {
					defined++
				}
			}
			if defined < 1000 {
				t.Errorf("quoted %v: %s is defined %d times: the test proves nothing", quoted, name, defined)
			}
		}
		for i, m := range minutes {
			if f.End(i) != m.End() {
				t.Fatalf("minute %d: end %d", i, f.End(i))
			}
		}
	}
}

// Law 4: a frame holds, bit for bit, what the builder returned right after each minute.
func TestBuilderIsTheFrame(t *testing.T) {
	bars := wander(8, 6000, false)
	f, err := Compute(bars)
	if err != nil {
		t.Fatal(err)
	}
	e := NewBuilder()
	ready := 0
	for _, b := range bars {
		if err := e.Push(b); err != nil {
			t.Fatal(err)
		}
		i := e.minutes - 1
		if f.End(i) != e.End() || e.filled {
			t.Fatalf("minute %d ends at %d in the frame, %d in the builder", i, f.End(i), e.End())
		}
		for _, s := range Schemas() {
			online, offline := make([]float64, s.Len()), make([]float64, s.Len())
			ok := e.Vector(s, online)
			if f.Row(i, s, offline) != ok {
				t.Fatalf("minute %d: %s is ready %v in the builder alone", i, s.Name, ok)
			}
			if ok {
				ready++
			}
			for k := range online {
				if math.Float64bits(online[k]) != math.Float64bits(offline[k]) || math.Float64bits(e.Value(s.Features[k].Name)) != math.Float64bits(online[k]) {
					t.Fatalf("minute %d: %s: %v online, %v offline", i, s.Features[k].Name, online[k], offline[k])
				}
			}
		}
	}
	if ready < 5000 {
		t.Errorf("only %d vectors were ready", ready)
	}
}

func TestBuilderStart(t *testing.T) {
	e := NewBuilder()
	v18, _ := Lookup("v1.8")
	if e.Vector(v18, make([]float64, 6)) || e.End() != 0 || e.minutes != 0 {
		t.Error("an empty builder is ready")
	}
	if got := e.Value("bias"); got != 1 {
		t.Errorf("bias: got %v, want 1", got)
	}
	if got := e.Value("nonsense"); !math.IsNaN(got) {
		t.Errorf("nonsense: got %v, want NaN", got)
	}
	// With quotes, v1.8 is ready from the first minute that has 30 returns: the 31st.
	for i, b := range wander(9, 31, true) {
		b.Start = int64(i) * market.MinuteMS
		if err := e.Push(b); err != nil {
			t.Fatal(err)
		}
		if got, want := e.Vector(v18, make([]float64, 6)), i == 30; got != want {
			t.Errorf("minute %d: ready %v, want %v", i, got, want)
		}
	}
}

func TestBuilderHoles(t *testing.T) {
	bar := func(minute int, price float64) market.Bar {
		return market.Bar{Start: int64(minute) * market.MinuteMS, Open: price, High: price, Low: price, Close: price}
	}
	tests := []struct {
		name    string
		missing int
		minutes int
		defined bool
	}{
		{"none", 0, 2, true},
		{"one", 1, 3, true},
		{"ten", 10, 12, true},
		{"eleven", 11, 2, false},
		{"a weekend", 2880, 2, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := NewBuilder()
			for _, b := range []market.Bar{bar(5, 100), bar(6+tt.missing, 101)} {
				if err := e.Push(b); err != nil {
					t.Fatal(err)
				}
			}
			want := math.NaN()
			if tt.defined {
				want = 1e4 * math.Log(1.01)
			}
			if got := e.Value("mid_logret_1m"); !same(got, want) {
				t.Errorf("return: got %v, want %v", got, want)
			}
			if got := e.minutes; got != tt.minutes {
				t.Errorf("minutes: got %d, want %d", got, tt.minutes)
			}
		})
	}
}

func TestBuilderRefuses(t *testing.T) {
	good := market.Bar{Start: 600_000, Open: 2, High: 3, Low: 1, Close: 2}
	with := func(change func(*market.Bar)) market.Bar {
		b := good
		b.Start += market.MinuteMS
		change(&b)
		return b
	}
	tests := []struct {
		name string
		bar  market.Bar
		is   error
	}{
		{"the same minute", good, ErrOrder},
		{"an earlier minute", with(func(b *market.Bar) { b.Start = 0 }), ErrOrder},
		{"half a minute", with(func(b *market.Bar) { b.Start += 30_000 }), nil},
		{"no price", with(func(b *market.Bar) { b.Close = 0 }), nil},
		{"a negative low", with(func(b *market.Bar) { b.Low = -1 }), nil},
		{"NaN close", with(func(b *market.Bar) { b.Close = math.NaN() }), nil},
		{"NaN low", with(func(b *market.Bar) { b.Low = math.NaN() }), nil},
		{"infinite high", with(func(b *market.Bar) { b.High = math.Inf(1) }), nil},
		{"close above high", with(func(b *market.Bar) { b.Close = 4 }), nil},
		{"NaN ask", with(func(b *market.Bar) { b.Bid, b.Ask = 2, math.NaN() }), nil},
		{"infinite ask", with(func(b *market.Bar) { b.Bid, b.Ask = 2, math.Inf(1) }), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := NewBuilder()
			if err := e.Push(good); err != nil {
				t.Fatal(err)
			}
			err := e.Push(tt.bar)
			if err == nil || tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("got %v, want an error (%v)", err, tt.is)
			}
			if e.minutes != 1 || e.Value("mid") != 2 {
				t.Error("the refused bar changed the builder")
			}
			if _, err := Compute([]market.Bar{good, tt.bar}); err == nil {
				t.Error("Compute accepted the bar")
			}
		})
	}
}

func TestBuilderDoesNotAllocate(t *testing.T) {
	bars := wander(10, 5000, false)
	s, _ := Lookup("v1.8.1")
	dst := make([]float64, s.Len())
	e := NewBuilder()
	i := 0
	if got := testing.AllocsPerRun(4000, func() {
		if err := e.Push(bars[i]); err != nil {
			t.Fatal(err)
		}
		e.Vector(s, dst)
		i++
	}); got != 0 {
		t.Errorf("got %v allocations per bar, want 0", got)
	}
}

func BenchmarkBuilderPush(b *testing.B) {
	for _, quoted := range []bool{false, true} {
		name := map[bool]string{false: "trades", true: "quotes"}[quoted]
		b.Run(name, func(b *testing.B) {
			bars := wander(11, 4096, quoted)
			s, _ := Lookup("v1.8.1")
			dst := make([]float64, s.Len())
			e := NewBuilder()
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				bar := bars[i&4095]
				bar.Start = int64(i) * market.MinuteMS
				if err := e.Push(bar); err != nil {
					b.Fatal(err)
				}
				e.Vector(s, dst)
				i++
			}
		})
	}
}
