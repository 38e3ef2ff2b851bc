package bench

import (
	"context"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// This file has the loops that other packages use.

// Call makes the i-th call of a loop.
type Call func(ctx context.Context, i int) error

// Segment is the result of a loop.
type Segment struct {
	// Calls is how many calls were made in the time Took.
	Calls int64
	Took  time.Duration
	// Latency is in nanoseconds; in an open loop, from the time at which a call was due.
	Latency *hdrhistogram.Histogram
}

// Throughput returns calls per second.
func (s Segment) Throughput() float64 { return float64(s.Calls) / s.Took.Seconds() }

// Quantile returns the latency's quantile in microseconds; q is in percent.
func (s Segment) Quantile(q float64) float64 {
	return float64(s.Latency.ValueAtQuantile(q)) / float64(time.Microsecond)
}

// ClosedLoop keeps the number of calls in flight for the length. The first error ends it.
func ClosedLoop(ctx context.Context, underWay int, length time.Duration, fn Call) (Segment, error) {
	s, err := closedLoop(ctx, underWay, span{length: length}, call(fn))
	return Segment{s.calls, s.took, s.latency}, err
}

// OpenLoop starts calls at random times (Poisson) of the rate, in calls per second, for the length, whether or not earlier
// ones have been answered. The same seed gives the same times and number of calls. The first error ends it.
func OpenLoop(ctx context.Context, rate float64, seed uint64, length time.Duration, fn Call) (Segment, error) {
	sleep, done := preciseSleep()
	defer done()
	s, err := openLoop(ctx, rate, seed, span{length: length}, sleep, call(fn))
	return Segment{s.calls, s.took, s.latency}, err
}
