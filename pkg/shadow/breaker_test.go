package shadow

import (
	"log/slog"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

const (
	closed   = executorv1.BreakerState_BREAKER_STATE_CLOSED
	halfOpen = executorv1.BreakerState_BREAKER_STATE_HALF_OPEN
	open     = executorv1.BreakerState_BREAKER_STATE_OPEN
)

func newBreaker(t *testing.T, change func(*BreakerOptions)) *Breaker {
	t.Helper()
	opts := DefaultBreakerOptions()
	opts.Logger = slog.New(slog.DiscardHandler)
	if change != nil {
		change(&opts)
	}
	b, err := NewBreaker(opts)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// tell reports n predictions with the outcome to the breaker, and returns how many it let through.
func tell(b *Breaker, n int, o Outcome) (allowed int) {
	for range n {
		if done := b.Allow(); done != nil {
			done(verdict(o))
			allowed++
		}
	}
	return allowed
}

func wantState(t *testing.T, b *Breaker, want executorv1.BreakerState) {
	t.Helper()
	if got := b.Status().State; got != want {
		t.Fatalf("state: got %v, want %v (%+v)", got, want, b.Status())
	}
}

// Failures come last, one by one, since the breaker judges the rate only on a failure.
func TestBreakerTripsOnRate(t *testing.T) {
	for name, tt := range map[string]struct {
		successes, failures int
		confidence          float64
		want                executorv1.BreakerState
	}{
		"exactly 2 % of 100":                  {98, 2, 0, closed},
		"exactly 2 % of 150":                  {147, 3, 0, closed},
		"3 % of 100":                          {97, 3, 0, open},
		"4 of 199 are more than 2 %":          {195, 4, 0, open},
		"9 % of 99 are too few":               {90, 9, 0, closed},
		"9 of 100 are enough":                 {91, 9, 0, open},
		"8 of 200 are within chance at 0.99":  {192, 8, 0.99, closed},
		"9 of 200 are beyond chance at 0.99":  {191, 9, 0.99, open},
		"confidence does not weaken the rate": {9998, 2, 0.99, closed},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBreaker(t, func(o *BreakerOptions) { o.Confidence = tt.confidence })
				tell(b, tt.successes, Match)
				tell(b, tt.failures, Deadline)
				wantState(t, b, tt.want)
			})
		})
	}
}

func TestBreakerTripsOnFailuresInARow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreaker(t, nil)
		tell(b, 9, Unavailable)
		wantState(t, b, closed)
		tell(b, 1, Mismatch) // an answer ends the streak
		tell(b, 9, Internal)
		wantState(t, b, closed)
		tell(b, 1, InvalidScore)
		wantState(t, b, open)
		if got := b.Status().Trips; got != 1 {
			t.Errorf("trips: got %d, want 1", got)
		}
	})
}

func TestBreakerIgnoresOutcomesThatAreNotTheEnginesFault(t *testing.T) {
	for _, o := range []Outcome{Canceled, Rejected} {
		t.Run(o.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBreaker(t, nil)
				tell(b, 1000, o)
				wantState(t, b, closed)
				if s := b.Status(); s.Successes != 0 || s.Failures != 0 || !s.Blind {
					t.Errorf("status: got %+v, want nothing counted", s)
				}
			})
		})
	}
}

func TestBreakerForgetsAfterItsWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreaker(t, nil)
		tell(b, 9, Deadline)
		time.Sleep(61 * time.Second)
		tell(b, 9, Deadline)
		wantState(t, b, closed)
		tell(b, 98, Match)
		if s := b.Status(); s.Failures != 9 || s.Successes != 98 || s.Blind {
			t.Errorf("status: got %+v, want 98 successes and the 9 failures of this minute", s)
		}
		time.Sleep(61 * time.Second)
		if s := b.Status(); !s.Blind {
			t.Errorf("after a quiet minute: got %+v, want blind", s)
		}
	})
}

// trip opens the breaker.
func trip(t *testing.T, b *Breaker) {
	t.Helper()
	tell(b, int(b.opts.MaxConsecutive), Unavailable)
	wantState(t, b, open)
}

func TestBreakerOpensFor15Seconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreaker(t, nil)
		trip(t, b)
		if got, want := b.Status().NextProbe, time.Now().Add(15*time.Second); !got.Equal(want) {
			t.Errorf("next probe: got %v, want %v", got, want)
		}
		time.Sleep(15*time.Second - time.Nanosecond)
		if b.Allow() != nil {
			t.Fatal("let a prediction through before 15 s")
		}
		time.Sleep(2 * time.Nanosecond)
		wantState(t, b, halfOpen)
	})
}

func TestBreakerClosesAfterItsProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreaker(t, nil)
		trip(t, b)
		time.Sleep(15*time.Second + 1)
		var probes []func(error)
		for range 10 {
			if done := b.Allow(); done != nil {
				probes = append(probes, done)
			}
		}
		if len(probes) != 5 {
			t.Fatalf("probes: got %d, want 5", len(probes))
		}
		probes[0](errExcluded) // a canceled caller proves nothing: another probe replaces it
		if probes[0] = b.Allow(); probes[0] == nil {
			t.Fatal("no probe in place of the one that proved nothing")
		}
		for _, done := range probes {
			wantState(t, b, halfOpen)
			done(nil)
		}
		wantState(t, b, closed)
		if s := b.Status(); s.Successes != 0 || s.Failures != 0 || !s.NextProbe.IsZero() {
			t.Errorf("after recovery: got %+v, want a clean window", s)
		}
	})
}

func TestBreakerBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreaker(t, nil)
		for round := range 3 { // each recovery resets the backoff
			trip(t, b)
			for i, seconds := range []int{15, 30, 60, 120, 240, 240, 240} {
				full := time.Duration(seconds) * time.Second
				hold := time.Until(b.Status().NextProbe)
				least := full - full/4
				if i == 0 {
					least = full
				}
				if hold < least || hold > full {
					t.Fatalf("round %d, opening %d: held for %v, want %v to %v", round, i, hold, least, full)
				}
				time.Sleep(hold - 1)
				if b.Allow() != nil {
					t.Fatalf("round %d, opening %d: let a prediction through early", round, i)
				}
				time.Sleep(2 * time.Nanosecond)
				if got := tell(b, 1, Deadline); got != 1 {
					t.Fatalf("round %d, opening %d: no probe after the hold", round, i)
				}
				wantState(t, b, open)
			}
			time.Sleep(time.Until(b.Status().NextProbe) + 1)
			tell(b, 5, Match)
			wantState(t, b, closed)
		}
		if got, want := b.Status().Trips, uint64(3*8); got != want {
			t.Errorf("trips: got %d, want %d", got, want)
		}
	})
}

func TestBreakerBackoffDiffersBetweenReplicas(t *testing.T) {
	b := newBreaker(t, nil)
	seen := map[time.Duration]bool{}
	for range 10 {
		seen[b.backoff(1)] = true
	}
	if len(seen) < 2 {
		t.Error("ten backoffs were all the same: replicas would probe in step")
	}
}

// Many predictions end and the status is read often while the breaker opens and half-opens: no deadlock, no race, and
// never more probes than allowed.
func TestBreakerConcurrency(t *testing.T) {
	b := newBreaker(t, func(o *BreakerOptions) {
		o.OpenFor, o.MaxOpenFor = time.Microsecond, 4*time.Microsecond
	})
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for i := range 3000 {
				if done := b.Allow(); done != nil {
					o := Match
					if (i/50+worker)%2 == 0 {
						o = Unavailable
					}
					done(verdict(o))
				}
				b.Status()
			}
		})
	}
	wg.Wait()
	if b.Status().Trips == 0 {
		t.Error("the breaker never opened: the test proves nothing")
	}
}

func TestBreakerOptions(t *testing.T) {
	if err := DefaultBreakerOptions().Validate(); err != nil {
		t.Fatalf("the defaults: %v", err)
	}
	for name, change := range map[string]func(*BreakerOptions){
		"rate 0":              func(o *BreakerOptions) { o.MaxErrorRate = 0 },
		"rate 1":              func(o *BreakerOptions) { o.MaxErrorRate = 1 },
		"rate NaN":            func(o *BreakerOptions) { o.MaxErrorRate = math.NaN() },
		"window":              func(o *BreakerOptions) { o.Window = time.Millisecond },
		"min requests":        func(o *BreakerOptions) { o.MinRequests = 0 },
		"consecutive":         func(o *BreakerOptions) { o.MaxConsecutive = 0 },
		"confidence below":    func(o *BreakerOptions) { o.Confidence = 0.4 },
		"confidence 1":        func(o *BreakerOptions) { o.Confidence = 1 },
		"confidence NaN":      func(o *BreakerOptions) { o.Confidence = math.NaN() },
		"open for nothing":    func(o *BreakerOptions) { o.OpenFor = 0 },
		"longest is shorter":  func(o *BreakerOptions) { o.MaxOpenFor = o.OpenFor - 1 },
		"no probes":           func(o *BreakerOptions) { o.Probes = 0 },
		"negative confidence": func(o *BreakerOptions) { o.Confidence = -0.99 },
	} {
		opts := DefaultBreakerOptions()
		change(&opts)
		if opts.Validate() == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}

// While the breaker is not closed, its status has the time and the reason of opening.
func TestStatusSaysWhyTheBreakerOpened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreaker(t, nil)
		want := func(reason string, successes, failures, consecutive, reopened uint64, since time.Duration) {
			t.Helper()
			got := b.Status().proto().GetTrip()
			if got.GetReason() != reason || got.GetSuccesses() != successes || got.GetFailures() != failures ||
				got.GetConsecutiveFailures() != consecutive || got.GetReopened() != reopened {
				t.Errorf("got %v, want %s with %d successes, %d failures, %d in a row, reopened %d", got, reason, successes, failures, consecutive, reopened)
			}
			if reason != "" && time.Since(got.GetOpenTime().AsTime()) != since {
				t.Errorf("open since %v, want %v", time.Since(got.GetOpenTime().AsTime()), since)
			}
		}
		want("", 0, 0, 0, 0, 0)
		tell(b, 97, Match)
		tell(b, 3, Deadline)
		want("error rate", 97, 3, 3, 0, 0)
		time.Sleep(15*time.Second + 1)
		wantState(t, b, halfOpen)
		want("error rate", 97, 3, 3, 0, 15*time.Second+1)
		tell(b, 1, Deadline)
		wantState(t, b, open)
		want("error rate", 97, 3, 3, 1, 15*time.Second+1)
		time.Sleep(time.Until(b.Status().NextProbe) + 1)
		tell(b, 5, Match)
		wantState(t, b, closed)
		want("", 0, 0, 0, 0, 0)
		tell(b, 10, Unavailable)
		want("failures in a row", 0, 10, 10, 0, 0)
	})
}
