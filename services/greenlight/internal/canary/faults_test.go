package canary

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// A controller that hangs does not renew its leases, so the executors go to 0 %. When it continues, the phase restarts.
func TestHangingControllerLosesItsLease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newTrial(2)
		var hung time.Time
		tr.at = after(1, 10*time.Minute, func() {
			hung = time.Now()
			time.Sleep(29 * time.Second)
			if p := tr.fakes[0].percent(); time.Since(hung) < 20*time.Second && p != 10 {
				t.Errorf("%g %% before the lease can have lapsed", p)
			}
			time.Sleep(2 * time.Second)
			tr.atZero(t)
			time.Sleep(time.Minute)
		})
		r := tr.run(t.Context(), t)
		for _, f := range tr.fakes {
			if len(f.lapsed) != 1 || f.lapsed[0].After(hung.Add(time.Duration(tr.policy.Lease))) {
				t.Errorf("%s lapsed at %v, and the controller hung at %v", f.addr, f.lapsed, hung)
			}
		}
		if got := decisions(r); r.Decision != Passed || !slices.Equal(got, []Decision{Passed, Interrupted, Passed, Passed, Passed, Passed}) {
			t.Errorf("got %s %q, phases %v", r.Decision, r.Reason, got)
		}
		if again := r.Phases[2]; again.Index != 1 || again.EndTime.Sub(again.StartTime) < 30*time.Minute {
			t.Errorf("phase %d restarted for %v", again.Index, again.EndTime.Sub(again.StartTime))
		}
		if !slices.Contains(r.Phases[1].Restarted, "executor-a") || !strings.Contains(r.Phases[1].Reason, "lease") {
			t.Errorf("restarted %q, reason %q", r.Phases[1].Restarted, r.Phases[1].Reason)
		}
	})
}

func TestRestartBeginsThePhaseAnew(t *testing.T) {
	t.Parallel()
	for name, store := range map[string]bool{"without a state folder": false, "with a state folder": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tr := newTrial(2)
				tr.fakes[1].store = store
				tr.at = after(0, 29*time.Minute, func() { tr.fakes[1].restart() })
				r := tr.run(t.Context(), t)
				if got := decisions(r); r.Decision != Passed || !slices.Equal(got, []Decision{Interrupted, Passed, Passed, Passed, Passed, Passed}) {
					t.Fatalf("got %s %q, phases %v", r.Decision, r.Reason, got)
				}
				first, again := r.Phases[0], r.Phases[1]
				if !slices.Equal(first.Restarted, []string{"executor-b"}) || again.Index != 0 || again.Percent != 5 {
					t.Errorf("restarted %q, then phase %d at %g %%", first.Restarted, again.Index, again.Percent)
				}
				if d := again.EndTime.Sub(again.StartTime); d < 30*time.Minute {
					t.Errorf("restarted for %v only", d)
				}
				if n := again.Samples[0].Requests; n > 1000 {
					t.Errorf("the counts were not reset: %d requests", n)
				}
			})
		})
	}
}

// An executor that keeps restarting ends the run when the time for the phase is up.
func TestRestartingForever(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newTrial(1)
		begun := time.Now()
		tr.at = func(e Event) {
			if e.Kind == Counting {
				time.Sleep(5 * time.Second)
				tr.fakes[0].restart()
			}
		}
		r := tr.run(t.Context(), t)
		if r.Decision != Stopped || !strings.Contains(r.Reason, "no time is left") || !r.RolledBack {
			t.Errorf("got %s %q", r.Decision, r.Reason)
		}
		if took := time.Since(begun); took < 3*time.Hour || took > 5*time.Hour {
			t.Errorf("took %v", took)
		}
		tr.atZero(t)
	})
}

