package feature

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/market"
)

func newBuilders(t testing.TB, opts BuildersOptions) *Builders {
	t.Helper()
	b, err := NewBuilders(opts)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// One goroutine feeds each symbol in order, with readers and snapshots in between. Every symbol ends as it would alone.
func TestBuildersAreManyLives(t *testing.T) {
	const symbols, n = 8, 4000
	book := newBuilders(t, BuildersOptions{})
	s, _ := Lookup("v1.8.1")
	var wg sync.WaitGroup
	for i := range symbols {
		wg.Go(func() {
			for _, q := range chatter(uint64(100+i), n) {
				if note, err := book.Observe(fmt.Sprint("S", i), q); err != nil || !note.Taken() && note != Duplicate && note != Jump {
					t.Errorf("%v, %v", note, err)
					return
				}
			}
		})
	}
	wg.Go(func() {
		dst := make([]float64, s.Len())
		for range 200 {
			book.Vector("S1", s, dst)
			_ = book.Readiness("S2", s)
			book.Symbols()
		}
		var first bytes.Buffer
		if err := book.Snapshot(&first); err != nil {
			t.Error(err)
		}
		if _, err := RestoreBuilders(&first, BuildersOptions{}); err != nil {
			t.Error(err)
		}
	})
	wg.Wait()

	var total uint64
	for _, note := range Notes() {
		total += book.Count(note)
	}
	if total != symbols*n {
		t.Errorf("counted %d of %d", total, symbols*n)
	}
	var data bytes.Buffer
	if err := book.Snapshot(&data); err != nil {
		t.Fatal(err)
	}
	again, err := RestoreBuilders(bytes.NewReader(data.Bytes()), BuildersOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range []*Builders{book, again} {
		for i := range symbols {
			alone := newLive(t, LiveOptions{})
			for _, q := range chatter(uint64(100+i), n) {
				alone.Observe(q)
			}
			if state(t, b.page(fmt.Sprint("S", i)).live) != state(t, alone) {
				t.Errorf("symbol %d differs from the symbol fed alone", i)
			}
		}
		if b.Count(Accepted) != book.Count(Accepted) || !slices.Equal(b.Symbols(), book.Symbols()) {
			t.Errorf("%d accepted, symbols %v", b.Count(Accepted), b.Symbols())
		}
	}
	var second bytes.Buffer
	if err := again.Snapshot(&second); err != nil || !bytes.Equal(second.Bytes(), data.Bytes()) {
		t.Errorf("the snapshot of the restored builders differs (%v)", err)
	}
}

func TestBuildersAreBounded(t *testing.T) {
	b := newBuilders(t, BuildersOptions{MaxSymbols: 2})
	good := market.Quote{Time: t0, Bid: 1, Ask: 2}
	for _, bad := range []market.Quote{{Time: t0, Bid: 2, Ask: 1}, {Time: t0, Bid: math.NaN(), Ask: 1}, {Time: 5, Bid: 1, Ask: 1}} {
		if note, err := b.Observe("NEW", bad); note.Taken() || err != nil || len(b.Symbols()) != 0 {
			t.Errorf("%+v: %v, %v, symbols %v", bad, note, err, b.Symbols())
		}
	}
	if b.Count(Crossed) != 1 || b.Count(BadPrice) != 1 || b.Count(BadTime) != 1 {
		t.Error("the first quotes of a symbol are not counted")
	}
	for _, symbol := range []string{"A", "B", "A"} {
		if _, err := b.Observe(symbol, good); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.Observe("C", good); !errors.Is(err, ErrTooManySymbols) || !strings.Contains(err.Error(), `symbol "C": too many symbols: the limit is 2`) {
		t.Errorf("got %v", err)
	}
	for _, symbol := range []string{"", strings.Repeat("x", MaxSymbolBytes+1)} {
		if _, err := b.Observe(symbol, good); !errors.Is(err, ErrSymbol) {
			t.Errorf("symbol %q: got %v", symbol, err)
		}
	}
	if !b.Forget("A") || b.Forget("A") {
		t.Error("forget")
	}
	if note, err := b.Observe("C", good); note != Accepted || err != nil {
		t.Errorf("after forget: %v, %v", note, err)
	}
	var data bytes.Buffer
	if err := b.Snapshot(&data); err != nil {
		t.Fatal(err)
	}
	if _, err := RestoreBuilders(&data, BuildersOptions{MaxSymbols: 1}); !errors.Is(err, ErrTooManySymbols) {
		t.Errorf("got %v", err)
	}
	if _, err := NewBuilders(BuildersOptions{MaxSymbols: -1}); err == nil {
		t.Error("negative bound")
	}
}

func TestBuildersOfUnknownSymbol(t *testing.T) {
	b := newBuilders(t, BuildersOptions{})
	s, _ := Lookup("v1.8")
	dst := make([]float64, s.Len())
	if asOf, ready := b.Vector("?", s, dst); asOf != 0 || ready || !math.IsNaN(dst[1]) {
		t.Errorf("got %v, %v, %v", asOf, ready, dst)
	}
	if got, want := b.Readiness("?", s), "not ready: no minute is complete"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func BenchmarkBuildersObserve(b *testing.B) {
	book := newBuilders(b, BuildersOptions{})
	quotes := chatter(5, 4096)
	b.ReportAllocs()
	now := int64(t0)
	for i := 0; b.Loop(); i++ {
		q := quotes[i&4095]
		now += 100
		q.Time = now
		if note, err := book.Observe("BTCUSDT", q); err != nil || !note.Taken() {
			b.Fatal(note, err)
		}
	}
}
