package telemetry

import (
	"context"
	"runtime"
	"sync"
	"testing"
	"time"
)

// busy is how long a queue must persist here, in time and in samples.
const (
	busy        = 100 * time.Millisecond
	busySamples = int(busy / schedulerInterval)
)

func TestBusyByAQueueThatStands(t *testing.T) {
	s := NewScheduler()
	add := func(n int, waiting uint64) {
		for range n {
			s.judge(waiting, 2)
		}
	}
	for _, tt := range []struct {
		name    string
		samples int
		waiting uint64
		want    bool
	}{
		{"a queue shorter than a tenth of a second", busySamples - 1, 500, false},
		{"which was empty once", 1, 1, false},
		{"and begins again", busySamples - 1, 2, false},
		{"and stands", 1, 2, true},
		{"and goes on", 100, 2, true},
		{"and is empty once", 1, 0, false},
	} {
		add(tt.samples, tt.waiting)
		if s.Busy(busy) != tt.want {
			t.Errorf("%s: busy %t, want %t", tt.name, !tt.want, tt.want)
		}
	}
}

// Goroutines that are always runnable make the process busy.
func TestBusyWhenGoroutinesWait(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	s := NewScheduler()
	ctx, cancel := context.WithCancel(t.Context())
	var watch, work sync.WaitGroup
	watch.Go(func() { s.Watch(ctx) })
	for range 4 {
		work.Go(func() {
			for !s.Busy(busy) {
				runtime.Gosched()
			}
		})
	}
	work.Wait() // forever, if it is never busy
	cancel()
	watch.Wait()
}
