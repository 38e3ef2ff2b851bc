package shadow

import (
	"context"
	"errors"
	"maps"
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

// faults are all ways in which an engine can fail, each with the outcome of a shadow.
var faults = map[string]struct {
	fault enginetest.Fault
	want  Outcome
}{
	"healthy":              {enginetest.Fault{}, Match},
	"slow but in time":     {enginetest.Delay(59 * time.Millisecond), Match},
	"off within tolerance": {enginetest.Shift(0.04), Match},
	"off":                  {enginetest.Shift(0.3), Mismatch},
	"too slow":             {enginetest.Delay(70 * time.Millisecond), Deadline},
	"hangs":                {enginetest.Hang(), Deadline},
	"says deadline":        {enginetest.Fail(codes.DeadlineExceeded), Deadline},
	"unavailable":          {enginetest.Fail(codes.Unavailable), Unavailable},
	"overloaded":           {enginetest.Fail(codes.ResourceExhausted), Unavailable},
	"denies":               {enginetest.Fail(codes.PermissionDenied), Unavailable},
	"cancels by itself":    {enginetest.Fail(codes.Canceled), Unavailable},
	"fails":                {enginetest.Fail(codes.Internal), Internal},
	"has no such method":   {enginetest.Fail(codes.Unimplemented), Internal},
	"rejects":              {enginetest.Fail(codes.InvalidArgument), Rejected},
	"rejects rows":         {enginetest.RefuseRows(mlenginev1.ErrorReason_ERROR_REASON_FEATURE_INVALID), Rejected},
	"scores NaN":           {enginetest.Answer(math.NaN()), InvalidScore},
	"scores infinity":      {enginetest.Answer(math.Inf(1)), InvalidScore},
	"scores below 0":       {enginetest.Answer(-1e-9), InvalidScore},
	"scores above 1":       {enginetest.Answer(1 + 1e-9), InvalidScore},
	"admits a bad score":   {enginetest.RefuseRows(mlenginev1.ErrorReason_ERROR_REASON_SCORE_INVALID), InvalidScore},
	"scores too many":      {enginetest.Surplus(1), InvalidScore},
	"scores too few":       {enginetest.Surplus(-1), InvalidScore},
}

func TestOutcomeOfEveryFault(t *testing.T) {
	for name, tt := range faults {
		t.Run(name, func(t *testing.T) {
			bothWays(t, func(t *testing.T) {
				tr := newTrial(t, enginetest.Options{}, nil)
				tr.engine.Break(tt.fault)
				r := tr.wait(t.Context())
				if r.Outcome != tt.want {
					t.Fatalf("Wait: got %v (%v), want %v", r.Outcome, r.Err, tt.want)
				}
				if (r.Err == nil) != r.Outcome.Compared() {
					t.Errorf("Wait: outcome %v with error %v", r.Outcome, r.Err)
				}
				if r.Outcome.Compared() && r.Digest != tr.engine.Model().Digest() {
					t.Errorf("digest: got %q, want that of the engine's model", r.Digest)
				}
				tr.detach(1)
				time.Sleep(timeout)
				synctest.Wait()
				tr.wantTotals(map[Outcome]uint64{tt.want: 2})
				tr.wantConserved(0)
			})
		})
	}
}

// Whatever the engine does, and whenever it changes, no request is lost or counted twice.
func TestConservation(t *testing.T) {
	for name, tt := range faults {
		t.Run(name, func(t *testing.T) {
			bothWays(t, func(t *testing.T) {
				tr := newTrial(t, enginetest.Options{}, func(o *Options) { o.QueueSize = 16 })
				tr.engine.Break(tt.fault)
				chaos(tr, 120)
			})
		})
	}
	t.Run("all of them", func(t *testing.T) {
		bothWays(t, func(t *testing.T) {
			tr := newTrial(t, enginetest.Options{}, func(o *Options) {
				o.QueueSize = 16
				o.Breaker.OpenFor, o.Breaker.MaxOpenFor = 50*time.Millisecond, 400*time.Millisecond
			})
			ills := []func(){
				tr.engine.Heal, tr.engine.Stop, tr.engine.Restart,
				func() { tr.engine.Swap("v1.8", "v1.8-b0") }, func() { tr.engine.Swap("v1.8.1", "v1.8.1-b1") },
			}
			for _, name := range slices.Sorted(maps.Keys(streamFaults)) {
				ills = append(ills, func() { tr.engine.Break(enginetest.Fault{Send: streamFaults[name].send}) })
			}
			for _, name := range slices.Sorted(maps.Keys(faults)) { // in a fixed order, so that the seed alone decides
				ills = append(ills, func() { tr.engine.Break(faults[name].fault) })
			}
			kinds := func() (n int) {
				for _, o := range Outcomes() {
					if tr.recorder.Total(o) > 0 {
						n++
					}
				}
				return n
			}
			// At least 20 rounds, and more until there were enough kinds of outcome.
			for round := 0; round < 20 || kinds() < 8; round++ {
				if round == 400 {
					t.Fatalf("only %d kinds of outcome came about in %d rounds: the chaos is too tame", kinds(), round)
				}
				ills[tr.rng.IntN(len(ills))]()
				chaos(tr, 40)
			}
		})
	})
}

// chaos sends n requests of every kind at random times. It checks conservation meanwhile, and again when all is quiet.
func chaos(tr *trial, n int) {
	tr.t.Helper()
	waiters := make(chan struct{}, n)
	started := 0
	for range n {
		switch tr.rng.IntN(5) {
		case 0:
			tr.Skip(Request{})
		case 1, 2:
			started++
			limit := time.Duration(tr.rng.IntN(120)) * time.Millisecond
			r := tr.request()
			go func() {
				defer func() { waiters <- struct{}{} }()
				ctx, cancel := context.WithTimeout(tr.t.Context(), limit)
				defer cancel()
				if limit%2 == 0 { // a caller that cancels, rather than one with a deadline
					ctx, cancel = context.WithCancel(tr.t.Context())
					defer time.AfterFunc(limit, cancel).Stop()
					defer cancel()
				}
				tr.Wait(ctx, r)
				if took := time.Since(r.Arrival); took > min(timeout, limit) {
					tr.t.Errorf("Wait took %v, want at most %v", took, min(timeout, limit))
				}
			}()
		default:
			tr.detach(1 + tr.rng.IntN(4))
		}
		if tr.rng.IntN(3) == 0 {
			time.Sleep(time.Duration(tr.rng.ExpFloat64() * float64(5*time.Millisecond)))
		}
		tr.wantConserved(-1)
	}
	for range started {
		<-waiters
	}
	time.Sleep(2 * timeout)
	synctest.Wait()
	tr.wantConserved(0)
}

func TestWaitIsExactlyTheTimeoutWhenTheEngineHangs(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		tr := newTrial(t, enginetest.Options{}, nil)
		tr.engine.Break(enginetest.Hang())
		start := time.Now()
		r := tr.wait(t.Context())
		if took := time.Since(start); took != timeout || r.Latency != timeout || r.Outcome != Deadline {
			t.Errorf("got %v after %v (%v), want deadline after %v", r.Outcome, took, r.Latency, timeout)
		}
	})
}

