package telemetry

import (
	"context"
	"runtime/metrics"
	"sync/atomic"
	"time"
)

// schedulerInterval is the time between two samples of the queue.
const schedulerInterval = 10 * time.Millisecond

// Scheduler watches the goroutines that are ready and wait for a processor. That is where work queues when a process has more
// of it than its processors can do, however it came in.
//
// Only a queue that stands is overload: one that empties now and then is a burst, or what came in while the system gave the
// processors to other programs. How long goroutines wait does not tell these apart. On two cores shared with other programs
// the threads of executor waited three times as long as they ran, at 70 % of saturation, and one goroutine in twenty waited
// over 5 ms; but the queue was empty at some sample of every tenth of a second.
type Scheduler struct {
	samples  []metrics.Sample
	standing atomic.Int64 // samples in a row that found a queue
}

// NewScheduler returns a scheduler that is not busy until Watch has run.
func NewScheduler() *Scheduler {
	return &Scheduler{samples: []metrics.Sample{{Name: "/sched/goroutines/runnable:goroutines"}, {Name: "/sched/gomaxprocs:threads"}}}
}

// Busy reports whether a queue has stood for that time: whether at least as many goroutines as there are processors waited at
// each sample of it.
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
