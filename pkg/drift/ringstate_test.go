package drift_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/drift"
)

// owner is the model to which the rings of the tests belong.
var owner = drift.Owner{Schema: "v1.8.1", Model: strings.Repeat("a", 64), Reference: strings.Repeat("b", 64)}

func TestRingState(t *testing.T) {
	reference, days := mixed(t, 1, 6, 100)
	p := profile(t, reference, days)
	ring := drift.NewRing(p)
	for hour := range int64(900) {
		ring.Tick(1000 + hour)
		ring.Observe(1000+hour, []float64{0.1 * float64(hour%7), nan, 1, 3}[:3+hour%2])
	}
	raw, err := ring.State(owner)
	if err != nil {
		t.Fatal(err)
	}
	back, copied := restarted(t, p, ring), drift.NewRing(p)
	ring.CopyTo(copied)
	for name, r := range map[string]*drift.Ring{"restored": back, "copied": copied} {
		got, _, _ := r.Window(1899, drift.RingHours)
		want, _, _ := ring.Window(1899, drift.RingHours)
		sameCounts(t, name, p, got, want)
		if r.Present() != 1899 || r.Totals(0)[0] != 0 {
			t.Errorf("%s: got present %d, totals %v", name, r.Present(), r.Totals(0))
		}
		again, err := r.State(owner)
		if err != nil || !bytes.Equal(again, raw) {
			t.Errorf("%s, saved again: %v, the same: %v", name, err, bytes.Equal(again, raw))
		}
	}

	for name, other := range map[string]drift.Owner{
		"another reference": {Schema: owner.Schema, Model: owner.Model, Reference: owner.Model},
		"another model":     {Schema: owner.Schema, Model: owner.Reference, Reference: owner.Reference},
		"another schema":    {Schema: "v1.8", Model: owner.Model, Reference: owner.Reference},
	} {
		if _, err := drift.RestoreRing(p, other, raw); !errors.Is(err, drift.ErrProfile) {
			t.Errorf("%s: got %v, want %v", name, err, drift.ErrProfile)
		}
	}
	// Every byte of the head, and some bytes of the body, which is uniform.
	for i := 0; i < len(raw); i += 1 + i/400*1500 {
		bad := bytes.Clone(raw)
		bad[i] ^= 1
		if _, err := drift.RestoreRing(p, owner, bad); err == nil {
			t.Fatalf("byte %d of %d is flipped and not noticed", i, len(raw))
		}
	}
	for _, bad := range [][]byte{nil, []byte("{}"), raw[:len(raw)/2], append(bytes.Clone(raw), '{')} {
		if _, err := drift.RestoreRing(p, owner, bad); !errors.Is(err, drift.ErrState) {
			t.Errorf("%.20q: got %v", bad, err)
		}
	}
}

// A restart while the clock is ahead by more than the ring loses nothing either, once the clock is right again.
func TestRingStateWhileTheClockIsWrong(t *testing.T) {
	reference, days := mixed(t, 1, 6, 100)
	p := profile(t, reference, days)
	const h = 480_001
	ring := drift.NewRing(p)
	for _, hour := range []int64{h, h + 1, h + 1000, h + 2, h + 3} {
		ring.Tick(hour)
		ring.Observe(ring.Present(), []float64{0, 0, 1})
		ring = restarted(t, p, ring)
	}
	ring.Tick(h + 4) // accepted: a restart drops the pending check, and this is the second hour after it
	ring.Tick(h + 5)
	c, _, _ := ring.Window(ring.Present(), drift.RingHours)
	if ring.Present() != h+5 || c.Rows() != 5 {
		t.Errorf("got %d rows with %d as the present, want 5 with %d", c.Rows(), ring.Present(), h+5)
	}
}

