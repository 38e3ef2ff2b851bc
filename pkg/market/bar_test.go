package market

import (
	"crypto/sha256"
	"encoding/hex"
	"testing"
)

func TestSeriesDigest(t *testing.T) {
	s := &Series{Files: []File{{Path: "a", SHA256: "11"}, {Path: "b", SHA256: "22"}}}
	sum := sha256.Sum256([]byte("11\n22\n"))
	if got, want := s.Digest(), hex.EncodeToString(sum[:]); got != want {
		t.Errorf("digest: got %s, want %s", got, want)
	}
	moved := &Series{Files: []File{{Path: "/else/a", SHA256: "11"}, {Path: "/else/b", SHA256: "22"}}}
	if moved.Digest() != s.Digest() {
		t.Error("the digest must not depend on paths")
	}
	swapped := &Series{Files: []File{s.Files[1], s.Files[0]}}
	if swapped.Digest() == s.Digest() {
		t.Error("the digest must depend on the order")
	}
	if got := (&Series{}).Digest(); got != "" {
		t.Errorf("digest of no file: got %q, want none", got)
	}
}

func TestBar(t *testing.T) {
	b := Bar{Start: 120_000}
	if got := b.End(); got != 180_000 {
		t.Errorf("end: got %d, want 180000", got)
	}
	if b.Quoted() {
		t.Error("a bar of trades is quoted")
	}
	if b.Bid, b.Ask = 1, 2; !b.Quoted() {
		t.Error("a bar with bid and ask is not quoted")
	}
}

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
