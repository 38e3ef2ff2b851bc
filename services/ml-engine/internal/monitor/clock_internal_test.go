package monitor

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
)

// The wall clock is set wrong, for a moment or permanently, and the monotonic clock shows it. Each step has the hour of the
// wall clock, the hours since the last accepted one, and whether it is accepted.
func TestClockLeaps(t *testing.T) {
	const h, day = 480_000, 24
	type step struct {
		hour     int64
		passed   int // hours
		believed bool
	}
	for _, tt := range []struct {
		name  string
		steps []step
	}{
		{"goes on", []step{{h, 0, true}, {h + 1, 1, true}, {h + 3, 2, true}}},
		{"nothing for a month", []step{{h, 0, true}, {h + 30*day, 30 * day, true}}},
		{"400 days ahead for a moment", []step{{h, 0, true}, {h + 400*day, 0, false}, {h + 400*day, 0, false}, {h, 0, true}, {h + 1, 1, true}}},
		{"8 days ahead for good", []step{{h, 0, true}, {h + 8*day, 0, false}, {h + 8*day + 1, 1, true}, {h + 8*day + 2, 1, true}}},
		{"ahead, and further ahead", []step{{h, 0, true}, {h + 8*day, 0, false}, {h + 400*day, 0, false}, {h + 8*day, 0, false}, {h + 1, 1, true}}},
		{"a little ahead", []step{{h, 0, true}, {h + 20, 0, true}}},
		{"back: the ring judges that", []step{{h, 0, true}, {h - 400*day, 0, true}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var c clock
			for i, s := range tt.steps {
				if got := c.step(s.hour, time.Duration(s.passed)*time.Hour); got != s.believed {
					t.Fatalf("step %d: believed %v, want %v", i, got, s.believed)
				} else if got {
					c.last = time.Unix(s.hour*3600, 0)
				}
			}
		})
	}
}

// Rows counted while the clock was ahead are dropped once the clock was set back and its next hour has come.
func TestEventsOfAWrongClockAreDropped(t *testing.T) {
	ring := drift.NewRing(enginetest.Artifact(t, "v1.8.1", "v1").Reference)
	c := clock{event: true, ahead: time.Minute, ignored: &atomic.Uint64{}}
	x := make([]float64, ring.Profile().Scored())
	now := time.Date(2026, 11, 30, 10, 30, 0, 0, time.UTC)
	count := func(now, event time.Time) { ring.Observe(c.hourOf(ring, now, event.UnixMilli()), x) }
	for i := range 5 {
		count(now, now.Add(time.Duration(i-5)*time.Hour))
	}
	wrong := now.Add(8 * 24 * time.Hour)
	count(wrong, wrong)
	count(wrong, wrong.Add(time.Second))
	for _, tt := range []struct {
		now     time.Time
		dropped uint64
		present time.Time
	}{
		{wrong, 0, wrong}, {now, 0, wrong}, {now.Add(20 * time.Minute), 0, wrong}, {now.Add(time.Hour), 1, now.Add(-time.Hour)},
	} {
		if got := c.tick(ring, tt.now); got != tt.dropped || ring.Present() != hourOf(tt.present) {
			t.Errorf("at %v: dropped %d, the present is %v, want %d and %v", tt.now, got, time.Unix(ring.Present()*3600, 0).UTC(), tt.dropped, tt.present)
		}
	}
	if counts, _, _ := ring.Window(ring.Present(), 24); counts.Rows() != 6 {
		t.Errorf("%d rows are left, want the 5, and the one that waited", counts.Rows())
	}
}
