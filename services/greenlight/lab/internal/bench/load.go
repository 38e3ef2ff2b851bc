package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/rig"
)

// Call makes the i-th call of a loop and checks its answer.
type Call func(ctx context.Context, i int) error

// span is the length of a segment; warm is not counted. A segment continues until at least one call was counted, so that a
// busy machine also measures something.
type span struct {
	warm, length time.Duration
}

// maxLatency is the largest recorded latency, and how long a segment waits for its last answers.
const maxLatency = 10 * time.Second

// maxUnderWay is the number of calls in flight in an open loop at which the server counts as lost.
const maxUnderWay = 20_000

// Sample is the result of one segment.
type Sample struct {
	calls   int64
	took    time.Duration // of the counted part
	all     int64         // including the calls of the warm part
	refused int64         // of all calls, in an open loop
	cpu     time.Duration // CPU time of the server for all of them; 0 if the system does not report it

	// Latency is in nanoseconds; in an open loop, from the time at which a call was due.
	Latency *hdrhistogram.Histogram
}

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, int64(maxLatency), 3)
}

func record(h *hdrhistogram.Histogram, d time.Duration) {
	_ = h.RecordValue(min(int64(d), int64(maxLatency))) // fails only above the limit
}

// add adds another part of the same segment.
func (s *Sample) add(part Sample) {
	s.calls += part.calls
	s.took += part.took
	s.all += part.all
	s.refused += part.refused
	s.cpu += part.cpu
	s.Latency.Merge(part.Latency)
}

// Throughput returns answers per second.
func (s Sample) Throughput() float64 { return float64(s.calls) / s.took.Seconds() }

// Quantile returns the latency's quantile in microseconds; q is in percent.
func (s Sample) Quantile(q float64) float64 {
	return float64(s.Latency.ValueAtQuantile(q)) / float64(time.Microsecond)
}

// ClosedLoop keeps the number of calls in flight for the given time. The first error ends it.
func ClosedLoop(ctx context.Context, underWay int, length time.Duration, fn Call) (Sample, error) {
	return closedLoop(ctx, underWay, span{length: length}, fn)
}

// OpenLoop starts calls at random times (Poisson) at the rate, in calls per second, for the given time, whether or not earlier
// ones have been answered. The same seed gives the same times and number of calls. The first error ends it.
func OpenLoop(ctx context.Context, rate float64, seed uint64, length time.Duration, fn Call) (Sample, error) {
	sleep, done := rig.PreciseSleep()
	defer done()
	return openLoop(ctx, rate, seed, span{length: length}, sleep, fn)
}

// closedLoop keeps the number of calls in flight for the span. A call counts if it started in the counted part, even if it
// is answered just after it.
func closedLoop(ctx context.Context, underWay int, s span, fn Call) (Sample, error) {
	var counted atomic.Bool
	begin := time.Now().Add(s.warm)
	end := begin.Add(s.length)
	parts, err := together(ctx, underWay, s, func(ctx context.Context, w int) (Sample, error) {
		part := Sample{Latency: newHistogram()}
		now := time.Now()
		for i := w; (now.Before(end) || !counted.Load()) && ctx.Err() == nil; i += underWay {
			if err := fn(ctx, i); err != nil {
				return part, err
			}
			after := time.Now()
			part.all++
			if !now.Before(begin) {
				part.calls++
				record(part.Latency, after.Sub(now))
				counted.Store(true)
			}
			now = after
		}
		return part, nil
	})
	return merged(begin, parts), err
}

// together runs n functions until all have ended, and returns their results. The first error ends the others.
func together[T any](ctx context.Context, n int, s span, fn func(ctx context.Context, i int) (T, error)) ([]T, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer time.AfterFunc(s.warm+s.length+maxLatency, func() { cancel(errLost) }).Stop()
	parts := make([]T, n)
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() {
			var err error
			if parts[i], err = fn(ctx, i); err != nil {
				cancel(err)
			}
		})
	}
	group.Wait()
	return parts, context.Cause(ctx) // the first error
}

// merged merges the parts of a segment that began at begin.
func merged(begin time.Time, parts []Sample) Sample {
	sum := Sample{took: time.Since(begin), Latency: newHistogram()}
	for _, part := range parts {
		sum.add(part)
	}
	return sum
}

// openLoop starts calls at random times at the rate (calls per second) for the span, whether or not earlier ones have been
// answered. The latency of a call counts from the time when it was due, so it includes the delay of a late start. Two runs
// with the same seed have the same times.
func openLoop(ctx context.Context, rate float64, seed uint64, s span, sleep func(time.Duration), fn Call) (Sample, error) {
	if !(rate > 0) {
		return Sample{}, fmt.Errorf("open loop at %v calls a second: want more than 0", rate)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer time.AfterFunc(s.warm+s.length+maxLatency, func() { cancel(errLost) }).Stop()

	var mu sync.Mutex
	result := Sample{took: s.length, Latency: newHistogram()}
	var calls sync.WaitGroup
	began := false // a call that counts
	slots := make(chan struct{}, maxUnderWay)
	begin := time.Now()
	times := arrivals{rng: rand.New(rand.NewPCG(seed, seed)), rate: rate}
	for i := 0; ctx.Err() == nil; i++ {
		due := times.next()
		if due >= s.warm+s.length {
			if began {
				break
			}
			result.took = due - s.warm
		}
		began = began || due >= s.warm
		if wait := due - time.Since(begin); wait > 0 {
			sleep(wait)
		}
		select {
		case slots <- struct{}{}:
		default:
			cancel(errLost)
			continue
		}
		calls.Go(func() {
			err := fn(ctx, i)
			latency := time.Since(begin) - due
			<-slots
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				cancel(err)
				return
			}
			result.all++
			if due >= s.warm {
				result.calls++
				record(result.Latency, latency)
			}
		})
	}
	calls.Wait()
	if ctx.Err() != nil {
		return Sample{}, context.Cause(ctx)
	}
	return result, nil
}

var errLost = errors.New("the server does not keep up: too many calls are in flight, or one takes too long")

// arrivals holds the times of a Poisson process, since its start.
type arrivals struct {
	rng  *rand.Rand
	rate float64 // a second
	at   float64 // seconds
}

func (a *arrivals) next() time.Duration {
	a.at += a.rng.ExpFloat64() / a.rate
	return time.Duration(a.at * float64(time.Second))
}
