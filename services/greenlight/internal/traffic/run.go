package traffic

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sync/errgroup"
)

// Pace configures the speed of calls.
type Pace struct {
	// Concurrency is the maximum number of concurrent calls. Default 4.
	Concurrency int
	// Rate is the number of calls per second, started at fixed times. 0 means as fast as Concurrency allows.
	Rate float64
	// Timeout bounds each call. Default 2 s.
	Timeout time.Duration
	// Before, if set, is called before the i-th call, in order. Its error ends the run.
	Before func(ctx context.Context, i int) error
	// Streams makes [Shadow] request all decisions once more, over streams and without waiting for shadows, as a trader would.
	Streams bool
	// Progress, which may be nil, is called with the number of completed calls.
	Progress func(done, total int)
}

// Latency has quantiles of the time from a call's start to its answer, in milliseconds.
type Latency struct {
	P50 float64 `json:"p50"`
	P95 float64 `json:"p95"`
	P99 float64 `json:"p99"`
}

func (p Pace) orDefault() Pace {
	if p.Concurrency == 0 {
		p.Concurrency = 4
	}
	if p.Timeout == 0 {
		p.Timeout = 2 * time.Second
	}
	return p
}

// each calls fn for 0..n-1 at the pace and returns the total duration. It stops early when ctx ends.
func (p Pace) each(ctx context.Context, n int, fn func(ctx context.Context, i int)) (time.Duration, error) {
	p = p.orDefault()
	var done atomic.Int64
	var order, progress sync.Mutex
	next := 0
	take := func(ctx context.Context) (int, error) {
		order.Lock()
		defer order.Unlock()
		i := next
		next++
		if i >= n || p.Before == nil {
			return i, nil
		}
		return i, p.Before(ctx, i)
	}
	start := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	for range p.Concurrency {
		group.Go(func() error {
			for {
				i, err := take(ctx)
				if i >= n || err != nil {
					return err
				}
				if err := p.wait(ctx, start, i); err != nil {
					return err
				}
				callCtx, cancel := context.WithTimeout(ctx, p.Timeout)
				fn(callCtx, i)
				cancel()
				if d := int(done.Add(1)); p.Progress != nil && (d%64 == 0 || d == n) {
					progress.Lock()
					p.Progress(d, n)
					progress.Unlock()
				}
			}
		})
	}
	err := group.Wait()
	return time.Since(start), err
}

// wait returns when the i-th call is due.
func (p Pace) wait(ctx context.Context, start time.Time, i int) error {
	if p.Rate <= 0 {
		return ctx.Err()
	}
	due := start.Add(time.Duration(float64(i) / p.Rate * float64(time.Second)))
	if !Pause(ctx, time.Until(due)) {
		return ctx.Err()
	}
	return nil
}

// Pause waits for d, and reports false when ctx ends first.
func Pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// stopwatch collects times of up to a minute, with three significant digits.
type stopwatch struct {
	mu sync.Mutex
	h  *hdrhistogram.Histogram
}

func newStopwatch() *stopwatch {
	return &stopwatch{h: hdrhistogram.New(1, int64(time.Minute), 3)}
}

func (s *stopwatch) add(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.h.RecordValue(min(int64(d), int64(time.Minute))) // fails only above the limit
}

func (s *stopwatch) latency() Latency {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := func(q float64) float64 { return float64(s.h.ValueAtQuantile(q)) / float64(time.Millisecond) }
	return Latency{P50: at(50), P95: at(95), P99: at(99)}
}

func (s *stopwatch) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return int(s.h.TotalCount())
}

// timed adds the duration of a successful call.
func timed[T any](w *stopwatch, call func() (T, error)) (T, error) {
	start := time.Now()
	v, err := call()
	if err == nil {
		w.add(time.Since(start))
	}
	return v, err
}
