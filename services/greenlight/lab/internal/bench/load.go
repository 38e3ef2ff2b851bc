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
)

// call makes the i-th call and checks its answer.
type call func(ctx context.Context, i int) error

// span is the length of a segment; warm is not counted. A segment continues until one call was counted, so that a busy
// machine also measures something.
type span struct {
	warm, length time.Duration
}

// maxLatency is the largest recorded latency, and how long a segment waits for its last answers.
const maxLatency = 10 * time.Second

// maxUnderWay is how many calls of an open loop may be in flight before the server counts as lost.
const maxUnderWay = 20_000

// sample is the result of one segment.
type sample struct {
	calls   int64
	took    time.Duration // of the counted part
	all     int64         // including the calls of the warm part
	refused int64         // of all, of an open loop
	cpu     time.Duration // CPU time of the server for all of them; 0 if the system does not report it
	latency *hdrhistogram.Histogram
}

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, int64(maxLatency), 3)
}

func record(h *hdrhistogram.Histogram, d time.Duration) {
	_ = h.RecordValue(min(int64(d), int64(maxLatency))) // fails only beyond the limit
}

// add adds another part of the same segment.
func (s *sample) add(part sample) {
	s.calls += part.calls
	s.took += part.took
	s.all += part.all
	s.refused += part.refused
	s.cpu += part.cpu
	s.latency.Merge(part.latency)
}

// throughput returns answers per second.
func (s sample) throughput() float64 { return float64(s.calls) / s.took.Seconds() }

// quantile returns microseconds.
func (s sample) quantile(q float64) float64 {
	return float64(s.latency.ValueAtQuantile(q)) / float64(time.Microsecond)
}

// closedLoop keeps the number of calls in flight for the span. A call counts if it started in the counted part, even if it
// is answered just after it.
func closedLoop(ctx context.Context, underWay int, s span, fn call) (sample, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer time.AfterFunc(s.warm+s.length+maxLatency, func() { cancel(errLost) }).Stop()

	histograms := make([]*hdrhistogram.Histogram, underWay)
	all := make([]int64, underWay)
	var workers sync.WaitGroup
	var counted atomic.Bool
	begin := time.Now().Add(s.warm)
	end := begin.Add(s.length)
	for w := range underWay {
		histograms[w] = newHistogram()
		workers.Go(func() {
			now := time.Now()
			for i := w; (now.Before(end) || !counted.Load()) && ctx.Err() == nil; i += underWay {
				if err := fn(ctx, i); err != nil {
					cancel(err)
					return
				}
				after := time.Now()
				all[w]++
				if !now.Before(begin) {
					record(histograms[w], after.Sub(now))
					counted.Store(true)
				}
				now = after
			}
		})
	}
	workers.Wait()
	if ctx.Err() != nil {
		return sample{}, context.Cause(ctx) // the first error
	}
	result := sample{took: time.Since(begin), latency: newHistogram()}
	for w, h := range histograms {
		result.all += all[w]
		result.calls += h.TotalCount()
		result.latency.Merge(h)
	}
	return result, nil
}

// openLoop starts calls at random times of the rate (calls per second) for the span, whether or not earlier ones have been
// answered. The latency of a call counts from the time it was due, so it includes the delay of a late start. Two runs with
// the same seed have the same times.
func openLoop(ctx context.Context, rate float64, seed uint64, s span, sleep func(time.Duration), fn call) (sample, error) {
	if !(rate > 0) {
		return sample{}, fmt.Errorf("open loop at %v calls a second: want more than 0", rate)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer time.AfterFunc(s.warm+s.length+maxLatency, func() { cancel(errLost) }).Stop()

	var mu sync.Mutex
	result := sample{took: s.length, latency: newHistogram()}
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
				record(result.latency, latency)
			}
		})
	}
	calls.Wait()
	if ctx.Err() != nil {
		return sample{}, context.Cause(ctx)
	}
	return result, nil
}

var errLost = errors.New("the server does not keep up: too many calls are in flight, or one takes too long")

// arrivals has the times of a Poisson process, since its start.
type arrivals struct {
	rng  *rand.Rand
	rate float64 // a second
	at   float64 // seconds
}

func (a *arrivals) next() time.Duration {
	a.at += a.rng.ExpFloat64() / a.rate
	return time.Duration(a.at * float64(time.Second))
}
