package market

import "testing"

func TestBarBuilder(t *testing.T) {
	var b BarBuilder
	if _, ok := b.Flush(); ok {
		t.Error("a bar of nothing")
	}
	b.Trade(5, 1) // in the minute that the first quote opens
	steps := []struct {
		quote Quote
		done  bool
		want  Bar
	}{
		{Quote{Time: 10, Bid: 10, Ask: 12}, false, Bar{}},
		{Quote{Time: 59_999, Bid: 8, Ask: 10}, false, Bar{}},
		{Quote{Time: 60_000, Bid: 20, Ask: 20}, true, Bar{Start: 0, Open: 11, High: 11, Low: 9, Close: 9, Bid: 8, Ask: 10, Volume: 1}},
		{Quote{Time: 59_000, Bid: 99, Ask: 99}, false, Bar{}}, // late: ignored
		{Quote{Time: 200_000, Bid: 30, Ask: 32}, true, Bar{Start: 60_000, Open: 20, High: 20, Low: 20, Close: 20, Bid: 20, Ask: 20}},
	}
	for i, s := range steps {
		got, ok := b.Add(s.quote)
		if ok != s.done || ok && got != s.want {
			t.Errorf("step %d: got %+v, %v; want %+v, %v", i, got, ok, s.want, s.done)
		}
	}
	b.Trade(199_000, 2)
	b.Trade(100, 7)     // late: left out
	b.Trade(260_000, 3) // in a minute without a quote: left out
	want := Bar{Start: 180_000, Open: 31, High: 31, Low: 31, Close: 31, Bid: 30, Ask: 32, Volume: 2}
	if got, ok := b.Flush(); !ok || got != want {
		t.Errorf("flush: got %+v, %v; want %+v", got, ok, want)
	}
	if _, ok := b.Add(Quote{Time: 240_001, Bid: 1, Ask: 1}); ok {
		t.Error("Flush did not reset the builder")
	}
}
