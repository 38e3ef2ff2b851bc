package telemetry

import (
	"context"
	"runtime/metrics"
	"sync/atomic"
	"time"
)

const (
	// schedulerInterval is over which time the waits of goroutines are judged.
	schedulerInterval = 100 * time.Millisecond
	// busyWait is the wait, in seconds, that more than busyShare of the goroutines which became ready must have exceeded before
	// the process counts as busy.
	busyWait, busyShare = 5e-3, 0.01
	// busyLeast is the least number of such waits. Fewer are a pause of the machine, not a queue: a process with little work has
	// too few waits for a 99 % quantile.
	busyLeast = 10
)

// Scheduler watches how long ready goroutines wait for a processor. That is where work queues when a process has more of it
// than its processors can do, however it came in.
type Scheduler struct {
	sample []metrics.Sample
	last   []uint64
	busy   atomic.Bool
}

// NewScheduler returns a scheduler that is not busy until Watch has run.
func NewScheduler() *Scheduler {
	s := &Scheduler{sample: []metrics.Sample{{Name: "/sched/latencies:seconds"}}}
	s.waited()
	return s
}

// Busy reports whether, over the last 100 ms, more than 1 % of the waits, and at least 10, were longer than 5 ms.
func (s *Scheduler) Busy() bool { return s.busy.Load() }

// Watch watches until ctx ends.
func (s *Scheduler) Watch(ctx context.Context) {
	t := time.NewTicker(schedulerInterval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			s.busy.Store(s.waited())
		}
	}
}

// waited reports whether too many of the waits since the last call were long.
func (s *Scheduler) waited() bool {
	metrics.Read(s.sample)
	return s.judge(s.sample[0].Value.Float64Histogram())
}

// judge is waited for a histogram of all waits so far.
func (s *Scheduler) judge(h *metrics.Float64Histogram) bool {
	if s.last == nil {
		s.last = make([]uint64, len(h.Counts))
	}
	var all, long uint64
	for i, n := range h.Counts {
		n, s.last[i] = n-s.last[i], n
		all += n
		if h.Buckets[i] >= busyWait { // the lower edge
			long += n
		}
	}
	return long >= busyLeast && float64(long) > busyShare*float64(all)
}