// The time runs from the arrival of the request, not from the call of Wait.
func TestWaitCountsFromArrival(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		tr := newTrial(t, enginetest.Options{}, nil)
		tr.engine.Break(enginetest.Hang())
		r := tr.request()
		time.Sleep(45 * time.Millisecond)
		start := time.Now()
		if got := tr.Wait(t.Context(), r); got.Outcome != Deadline || time.Since(start) != 15*time.Millisecond {
			t.Errorf("got %v after %v, want deadline after 15ms", got.Outcome, time.Since(start))
		}
		r = tr.request()
		time.Sleep(timeout)
		start = time.Now()
		if got := tr.Wait(t.Context(), r); got.Outcome != Deadline || time.Since(start) != 0 {
			t.Errorf("too late: got %v after %v, want deadline at once", got.Outcome, time.Since(start))
		}
	})
}

func TestWaitKeepsTheReplyReserve(t *testing.T) {
	for _, tt := range []struct {
		limit, want time.Duration
		failures    uint32
	}{
		{limit: 30 * time.Millisecond, want: 25 * time.Millisecond, failures: 1},
		{limit: 64 * time.Millisecond, want: 59 * time.Millisecond, failures: 1},
		{limit: 65 * time.Millisecond, want: timeout, failures: 1},
		{limit: time.Second, want: timeout, failures: 1},
		{limit: 5 * time.Millisecond, want: 0},
		{limit: time.Millisecond, want: 0},
	} {
		t.Run(tt.limit.String(), func(t *testing.T) {
			bothWays(t, func(t *testing.T) {
				tr := newTrial(t, enginetest.Options{}, nil)
				tr.engine.Break(enginetest.Hang())
				ctx, cancel := context.WithTimeout(t.Context(), tt.limit)
				defer cancel()
				start := time.Now()
				if got := tr.wait(ctx); got.Outcome != Deadline || time.Since(start) != tt.want {
					t.Errorf("got %v after %v, want deadline after %v", got.Outcome, time.Since(start), tt.want)
				}
				time.Sleep(timeout)
				synctest.Wait()
				if got := tr.breakerStatus().Failures; got != tt.failures {
					t.Errorf("the breaker counts %d failures, want %d", got, tt.failures)
				}
			})
		})
	}
}

