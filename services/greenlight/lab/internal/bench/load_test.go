package bench

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// at once is a server that answers in no time.
func atOnce(context.Context, int) error { return nil }

// stalling is a server that answers in a millisecond, except during a stall, when it answers nobody.
func stalling(from, length time.Duration) Call {
	start := time.Now()
	return func(context.Context, int) error {
		time.Sleep(time.Millisecond)
		if now := time.Since(start); now > from && now < from+length {
			time.Sleep(from + length - now)
		}
		return nil
	}
}

func ms(v float64) float64 { return v / 1000 } // from microseconds

func TestArrivalsArePoisson(t *testing.T) {
	const rate, n = 1000.0, 20_000
	a := arrivals{rng: rand.New(rand.NewPCG(1, 1)), rate: rate}
	var gaps []float64
	last := time.Duration(0)
	for range n {
		next := a.next()
		if next < last {
			t.Fatalf("%v after %v", next, last)
		}
		gaps, last = append(gaps, (next-last).Seconds()*rate), next
	}
	var mean, square float64
	for _, g := range gaps {
		mean, square = mean+g/n, square+g*g/n
	}
	// The gaps of a Poisson process have mean 1 and variance 1, in units of the rate.
	if sd := math.Sqrt(square - mean*mean); math.Abs(mean-1) > 0.03 || math.Abs(sd-1) > 0.05 {
		t.Errorf("gaps: mean %.3f, sd %.3f; want 1 and 1", mean, sd)
	}
}

func TestOpenLoopBeginsCallsWhenTheyAreDue(t *testing.T) {
	begun := func(seed uint64, answer time.Duration) (times []time.Duration) {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			var mu sync.Mutex
			s, err := openLoop(t.Context(), 500, seed, span{warm: time.Second, length: time.Second}, time.Sleep, func(context.Context, int) error {
				mu.Lock()
				times = append(times, time.Since(start))
				mu.Unlock()
				time.Sleep(answer)
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			counted := 0
			for _, at := range times {
				if at >= time.Second {
					counted++
				}
			}
			if s.calls != int64(counted) || s.all != int64(len(times)) || s.took != time.Second {
				t.Errorf("got %d of %d calls in %v, want %d of %d in 1s", s.calls, s.all, s.took, counted, len(times))
			}
		})
		return times
	}
	quick, slow := begun(3, 0), begun(3, 700*time.Millisecond)
	if !slices.Equal(quick, slow) {
		t.Error("the calls wait for answers: the loop is not open")
	}
	if len(quick) < 900 || len(quick) > 1100 {
		t.Errorf("got %d calls, want about 1000", len(quick))
	}
	if slices.Equal(quick, begun(4, 0)) {
		t.Error("another seed gives the same times")
	}
}

// A server that stalls for 100 ms of 2 s makes one call in twenty wait. An open loop shows that; a closed loop sends one call
// into the stall and sees almost none of it.
func TestOpenLoopChargesTheStallToAllWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const stall = 100 * time.Millisecond
		open, err := openLoop(t.Context(), 1000, 1, span{length: 2 * time.Second}, time.Sleep, stalling(time.Second, stall))
		if err != nil {
			t.Fatal(err)
		}
		closed, err := closedLoop(t.Context(), 1, span{length: 2 * time.Second}, stalling(time.Second, stall))
		if err != nil {
			t.Fatal(err)
		}
		// 1 % of 2,000 calls are 20: calls in the first 20 ms of the stall wait 80 ms and more.
		if got := ms(p99(open)); got < 70 || got > 95 {
			t.Errorf("open loop: p99 %.1f ms, want about 80", got)
		}
		if got := ms(p99(closed)); got > 2 {
			t.Errorf("closed loop: p99 %.1f ms, want about 1: then this test shows nothing", got)
		}
		if got := ms(closed.Quantile(100)); got < 100 || got > 103 {
			t.Errorf("closed loop: longest %.1f ms, want the whole stall", got)
		}
	})
}

