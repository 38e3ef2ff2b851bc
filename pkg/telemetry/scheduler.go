package telemetry

import (
	"context"
	"runtime/metrics"
	"sync/atomic"
	"time"
)

// schedulerInterval is the time between two samples of the queue.
const schedulerInterval = 10 * time.Millisecond

// Scheduler watches the goroutines that are ready but wait for a processor. That queue grows when a process has more work than
// its processors can do, whatever the source.
//
// Only a queue that persists is overload. One that empties now and then is a burst, or work that arrived while the system gave
// the processors to other programs. The waiting time of goroutines does not tell these apart. On two cores shared with other
// programs, executor's threads waited three times as long as they ran, at 70 % of saturation, and one goroutine in twenty waited
// over 5 ms; but the queue was empty at some sample in every tenth of a second.
type Scheduler struct {
	samples  []metrics.Sample
	standing atomic.Int64 // consecutive samples that found a queue
}

// NewScheduler returns a scheduler that is not busy until Watch has run.
func NewScheduler() *Scheduler {
	return &Scheduler{samples: []metrics.Sample{{Name: "/sched/goroutines/runnable:goroutines"}, {Name: "/sched/gomaxprocs:threads"}}}
}

// Busy reports whether a queue has persisted for that time: whether each sample found at least as many waiting goroutines as
// processors.
func (s *Scheduler) Busy(queue time.Duration) bool {
	return time.Duration(s.standing.Load())*schedulerInterval >= queue
}

// Watch watches until ctx ends.
func (s *Scheduler) Watch(ctx context.Context) {
	t := time.NewTicker(schedulerInterval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			metrics.Read(s.samples)
			s.judge(s.samples[0].Value.Uint64(), s.samples[1].Value.Uint64())
		}
	}
}

// judge adds a sample.
func (s *Scheduler) judge(waiting, processors uint64) {
	if waiting < processors {
		s.standing.Store(0)
	} else {
		s.standing.Add(1)
	}
}