// Callers with a short deadline, or that cancel, prove nothing about ml-engine: it is judged by its full time.
func TestCallersDoNotTripTheBreaker(t *testing.T) {
	for name, tt := range map[string]struct {
		fault enginetest.Fault
		end   func(ctx context.Context) (context.Context, context.CancelFunc)
		want  Outcome
	}{
		"short deadline": {enginetest.Delay(20 * time.Millisecond), func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 15*time.Millisecond)
		}, Deadline},
		"cancellation": {enginetest.Hang(), func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(10*time.Millisecond, cancel)
			return ctx, cancel
		}, Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			bothWays(t, func(t *testing.T) {
				tr := newTrial(t, enginetest.Options{}, nil)
				tr.engine.Break(tt.fault)
				for range 150 {
					ctx, cancel := tt.end(t.Context())
					start := time.Now()
					if r := tr.wait(ctx); r.Outcome != tt.want || time.Since(start) != 10*time.Millisecond {
						t.Fatalf("got %v after %v, want %v after 10ms", r.Outcome, time.Since(start), tt.want)
					}
					cancel()
				}
				time.Sleep(timeout)
				synctest.Wait()
				if s := tr.breakerStatus(); s.State != closed || s.Failures != 0 {
					t.Errorf("breaker: got %+v, want closed without failures", s)
				}
			})
		})
	}
}

func TestFullQueueSheds(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		tr := newTrial(t, enginetest.Options{}, func(o *Options) { o.QueueSize = 8 })
		tr.engine.Break(enginetest.Hang())
		for range 4 {
			time.Sleep(pace) // so that the call in flight does not delay the next
			tr.detach(1)
			synctest.Wait() // a worker has taken it
		}
		tr.detach(8) // the queue
		tr.wantConserved(12)
		tr.detach(100)
		if r := tr.wait(t.Context()); r.Outcome != Shed || !errors.Is(r.Err, errShed) || r.Latency != 0 {
			t.Errorf("Wait: got %v (%v) after %v, want shed at once", r.Outcome, r.Err, r.Latency)
		}
		tr.wantTotals(map[Outcome]uint64{Shed: 101})
		time.Sleep(timeout)
		synctest.Wait()
		tr.wantTotals(map[Outcome]uint64{Shed: 101, Deadline: 12})
	})
}