// If the client is late, as on a busy machine, the latency of calls that were due meanwhile includes the delay.
func TestOpenLoopChargesItsOwnDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		late := false
		oversleeping := func(d time.Duration) {
			if !late {
				late, d = true, d+200*time.Millisecond
			}
			time.Sleep(d)
		}
		s, err := openLoop(t.Context(), 1000, 1, span{length: time.Second}, oversleeping, atOnce)
		if err != nil {
			t.Fatal(err)
		}
		if s.calls < 900 || s.calls > 1100 {
			t.Errorf("got %d calls, want about 1000: the late ones are made, not left out", s.calls)
		}
		if p50, p90 := ms(s.Quantile(50)), ms(s.Quantile(90)); p50 > 0.01 || p90 < 70 || p90 > 130 {
			t.Errorf("p50 %.2f ms, p90 %.1f ms; want 0 and about 100: a fifth of the calls was up to 200 ms late", p50, p90)
		}
	})
}

func TestClosedLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		underWay, peak := 0, 0
		s, err := closedLoop(t.Context(), 4, span{warm: 100 * time.Millisecond, length: time.Second}, func(context.Context, int) error {
			mu.Lock()
			underWay++
			peak = max(peak, underWay)
			mu.Unlock()
			time.Sleep(10 * time.Millisecond)
			mu.Lock()
			underWay--
			mu.Unlock()
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if s.calls != 400 || s.all != 440 || s.took != time.Second || peak != 4 {
			t.Errorf("got %d of %d calls in %v, at most %d at once; want 400 of 440 in 1s, 4 at once", s.calls, s.all, s.took, peak)
		}
		if got := s.Quantile(50); math.Abs(got-10_000) > 10 {
			t.Errorf("p50 %.0f us, want 10,000", got)
		}
	})
}

// loops are both kinds of loops, for their common properties.
var loops = map[string]func(context.Context, Call) (Sample, error){
	"closed": func(ctx context.Context, fn Call) (Sample, error) {
		return closedLoop(ctx, 2, span{length: time.Second}, fn)
	},
	"open": func(ctx context.Context, fn Call) (Sample, error) {
		return openLoop(ctx, 100, 1, span{length: time.Second}, time.Sleep, fn)
	},
}

func TestWrongAnswerEndsTheLoop(t *testing.T) {
	wrong := errors.New("wrong answer")
	for name, loop := range loops {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				_, err := loop(t.Context(), func(_ context.Context, i int) error {
					time.Sleep(time.Millisecond)
					if i == 20 {
						return wrong
					}
					return nil
				})
				if !errors.Is(err, wrong) {
					t.Errorf("got %v, want the wrong answer", err)
				}
				if took := time.Since(start); took > 900*time.Millisecond {
					t.Errorf("the loop went on for %v", took)
				}
			})
		})
	}
}

// A segment that ends before anything was counted, as on a busy machine, continues until one call was counted.
func TestSegmentCountsAtLeastOneCall(t *testing.T) {
	slow := func(context.Context, int) error {
		time.Sleep(300 * time.Millisecond)
		return nil
	}
	for name, loop := range map[string]func(context.Context) (Sample, error){
		"closed": func(ctx context.Context) (Sample, error) {
			return closedLoop(ctx, 2, span{warm: time.Millisecond, length: 10 * time.Millisecond}, slow)
		},
		"open": func(ctx context.Context) (Sample, error) {
			return openLoop(ctx, 2, 1, span{warm: time.Millisecond, length: 10 * time.Millisecond}, time.Sleep, slow)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, err := loop(t.Context())
				if err != nil || s.calls < 1 || s.calls > 2 || s.took < 10*time.Millisecond {
					t.Errorf("got %d calls in %v, %v; want 1 or 2", s.calls, s.took, err)
				}
			})
		})
	}
}

func TestServerThatNeverAnswersIsAnError(t *testing.T) {
	for name, loop := range loops {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, err := loop(t.Context(), func(ctx context.Context, _ int) error {
					<-ctx.Done()
					return ctx.Err()
				})
				if !errors.Is(err, errLost) {
					t.Errorf("got %v, want %v", err, errLost)
				}
			})
		})
	}
}

func TestInterruptEndsTheLoop(t *testing.T) {
	for name, loop := range loops {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
				defer cancel()
				_, err := loop(ctx, func(ctx context.Context, _ int) error {
					<-ctx.Done()
					return ctx.Err()
				})
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("got %v, want the interrupt", err)
				}
			})
		})
	}
}

func TestOpenLoopNeedsARate(t *testing.T) {
	for _, rate := range []float64{0, -1, math.NaN()} {
		if _, err := openLoop(t.Context(), rate, 1, span{length: time.Second}, time.Sleep, atOnce); err == nil {
			t.Errorf("a rate of %v was taken", rate)
		}
	}
}
