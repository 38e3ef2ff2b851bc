package feature

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/greenlight-ml/greenlight/pkg/market"
)

// kindLive is the kind of a snapshot of one symbol, which only tests make.
const kindLive = 1

// Snapshot writes the state without the options.
func (l *Live) Snapshot(w io.Writer) error {
	s := newSealWriter(w, kindLive)
	var e encoder
	e.live(l)
	s.record(e.data)
	return s.close()
}

// RestoreLive reads what Snapshot wrote, and no byte after it.
func RestoreLive(r io.Reader, opts LiveOptions) (*Live, error) {
	s, err := newSealReader(r, kindLive)
	if err != nil {
		return nil, err
	}
	d, err := s.record()
	if err != nil {
		return nil, err
	}
	if err := s.close(); err != nil {
		return nil, err
	}
	l := d.live(opts)
	if err := d.end(); err != nil {
		return nil, err
	}
	return l, nil
}

// state returns a snapshot as text, to compare.
func state(t testing.TB, l *Live) string {
	t.Helper()
	var b bytes.Buffer
	if err := l.Snapshot(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func restore(t testing.TB, data string, opts LiveOptions) *Live {
	t.Helper()
	l, err := RestoreLive(strings.NewReader(data), opts)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// A Live is cut at random points, within minutes and holes, and continues from its snapshot. Features at every minute
// and the next snapshot are the same, bit for bit, as without a cut.
func TestRestoreGoesOn(t *testing.T) {
	const n = 25_000
	quotes := chatter(10, n)
	rng := rand.New(rand.NewPCG(10, 10))
	whole := newLive(t, LiveOptions{})
	cut := newLive(t, LiveOptions{})
	cuts := 0
	values := make([]float64, len(definitions))
	for i := range n {
		if a, b := whole.Observe(quotes[i]), cut.Observe(quotes[i]); a != b {
			t.Fatalf("%d: %v, cut %v", i, a, b)
		}
		if rng.IntN(60) == 0 || i < 40 {
			data := state(t, cut)
			cut = restore(t, data, LiveOptions{})
			if got := state(t, cut); got != data {
				t.Fatalf("%d: the snapshot of the restored differs", i)
			}
			if got := state(t, whole); got != data {
				t.Fatalf("%d: the snapshot of the cut differs from that of the whole", i)
			}
			cuts++
		}
		for c, d := range definitions {
			values[c] = d.value(whole.features)
			if got := d.value(cut.features); !identical(got, values[c]) {
				t.Fatalf("%d: %s: %v, cut %v", i, d.Name, values[c], got)
			}
		}
	}
	if cuts < 100 || whole.features.minutes < 3000 || whole.features.days.days < 2 {
		t.Errorf("%d cuts, %d minutes, %d days: the test proves little", cuts, whole.features.minutes, whole.features.days.days)
	}
}

// If these bytes change, the layout has changed: raise snapshotVersion.
func TestSnapshotGolden(t *testing.T) {
	l := newLive(t, LiveOptions{})
	for _, b := range wander(12, 2000, true) {
		// A constant price: logarithms of ratios other than 1 differ in the last bit between processors.
		l.Observe(market.Quote{Time: b.Start, Bid: 99.5, Ask: 100.5})
	}
	const want = "fc66c0b3c40104f8"
	sum := sha256.Sum256([]byte(state(t, l)))
	if got := hex.EncodeToString(sum[:8]); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// A snapshot saved by an older version continues, and symbols that were stuck recover. AHEAD had accepted a quote from
// the future; SILENT was silent for 31 days.
func TestRestoreOlderVersion(t *testing.T) {
	data, err := os.ReadFile("testdata/book-v1.snapshot")
	if err != nil {
		t.Fatal(err)
	}
	now := int64(t0 + 31*dayMS)
	restored := func(latest int64) *Builders {
		b, err := RestoreBuilders(bytes.NewReader(data), BuildersOptions{Live: LiveOptions{Latest: func() int64 { return latest }}})
		if err != nil {
			t.Fatal(err)
		}
		if b.Count(Accepted) != 11 || b.Count(OutOfOrder) != 3 || b.Count(Jump) != 3 || b.Count(Ahead) != 0 {
			t.Fatalf("accepted %d, out of order %d, jump %d", b.Count(Accepted), b.Count(OutOfOrder), b.Count(Jump))
		}
		if f := b.Refusing(); len(f) != 2 || f[0].Symbol != "AHEAD" || f[0].Refused != 3 || f[0].Note != OutOfOrder || f[1].Note != Jump || f[1].Waiting {
			t.Fatalf("got %+v", f)
		}
		return b
	}
	for symbol, at := range map[string]int64{"SILENT": now, "AHEAD": t0 + dayMS} {
		b := restored(at + market.MinuteMS)
		for i, want := range []Note{Jump, Accepted, Accepted} {
			if n, err := b.Observe(symbol, market.Quote{Time: at + int64(i)*1000, Bid: 99, Ask: 100}); n != want || err != nil {
				t.Errorf("%s: got %v, %v, want %v", symbol, n, err, want)
			}
		}
		if f := b.Refusing(); len(f) != 1 || f[0].Symbol == symbol {
			t.Errorf("%s: %+v refuse", symbol, f)
		}
	}
}

// A state saved by an older version within a second session of 240 minutes continues. It does not know how long the
// first session was, so two more sessions are needed.
func TestRestoreWithoutLengthsOfDays(t *testing.T) {
	f, err := os.Open("testdata/live-v1.snapshot")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	l, err := RestoreLive(f, LiveOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if l.features.minutes != 480 || l.features.days.seen != 0 {
		t.Fatalf("%d minutes, %d days seen", l.features.minutes, l.features.days.seen)
	}
	price := 100.0
	for day := 2; day < 5; day++ {
		if got := !math.IsNaN(l.features.Value("sigma_ref")); got {
			t.Errorf("ready before day %d", day)
		}
		for i := range 240 {
			price += float64((i*i+day)%7-3) / 16
			start := int64(t0)/dayMS*dayMS + int64(day)*dayMS + int64(i)*market.MinuteMS
			l.Observe(market.Quote{Time: start, Bid: price - 0.5, Ask: price + 0.5})
		}
	}
	if math.IsNaN(l.features.Value("sigma_ref")) {
		t.Error("not ready after three sessions")
	}
}

func TestRestoreRefuses(t *testing.T) {
	l := newLive(t, LiveOptions{})
	for _, q := range chatter(13, 3000) {
		l.Observe(q)
	}
	data := state(t, l)
	reseal := func(s string) string {
		sum := sha256.Sum256([]byte(s))
		return s + string(sum[:])
	}
	body := data[:len(data)-sha256.Size]
	tests := []struct {
		name    string
		data    string
		is      error
		mention string
	}{
		{"nothing", "", ErrSnapshot, "truncated"},
		{"text", "this is not a snapshot at all", ErrSnapshot, "does not begin with"},
		{"a later version", data[:8] + "\x03" + data[9:], ErrSnapshotVersion, "it has version 3, this program reads 1 to 2"},
		{"a snapshot of all symbols", data[:12] + "\x02" + data[13:], ErrSnapshot, "kind 2"},
		{"truncated", data[:len(data)/2], ErrSnapshot, "truncated"},
		{"without its end", data[:len(data)-1], ErrSnapshot, "truncated"},
		{"one bit", data[:300] + string(data[300]^1) + data[301:], ErrSnapshot, "checksum"},
		{"a huge record", data[:16] + "\xff\xff\xff\x7f" + data[20:], ErrSnapshot, "a record of 2147483647 bytes"},
		{"a minute with an impossible count", reseal(body[:20] + "\xff\xff\xff\xff\xff\xff\xff\xff" + body[28:]), ErrSnapshot, "a count of -1"},
		{"too short", reseal(body[:16] + "\x08\x00\x00\x00" + body[20:28]), ErrSnapshot, "too short"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := RestoreLive(strings.NewReader(tt.data), LiveOptions{})
			if !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.mention) || got != nil {
				t.Errorf("got %v, want %v that mentions %q", err, tt.is, tt.mention)
			}
		})
	}
	for i := 0; i < len(data); i += 37 {
		if _, err := RestoreLive(strings.NewReader(data[:i]), LiveOptions{}); !errors.Is(err, ErrSnapshot) {
			t.Fatalf("%d bytes of %d: %v", i, len(data), err)
		}
	}
	broken := errors.New("the disk is gone")
	if _, err := RestoreLive(iotest.ErrReader(broken), LiveOptions{}); !errors.Is(err, broken) || errors.Is(err, ErrSnapshot) {
		t.Errorf("got %v, want the reader's error", err)
	}
	if err := l.Snapshot(brokenWriter{broken}); !errors.Is(err, broken) {
		t.Errorf("got %v, want the writer's error", err)
	}
}

type brokenWriter struct{ err error }

func (w brokenWriter) Write([]byte) (int, error) { return 0, w.err }

// Two snapshots in one stream can be read one by one.
func TestRestoreReadsNoMore(t *testing.T) {
	l := newLive(t, LiveOptions{})
	l.Observe(market.Quote{Time: t0, Bid: 1, Ask: 2})
	data := state(t, l)
	r := strings.NewReader(data + data + "tail")
	for range 2 {
		if _, err := RestoreLive(iotest.OneByteReader(r), LiveOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if rest, _ := io.ReadAll(r); string(rest) != "tail" {
		t.Errorf("left over: %q", rest)
	}
}

func BenchmarkSnapshot(b *testing.B) {
	l := newLive(b, LiveOptions{})
	for _, q := range chatter(14, 20_000) {
		l.Observe(q)
	}
	data := state(b, l)
	b.Run("write", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			if err := l.Snapshot(io.Discard); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("restore", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			restore(b, data, LiveOptions{})
		}
	})
}
