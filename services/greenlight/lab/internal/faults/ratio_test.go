package faults

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/greenlight-ml/greenlight/pkg/gate"
)

// sides returns latencies of an exponential distribution in a number of blocks. Those of on are longer by the factor, and in
// the first block also by the transient.
func sides(rng *rand.Rand, blocks int, factor float64, transient time.Duration) (on, off *latencies) {
	on, off = &latencies{}, &latencies{}
	for block := range blocks {
		for side, l := range []*latencies{on, off} {
			for range blockRounds {
				h := hdrhistogram.New(1, int64(time.Second), 3)
				for range 200 {
					d := rng.ExpFloat64() * float64(time.Millisecond)
					if side == 0 {
						d *= factor
						if block == 0 {
							d += float64(transient)
						}
					}
					if err := h.RecordValue(int64(d) + 1); err != nil {
						panic(err)
					}
				}
				l.add(block, h)
			}
		}
	}
	return on, off
}

func ratio(t *testing.T, on, off *latencies) Ratio {
	t.Helper()
	r, err := ratioOf(on, off, blockRounds*len(on.of))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRatioIsOfTheMergedSlices(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	on, off := sides(rng, 25, 1.5, 0)
	r := ratio(t, on, off)
	// The p99 of an exponential distribution with mean 1 ms is ln 100 = 4.6 ms.
	if math.Abs(r.OffUS-4605) > 300 || math.Abs(r.Ratio-1.5) > 0.15 {
		t.Errorf("got %+v, want 4605 us and 1.5", r)
	}
	if !(r.Low < r.Ratio && r.Ratio < r.High) || r.judge() != gate.Fail {
		t.Errorf("got %+v: want missed, with the ratio in its interval", r)
	}
}

// Of two equal executors, almost none may be reported as missed, and the true ratio must be in almost all intervals.
func TestRatioInterval(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 1))
	missed, outside := 0, 0
	const trials = 20
	for range trials {
		on, off := sides(rng, 25, 1, 0)
		r := ratio(t, on, off)
		if r.judge() == gate.Fail {
			missed++
		}
		if r.Low > 1 || r.High < 1 {
			outside++
		}
	}
	if missed > 1 || outside > 2 {
		t.Errorf("of %d equal pairs %d are missed, and 1 is not in the interval of %d", trials, missed, outside)
	}
}

// If one hundredth of all answers is slow when the fault begins, that shows, also in the lower end of the interval.
func TestRatioKeepsTheTransient(t *testing.T) {
	on, off := sides(rand.New(rand.NewPCG(3, 1)), 25, 1, 100*time.Millisecond)
	if r := ratio(t, on, off); r.Ratio < 10 || r.Low < 10 {
		t.Errorf("got %+v: the first block is gone", r)
	}
}

func TestJudge(t *testing.T) {
	for _, tt := range []struct {
		r    Ratio
		want gate.Verdict
	}{
		{Ratio{Ratio: 1.10, Low: 1.0}, gate.Pass},
		{Ratio{Ratio: 1.11, Low: 1.05}, gate.Inconclusive},
		{Ratio{Ratio: 1.3, Low: 1.11}, gate.Fail},
		{Ratio{Ratio: math.NaN(), Low: math.NaN()}, gate.Fail},
	} {
		if got := tt.r.judge(); got != tt.want {
			t.Errorf("%+v: got %v, want %v", tt.r, got, tt.want)
		}
	}
	if _, err := ratioOf(&latencies{}, &latencies{}, 0); err == nil {
		t.Error("nothing measured has a ratio")
	}
	one, other := sides(rand.New(rand.NewPCG(4, 1)), 1, 1, 0)
	if r := ratio(t, one, other); r.Low != r.Ratio || r.High != r.Ratio {
		t.Errorf("one block: got %+v", r)
	}
}
