package telemetry

import (
	"math"
	"runtime"
	"runtime/metrics"
	"sync"
	"testing"
	"time"
)

func TestBusyByTheShareOfLongWaits(t *testing.T) {
	h := &metrics.Float64Histogram{Counts: make([]uint64, 3), Buckets: []float64{math.Inf(-1), 4e-3, 5e-3, math.Inf(1)}}
	s := &Scheduler{}
	for i, tt := range []struct {
		short, close, long uint64
		want               bool
	}{
		{0, 0, 0, false},
		{980, 10, 10, false},
		{970, 10, 20, true},
		{0, 500, 0, false}, // what was long before does not count again
		{0, 0, 9, false},   // a pause of the machine
		{0, 0, 10, true},
	} {
		h.Counts[0] += tt.short
		h.Counts[1] += tt.close
		h.Counts[2] += tt.long
		wait := s.judge(h)
		if got := wait >= 5*time.Millisecond; got != tt.want {
			t.Errorf("interval %d: %v, busy %t, want %t", i, wait, got, tt.want)
		}
		s.wait.Store(int64(wait))
		if s.Busy(5*time.Millisecond) != tt.want || s.Busy(4*time.Millisecond) != (tt.close+tt.long >= 10) || s.Busy(time.Minute) {
			t.Errorf("interval %d: %v is busy by the wrong limits", i, wait)
		}
	}
}

// Goroutines that wait while the only processor computes make the process busy.
func TestBusyWhenGoroutinesWait(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	s := NewScheduler()
	var group sync.WaitGroup
	for range 4000 { // the runtime measures one in eight
		group.Go(func() {})
	}
	// The runtime interrupts this after 10 ms, which is a long wait.
	for begin := time.Now(); time.Since(begin) < 20*time.Millisecond; {
	}
	group.Wait()
	if s.waited() < 5*time.Millisecond {
		t.Error("not busy")
	}
}
