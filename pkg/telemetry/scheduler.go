package telemetry

import (
	"context"
	"runtime/metrics"
	"slices"
	"sync/atomic"
	"time"
)

const (
	// schedulerInterval is over which time the waits of goroutines are judged.
	schedulerInterval = 100 * time.Millisecond
	// longShare is the share of the goroutines which became ready that must have waited for long before the process counts as
	// busy.
	longShare = 0.01
	// longLeast is the least number of such waits. Fewer are a pause of the machine, not a queue: a process with little work has
	// too few waits for a 99 % quantile.
	longLeast = 10
)

// Scheduler watches how long ready goroutines wait for a processor. That is where work queues when a process has more of it
// than its processors can do, however it came in.
type Scheduler struct {
	sample []metrics.Sample
	last   []uint64
	wait   atomic.Int64 // the result of judge
}

// NewScheduler returns a scheduler that is not busy until Watch has run.
func NewScheduler() *Scheduler {
	s := &Scheduler{sample: []metrics.Sample{{Name: "/sched/latencies:seconds"}}}
	s.waited()
	return s
}

// Busy reports whether, over the last 100 ms, more than 1 % of the waits, and at least 10, were longer than limit.
func (s *Scheduler) Busy(limit time.Duration) bool { return s.wait.Load() >= int64(limit) }

// Watch watches until ctx ends.
func (s *Scheduler) Watch(ctx context.Context) {
	t := time.NewTicker(schedulerInterval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			s.wait.Store(int64(s.waited()))
		}
	}
}

// waited returns how long too many of the waits since the last call were at least.
func (s *Scheduler) waited() time.Duration {
	metrics.Read(s.sample)
	return s.judge(s.sample[0].Value.Float64Histogram())
}

// judge is waited for a histogram of all waits so far.
func (s *Scheduler) judge(h *metrics.Float64Histogram) time.Duration {
	if s.last == nil {
		s.last = make([]uint64, len(h.Counts))
	}
	var all, long uint64
	for i, n := range h.Counts {
		all += n - s.last[i]
	}
	wait := time.Duration(0)
	for i, n := range slices.Backward(h.Counts) {
		long += n - s.last[i]
		if long >= longLeast && float64(long) > longShare*float64(all) {
			wait = time.Duration(max(0, h.Buckets[i]) * float64(time.Second)) // the lower edge
			break
		}
	}
	copy(s.last, h.Counts)
	return wait
}
