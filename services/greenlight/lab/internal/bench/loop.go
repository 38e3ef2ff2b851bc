package bench

import (
	"context"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// This file is what other measurements take from here: loops, spreads, and what the machine did meanwhile.

// Call makes the i-th call of a loop.
type Call func(ctx context.Context, i int) error

// Segment is what a loop gave.
type Segment struct {
	// Calls is how many were made, in Took.
	Calls int64
	Took  time.Duration
	// Latency is in nanoseconds; in an open loop, from the instant at which a call was due.
	Latency *hdrhistogram.Histogram
}

// Throughput is calls per second.
func (s Segment) Throughput() float64 { return float64(s.Calls) / s.Took.Seconds() }

// Quantile is of the latency, q in percent, in microseconds.
func (s Segment) Quantile(q float64) float64 {
	return float64(s.Latency.ValueAtQuantile(q)) / float64(time.Microsecond)
}

// ClosedLoop keeps the number of calls under way for the length. The first error ends it.
func ClosedLoop(ctx context.Context, underWay int, length time.Duration, fn Call) (Segment, error) {
	s, err := closedLoop(ctx, underWay, span{length: length}, call(fn))
	return Segment{s.calls, s.took, s.latency}, err
}

// OpenLoop begins calls at random times (Poisson) of the rate, calls a second, for the length, whether or not earlier ones
// have been answered. The same seed makes the same times, and so the same number of calls. The first error ends it.
func OpenLoop(ctx context.Context, rate float64, seed uint64, length time.Duration, fn Call) (Segment, error) {
	sleep, done := preciseSleep()
	defer done()
	s, err := openLoop(ctx, rate, seed, span{length: length}, sleep, call(fn))
	return Segment{s.calls, s.took, s.latency}, err
}

// SpreadOf sums the values up. One that is not finite makes the median NaN.
func SpreadOf(values []float64) Spread { return spreadOf(values) }

// Watch notes what the machine does from now on.
type Watch struct{ watcher }

// WatchMachine begins to watch.
func WatchMachine() Watch { return Watch{watchMachine()} }

// Machine is where this runs. Its other load is that of all but this process, the processes that still run, and those that
// have ended and had used past of CPU time.
func (w Watch) Machine(past time.Duration, pids ...int) Machine { return w.beside(past, pids...) }

// CPU is the CPU time that the process has used, and whether this system tells (Linux does).
func CPU(pid int) (used time.Duration, ok bool) { return cpuOf(pid) }