// A state with a correct digest but impossible content is refused.
func TestRingStateRefuses(t *testing.T) {
	reference, days := mixed(t, 1, 6, 100)
	p := profile(t, reference, days)
	ring := drift.NewRing(p)
	ring.Observe(99, []float64{0, 0, 1})
	ring.Observe(100, []float64{0, 0, 1, 2})
	state, err := ring.State(owner)
	if err != nil {
		t.Fatal(err)
	}
	type hour struct {
		Hour   int64    `json:"hour"`
		Rows   uint64   `json:"rows"`
		Inputs uint64   `json:"inputs"`
		Bins   []uint64 `json:"bins"`
	}
	type body struct {
		drift.Owner

		Present int64  `json:"present"`
		Hours   []hour `json:"hours"`
	}
	for name, tt := range map[string]struct {
		change func(*body)
		want   string
	}{
		"unchanged":              {func(*body) {}, ""},
		"present before 1970":    {func(b *body) { b.Present = -1 }, "hour -1 as the present"},
		"present after 9999":     {func(b *body) { b.Present = math.MaxInt64 }, "as the present"},
		"future hour":            {func(b *body) { b.Present = 99 }, "hour 100 after 99"},
		"unordered hours":        {func(b *body) { b.Hours[0], b.Hours[1] = b.Hours[1], b.Hours[0] }, "hour 99 after 100"},
		"an hour twice":          {func(b *body) { b.Hours[0] = b.Hours[1] }, "hour 100 after 100"},
		"hour before 1970":       {func(b *body) { b.Hours[0].Hour = -1 }, "hour -1"},
		"two hours for one slot": {func(b *body) { b.Present, b.Hours[1].Hour = 9999, 99+drift.RingHours }, "has the rows of hour 99"},
		"no rows":                {func(b *body) { b.Hours[0].Rows = 0 }, "0 rows"},
		"more inputs than rows":  {func(b *body) { b.Hours[0].Inputs = 2 }, "1 rows, 2 with inputs"},
		"a bin too few":          {func(b *body) { b.Hours[0].Bins = b.Hours[0].Bins[1:] }, "bins of"},
		"a row too many":         {func(b *body) { b.Hours[0].Bins[0]++ }, `feature "wander"`},
		"a row too few":          {func(b *body) { b.Hours[0].Rows = 2 }, "want 2"},
		"inputs in no bin":       {func(b *body) { b.Hours[0].Inputs = 1 }, `feature "mid"`},
		"sums that wrap": {func(b *body) {
			b.Hours[0].Bins[0], b.Hours[0].Bins[1] = b.Hours[0].Bins[0]+1<<63, b.Hours[0].Bins[1]+1<<63
		}, `feature "wander"`},
		"too many rows": {func(b *body) { b.Hours[0].Rows = math.MaxUint64 }, "rows"},
	} {
		t.Run(name, func(t *testing.T) {
			var file struct{ Body body }
			if err := json.Unmarshal(state, &file); err != nil {
				t.Fatal(err)
			}
			tt.change(&file.Body)
			raw, err := json.Marshal(file.Body)
			if err != nil {
				t.Fatal(err)
			}
			_, err = drift.RestoreRing(p, owner, sealed(t, raw))
			if tt.want == "" && err != nil || tt.want != "" && (!errors.Is(err, drift.ErrState) || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q in it", err, tt.want)
			}
		})
	}
}

// sealed returns a state of the body with the right digest.
func sealed(t *testing.T, body json.RawMessage) []byte {
	t.Helper()
	sum := sha256.Sum256(body)
	raw, err := json.Marshal(map[string]any{"format": "greenlight/drift_state/v1", "sha256": hex.EncodeToString(sum[:]), "body": body})
	if err != nil {
		t.Skip("no JSON")
	}
	return raw
}

func FuzzRingState(f *testing.F) {
	columns, days := rows(1, 6, 20)
	p, err := drift.NewProfile(columns, days)
	if err != nil {
		f.Fatal(err)
	}
	ring := drift.NewRing(p)
	ring.Observe(5, []float64{1, 2, 3})
	ring.Observe(700, []float64{1, nan, 3})
	raw, err := ring.State(owner)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Fuzz(func(t *testing.T, raw []byte) {
		// The digest is right, so that the checks after it are reached.
		var file map[string]json.RawMessage
		if json.Unmarshal(raw, &file) == nil && len(file["body"]) > 0 {
			raw = sealed(t, file["body"])
		}
		r, err := drift.RestoreRing(p, owner, raw)
		if err != nil {
			return
		}
		// An accepted ring works like any other.
		before, _, _ := r.Window(r.Present(), drift.RingHours)
		r.Tick(r.Present())
		r.Observe(r.Present(), []float64{1, 2, 3})
		after, _, _ := r.Window(r.Present(), drift.RingHours)
		if after.Rows() != before.Rows()+1 || r.Totals(0)[0]+r.Totals(0)[1] > 1 {
			t.Errorf("got %d rows after %d", after.Rows(), before.Rows())
		}
	})
}
