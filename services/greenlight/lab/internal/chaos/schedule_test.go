package chaos

import (
	"slices"
	"testing"
	"time"
)

func TestScheduleIsTheSeeds(t *testing.T) {
	const length = 10 * time.Minute
	a, b := Schedule(1, length), Schedule(1, length)
	if !slices.Equal(a, b) {
		t.Error("the same seed has made two schedules")
	}
	if slices.Equal(a, Schedule(2, length)) {
		t.Error("two seeds have made one schedule")
	}
	for _, kind := range []Kind{Fault, Swap, Canary, Restart} {
		events := of(a, kind)
		if len(events) < 8 {
			t.Errorf("%s: %d events in %v, want at least 8", kind, len(events), length)
		}
		end := time.Duration(0)
		for _, e := range events {
			if e.At < end || e.At+e.For > length-quiet {
				t.Errorf("%s: %+v begins before the one before it ends, or ends in the quiet at the end", kind, e)
			}
			end = e.At + e.For
		}
		longer := of(Schedule(1, 2*length), kind)
		if !slices.Equal(longer[:len(events)], events) {
			t.Errorf("%s: a longer run begins differently", kind)
		}
	}
	for _, name := range slices.Concat(faultNames, endings) {
		if !slices.ContainsFunc(Schedule(3, 100*length), func(e Event) bool { return e.What == name }) {
			t.Errorf("%s never happens", name)
		}
	}
}