func TestRejectedDoesNotTrip(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		tr := newTrial(t, enginetest.Options{}, nil)
		tr.engine.Break(faults["rejects rows"].fault)
		for range 200 {
			tr.wait(t.Context())
		}
		tr.wantTotals(map[Outcome]uint64{Rejected: 200})
		if s := tr.breakerStatus(); s.State != closed || s.Failures != 0 {
			t.Errorf("breaker: got %+v, want closed without failures", s)
		}
	})
}

func TestOpenBreakerSendsNothingAndRecovers(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		tr := newTrial(t, enginetest.Options{}, nil)
		tr.engine.Break(enginetest.Fail(codes.Internal))
		for range 10 {
			tr.wait(t.Context())
		}
		if got := tr.breakerState(); got != open {
			t.Fatalf("after 10 failures: got %v, want open", got)
		}
		tr.engine.Heal()
		tr.engine.Forget()
		for range 14 {
			time.Sleep(time.Second)
			if r := tr.wait(t.Context()); r.Outcome != BreakerOpen || r.Latency != 0 {
				t.Fatalf("got %v after %v, want breaker_open at once", r.Outcome, r.Latency)
			}
		}
		if n := len(tr.engine.Calls()); n != 0 {
			t.Errorf("%d calls went out while the breaker was open", n)
		}
		time.Sleep(time.Second + 1)
		for range 5 {
			if r := tr.wait(t.Context()); r.Outcome != Match {
				t.Fatalf("probe: got %v (%v), want match", r.Outcome, r.Err)
			}
		}
		if got := tr.breakerState(); got != closed {
			t.Errorf("after 5 probes: got %v, want closed", got)
		}
	})
}

func TestOptions(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		good := newTrial(t, enginetest.Options{}, nil).opts
		for name, change := range map[string]func(*Options){
			"no engine":   func(o *Options) { o.Engine = nil },
			"no logger":   func(o *Options) { o.Logger = nil },
			"no registry": func(o *Options) { o.Registerer = nil },
			"timeout":     func(o *Options) { o.Timeout = time.Millisecond },
			"queue":       func(o *Options) { o.QueueSize = 0 },
			"no calls":    func(o *Options) { o.MaxInFlight = 0 },
			"no rows":     func(o *Options) { o.MaxBatch = 0 },
			"batch":       func(o *Options) { o.MaxBatch = 10_001 },
			"window":      func(o *Options) { o.Window = time.Millisecond },
			"breaker":     func(o *Options) { o.Breaker.Probes = 0 },
		} {
			opts := good
			change(&opts)
			if _, err := New(opts); err == nil {
				t.Errorf("%s: got no error", name)
			}
		}
	})
}

// However short the callers' deadlines, a hung ml-engine opens the breaker.
func TestShortDeadlinesStillTripTheBreakerOfAHungEngine(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		tr := newTrial(t, enginetest.Options{}, nil)
		tr.engine.Break(enginetest.Hang())
		for range 20 {
			ctx, cancel := context.WithTimeout(t.Context(), 15*time.Millisecond)
			tr.wait(ctx)
			cancel()
		}
		time.Sleep(timeout)
		synctest.Wait()
		wantState(t, tr.breaker, open)
	})
}

// While executor is busy with decisions, every shadow is shed and counted.
func TestShedsWhileBusy(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		busy := false
		tr := newTrial(t, enginetest.Options{}, func(o *Options) { o.Busy = func(time.Duration) bool { return busy } })
		for _, want := range []Outcome{Match, Shed, Match} {
			busy = want == Shed
			if r := tr.wait(t.Context()); r.Outcome != want {
				t.Errorf("busy %v: got %v (%v), want %v", busy, r.Outcome, r.Err, want)
			}
		}
	})
}
