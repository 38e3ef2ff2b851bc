package feature

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
	"strings"
	"testing"
	"unsafe"

	"github.com/greenlight-ml/greenlight/pkg/market"
)

// sequence turns bytes into good and bad observations, 4 bytes each.
func sequence(l *Live, data []byte, each func(note Note)) {
	now, mid := int64(t0), 100.0
	prices := []float64{0, -1, math.NaN(), math.Inf(1), math.Inf(-1), 1e-12, 1e12, 1e300, math.SmallestNonzeroFloat64}
	steps := []int64{0, 1, 999, 30_000, market.MinuteMS, 11 * market.MinuteMS, 12 * market.MinuteMS, dayMS, 29 * dayMS, 31 * dayMS, -1, -dayMS}
	for ; len(data) >= 4; data = data[4:] {
		now += steps[int(data[0])%len(steps)]
		mid *= 1 + float64(int8(data[1]))/1e4
		bid, ask := mid, mid*(1+float64(int8(data[2]))/1e5)
		if k := int(data[3]); k < len(prices) {
			bid = prices[k]
		} else if k -= len(prices); k < len(prices) {
			ask = prices[k]
		}
		each(l.Observe(market.Quote{Time: now, Bid: bid, Ask: ask}))
		switch {
		case data[0] == 0xff:
			now = math.MaxInt64 - 1e9 // adding to it must not wrap around
		case now < t0-40*dayMS || now > t0+400*dayMS:
			now = t0
		}
	}
}

// FuzzLive feeds arbitrary observations. It must not panic, produce infinity or grow in memory. Every observation is
// counted, and the final snapshot restores to the same state.
func FuzzLive(f *testing.F) {
	f.Add([]byte("a quote is four bytes long, and so on for a while: mostly good ones"), false)
	f.Add([]byte{4, 10, 3, 50, 4, 10, 3, 50, 4, 10, 3, 0xf2, 4, 1, 0xff, 50, 0xff, 0, 0, 90, 8, 1, 1, 5, 8, 1, 1, 15}, true)
	f.Fuzz(func(t *testing.T, data []byte, keep bool) {
		data = data[:min(len(data), 1<<14)]
		l := NewLive(LiveOptions{KeepCrossed: keep})
		seen, size := uint64(0), footprint(l)
		sequence(l, data, func(note Note) {
			seen++
			if l.Count(note) == 0 || note >= noteEnd {
				t.Fatalf("note %v is not counted", note)
			}
			for _, d := range definitions {
				if v := d.value(l.features); math.IsInf(v, 0) {
					t.Fatalf("%s is %v", d.Name, v)
				}
			}
		})
		total := uint64(0)
		for _, n := range Notes() {
			total += l.Count(n)
		}
		if total != seen {
			t.Fatalf("counted %d of %d", total, seen)
		}
		if got := footprint(l); got != size {
			t.Fatalf("%d bytes became %d", size, got)
		}
		snapshot := state(t, l)
		if state(t, restore(t, snapshot, LiveOptions{KeepCrossed: keep})) != snapshot {
			t.Fatal("the restored differs")
		}
	})
}

// footprint returns the memory that a Live holds, in bytes.
func footprint(l *Live) int {
	n := int(unsafe.Sizeof(*l) + unsafe.Sizeof(*l.features))
	for _, w := range l.features.windows() {
		n += int(unsafe.Sizeof(*w)) + cap(w.ring)*8 + cap(w.tail)*int(unsafe.Sizeof(moments{}))
	}
	return n
}

// FuzzRestore restores damaged snapshots, with and without a valid checksum. The result is an error or a working Live,
// never a panic or an infinite value.
func FuzzRestore(f *testing.F) {
	for _, n := range []int{0, 1, 5, 2000} {
		l := newLive(f, LiveOptions{})
		for _, q := range chatter(uint64(n), n) {
			l.Observe(q)
		}
		f.Add([]byte(state(f, l)), uint32(20), uint64(1))
	}
	f.Fuzz(func(t *testing.T, data []byte, at uint32, value uint64) {
		try := func(s string) {
			l, err := RestoreLive(strings.NewReader(s), LiveOptions{})
			if err != nil {
				return
			}
			for _, q := range chatter(1, 50) {
				q.Time += max(0, l.last.Time-t0)
				l.Observe(q)
				for _, d := range definitions {
					if v := d.value(l.features); math.IsInf(v, 0) {
						t.Fatalf("%s is %v", d.Name, v)
					}
				}
			}
		}
		try(string(data))
		_, _ = RestoreBuilders(strings.NewReader(string(data)), BuildersOptions{})
		if len(data) < 16+8+sha256.Size {
			return
		}
		body := data[:len(data)-sha256.Size]
		binary.LittleEndian.PutUint64(body[16+int(at)%(len(body)-16-7):], value)
		sum := sha256.Sum256(body)
		try(string(body) + string(sum[:]))
	})
}