// A network cut shorter than the lease has no effect. A longer one restarts the phase, which does not pass during the cut.
func TestCutOff(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		cut    time.Duration
		phases []Decision
	}{
		"shorter than the lease": {15 * time.Second, []Decision{Passed, Passed}},
		"longer than the lease":  {2 * time.Minute, []Decision{Interrupted, Passed, Passed}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tr := newTrial(2)
				tr.policy.Phases = []float64{5, 100}
				f := tr.fakes[1]
				var back time.Time
				tr.at = after(0, 29*time.Minute+55*time.Second, func() {
					f.change(func() { f.network = cutOff })
					back = time.Now().Add(test.cut)
					time.AfterFunc(test.cut, func() { f.change(func() { f.network = nil }) })
				})
				r := tr.run(t.Context(), t)
				if got := decisions(r); r.Decision != Passed || !slices.Equal(got, test.phases) {
					t.Fatalf("got %s %q, phases %v", r.Decision, r.Reason, got)
				}
				if end := r.Phases[0].EndTime; end.Before(back) {
					t.Errorf("the phase ended at %v, while an executor was away until %v", end, back)
				}
			})
		})
	}
}

// A lost answer is not mistaken for a change by somebody else.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newTrial(1)
		f := tr.fakes[0]
		lossy := &lossyRollouts{fakeExecutor: f}
		tr.opts = func(o *Options) { o.Executors[0].Rollouts = lossy }
		r := tr.run(t.Context(), t)
		if got := decisions(r); r.Decision != Passed || !slices.Equal(got, []Decision{Passed, Passed, Passed, Passed, Passed}) {
			t.Fatalf("got %s %q, phases %v", r.Decision, r.Reason, got)
		}
		if lossy.lost < 100 {
			t.Errorf("only %d answers were lost", lossy.lost)
		}
	})
}

// lossyRollouts loses the answer of every third change.
type lossyRollouts struct {
	*fakeExecutor

	calls, lost int
}

func (l *lossyRollouts) SetRollout(ctx context.Context, req *executorv1.SetRolloutRequest, _ ...grpc.CallOption) (*executorv1.SetRolloutResponse, error) {
	resp, err := l.fakeExecutor.SetRollout(ctx, req)
	if l.calls++; l.calls%3 == 1 {
		l.lost++
		return nil, status.Error(codes.Unavailable, "connection reset")
	}
	return resp, err
}

// A call that the controller gave up on, and that reaches the executor after the abort, changes nothing.
func TestLateChange(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newTrial(2)
		late := &lateRollouts{fakeExecutor: tr.fakes[0]}
		tr.opts = func(o *Options) { o.Executors[0].Rollouts = late }
		tr.at = func(e Event) {
			if e.Kind == PhaseBegun && e.Phase == 1 {
				late.hold = true
				tr.fakes[1].change(func() { tr.fakes[1].health = down })
			}
			if e.Kind == RollingBack {
				late.hold = false
			}
		}
		r := tr.run(t.Context(), t)
		if r.Decision != Aborted || !r.RolledBack {
			t.Fatalf("got %s %q, rolled back %v", r.Decision, r.Reason, r.RolledBack)
		}
		if len(late.held) == 0 {
			t.Fatal("no change was held up")
		}
		for _, req := range late.held {
			if _, err := tr.fakes[0].set(req); !refused(err) {
				t.Errorf("a late change to %g %% was accepted: %v", req.GetPercent(), err)
			}
		}
		tr.atZero(t)
	})
}

// lateRollouts holds up changes until their callers give up.
type lateRollouts struct {
	*fakeExecutor

	hold bool
	held []*executorv1.SetRolloutRequest
}

func (l *lateRollouts) SetRollout(ctx context.Context, req *executorv1.SetRolloutRequest, _ ...grpc.CallOption) (*executorv1.SetRolloutResponse, error) {
	if l.hold {
		l.held = append(l.held, req)
		return nil, hangs(ctx, "")
	}
	return l.fakeExecutor.SetRollout(ctx, req)
}

// Whatever one executor does, the others are at 0 % immediately.
func TestAbortDoesNotWaitForTheHanging(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newTrial(3)
		var rolling time.Time
		mark := after(0, time.Minute, func() {
			for _, f := range tr.fakes[:2] {
				f.change(func() { f.health = down })
			}
			tr.fakes[2].change(func() { tr.fakes[2].network = hangs })
		})
		checked := make(chan time.Duration, 1)
		tr.at = func(e Event) {
			mark(e)
			if e.Kind == RollingBack {
				rolling = e.Time
				go func() {
					for tr.fakes[0].percent() > 0 || tr.fakes[1].percent() > 0 {
						time.Sleep(time.Millisecond)
					}
					checked <- time.Since(rolling)
				}()
			}
		}
		r := tr.run(t.Context(), t)
		if took := <-checked; r.Decision != Aborted || took > time.Second {
			t.Errorf("%s, the others were at 0 %% after %v", r.Decision, took)
		}
		// The run does not claim that the hanging executor is at 0 %, since that was not read back, but its lease has lapsed.
		if r.RolledBack || time.Duration(r.RollbackMS)*time.Millisecond < 20*time.Second {
			t.Errorf("rolled back %v after %g ms", r.RolledBack, r.RollbackMS)
		}
		tr.atZero(t)
	})
}

func TestSecondControllerIsRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newTrial(1)
		tr.policy.Phases = []float64{5}
		var second *Record
		tr.at = after(0, 10*time.Minute, func() {
			other := &trial{fakes: tr.fakes, policy: tr.policy}
			other.opts = func(o *Options) { o.Record.ID, o.Controller = "run-2", "second" }
			second = other.run(t.Context(), t)
		})
		r := tr.run(t.Context(), t)
		if second.Decision != Aborted || !strings.Contains(second.Reason, "held by run-1") {
			t.Errorf("second: %s %q", second.Decision, second.Reason)
		}
		if r.Decision != Passed || len(r.Phases) != 1 {
			t.Errorf("the first one was disturbed: %s %q, phases %v", r.Decision, r.Reason, decisions(r))
		}
	})
}

// Two controllers of one run, which only a copied state folder can cause, do not both continue.
func TestTwoControllersOfOneRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newTrial(1)
		var second *Record
		done := make(chan struct{})
		tr.at = after(0, 10*time.Minute, func() {
			other := &trial{fakes: tr.fakes, policy: tr.policy}
			other.opts = func(o *Options) { o.Controller = "second" }
			go func() {
				second = other.run(t.Context(), t)
				close(done)
			}()
		})
		r := tr.run(t.Context(), t)
		<-done
		if r.Decision != Aborted || second.Decision != Aborted {
			t.Errorf("first: %s %q; second: %s %q", r.Decision, r.Reason, second.Decision, second.Reason)
		}
		tr.atZero(t)
	})
}

// The run does not touch a rollout that an operator sets after its lease has lapsed.
func TestTakenOverAfterALapse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newTrial(2)
		tr.at = after(0, time.Minute, func() {
			time.Sleep(time.Minute)
			_, err := tr.fakes[0].set(&executorv1.SetRolloutRequest{Percent: 20, Mode: executorv1.RolloutMode_ROLLOUT_MODE_OBSERVE_ONLY, Reason: "by hand"})
			if err != nil {
				t.Error(err)
			}
		})
		r := tr.run(t.Context(), t)
		if r.Decision != Aborted || !strings.Contains(r.Reason, `set to 20 %, OBSERVE_ONLY, by loopback`) || r.RolledBack {
			t.Errorf("got %s %q, rolled back %v", r.Decision, r.Reason, r.RolledBack)
		}
		if a, b := tr.fakes[0].percent(), tr.fakes[1].percent(); a != 20 || b != 0 {
			t.Errorf("at %g %% and %g %%, want 20 and 0", a, b)
		}
	})
}

func TestInterrupted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newTrial(2)
		ctx, cancel := context.WithCancel(t.Context())
		var told time.Time
		tr.at = after(1, time.Minute, func() { told = time.Now(); cancel() })
		r := tr.run(ctx, t)
		if r.Decision != Interrupted || r.Aborted || !r.RolledBack || r.EndTime.Sub(told) > time.Second {
			t.Errorf("got %s %q, rolled back %v after %v", r.Decision, r.Reason, r.RolledBack, r.EndTime.Sub(told))
		}
		tr.atZero(t)
	})
}

// A run does not continue once its journal cannot be written.
func TestJournalFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newTrial(1)
		n := 0
		tr.opts = func(o *Options) {
			o.Journal = func(Event) error {
				if n++; n > 20 {
					return errors.New("no space left on device")
				}
				return nil
			}
		}
		r, err := NewController(tr.options()).Run(t.Context())
		if err == nil || r.Decision != Aborted || !strings.Contains(r.Reason, "no space left") || !r.RolledBack {
			t.Errorf("got %s %q, error %v", r.Decision, r.Reason, err)
		}
		tr.atZero(t)
	})
}
