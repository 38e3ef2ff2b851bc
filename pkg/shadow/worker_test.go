package shadow

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

func rows(calls []enginetest.Call) []int {
	n := make([]int, len(calls))
	for i, c := range calls {
		n[i] = c.Rows
	}
	return n
}

// perCall returns the timeout that ml-engine sees: a message of a stream has none.
func perCall(t *testing.T, timeout time.Duration) time.Duration {
	if streamed(t) {
		return 0
	}
	return timeout
}

func TestLoneRequestGoesAtOnce(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		tr := newTrial(t, enginetest.Options{}, nil)
		start := time.Now()
		tr.detach(1)
		synctest.Wait()
		calls := tr.engine.Calls()
		if len(calls) != 1 || !calls[0].Arrival.Equal(start) || calls[0].Rows != 1 {
			t.Fatalf("calls: got %+v, want one row at once", calls)
		}
		if want := perCall(t, timeout); calls[0].Timeout != want {
			t.Errorf("the call had %v, want %v", calls[0].Timeout, want)
		}
		tr.wantTotals(map[Outcome]uint64{Match: 1})
	})
}

func TestGroupCommit(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		tr := newTrial(t, enginetest.Options{}, func(o *Options) { o.MaxInFlight = 1 })
		held, release := enginetest.Gate()
		tr.engine.Break(held)
		tr.detach(1)
		synctest.Wait() // the first is in flight
		tr.detach(64 + 64 + 22)
		synctest.Wait()
		if got := rows(tr.engine.Calls()); !slices.Equal(got, []int{1}) {
			t.Fatalf("while the only slot is taken: got calls of %v rows, want only the first", got)
		}
		release()
		tr.quiet()
		if got, want := rows(tr.engine.Calls()), []int{1, 64, 64, 22}; !slices.Equal(got, want) {
			t.Errorf("calls: got %v rows, want %v", got, want)
		}
		tr.wantTotals(map[Outcome]uint64{Match: 151})
	})
}

func TestAtMostFourCallsInFlight(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		tr := newTrial(t, enginetest.Options{}, nil)
		held, release := enginetest.Gate()
		tr.engine.Break(held)
		for range 5 { // within the 60 ms of the first
			tr.detach(1)
			synctest.Wait()
			time.Sleep(pace) // then the call in flight no longer delays the next
		}
		tr.detach(500)
		synctest.Wait()
		if got := rows(tr.engine.Calls()); !slices.Equal(got, []int{1, 1, 1, 1}) {
			t.Errorf("calls in flight: got %v rows, want four calls", got)
		}
		release()
		tr.quiet()
		total := 0
		for _, n := range rows(tr.engine.Calls()) {
			if n > 64 {
				t.Errorf("a call had %d rows, want at most 64", n)
			}
			total += n
		}
		if total != 505 || tr.engine.Peak() != 4 {
			t.Errorf("got %d rows with %d calls at once, want 505 with 4", total, tr.engine.Peak())
		}
		tr.wantTotals(map[Outcome]uint64{Match: 505})
	})
}

func TestRowOutOfTimeIsNotSent(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		tr := newTrial(t, enginetest.Options{}, func(o *Options) { o.MaxInFlight = 1 })
		tr.engine.Break(enginetest.Hang())
		tr.detach(1)
		synctest.Wait()
		time.Sleep(usefulMinimum / 2)
		tr.detach(3) // these have half a millisecond left when the previous call times out
		time.Sleep(timeout)
		synctest.Wait()
		if got := rows(tr.engine.Calls()); !slices.Equal(got, []int{1}) {
			t.Errorf("calls: got %v rows, want the first alone", got)
		}
		tr.wantTotals(map[Outcome]uint64{Deadline: 4})
		// ml-engine, which kept the slot busy, caused all four.
		if got := tr.breakerStatus().Failures; got != 4 {
			t.Errorf("the breaker counts %d failures, want 4", got)
		}
	})
}

// Rows that time out in the queue count for the breaker, whether or not a caller waited for them.
func TestBreakerCountsRowsThatTimeOutInTheQueue(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		tr := newTrial(t, enginetest.Options{}, func(o *Options) { o.MaxInFlight = 1 })
		tr.engine.Break(enginetest.Hang())
		tr.detach(1)
		synctest.Wait()
		ctx, leave := context.WithCancel(t.Context())
		go func() { tr.wait(ctx); leave() }() // as a gRPC handler's context ends when it has answered
		synctest.Wait()
		tr.detach(1)
		time.Sleep(2 * timeout)
		synctest.Wait()
		tr.wantTotals(map[Outcome]uint64{Deadline: 3})
		if got := tr.breakerStatus().Failures; got != 3 {
			t.Errorf("the breaker counts %d failures, want 3", got)
		}
	})
}

// Rows of one call have different deadlines: the call has the last row's time, and each row keeps its own deadline.
func TestRowsKeepTheirOwnDeadlines(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		tr := newTrial(t, enginetest.Options{}, func(o *Options) { o.MaxInFlight = 1 })
		tr.engine.Break(enginetest.Delay(40 * time.Millisecond))
		tr.detach(1) // takes the slot until 40 ms
		synctest.Wait()
		tr.detach(2) // due at 60 ms
		time.Sleep(25 * time.Millisecond)
		tr.detach(3) // due at 85 ms, in one call with the two before, answered at 80 ms
		time.Sleep(2 * timeout)
		synctest.Wait()
		calls := tr.engine.Calls()
		if !slices.Equal(rows(calls), []int{1, 5}) || calls[1].Timeout != perCall(t, 45*time.Millisecond) {
			t.Fatalf("calls: got %+v, want 1 row and then 5 with 45ms", calls)
		}
		tr.wantTotals(map[Outcome]uint64{Match: 4, Deadline: 2})
	})
}

// The row of a caller that has canceled is not sent later.
func TestRowOfACanceledCallerIsNotSent(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		tr := newTrial(t, enginetest.Options{}, func(o *Options) { o.MaxInFlight = 1 })
		tr.engine.Break(enginetest.Delay(40 * time.Millisecond))
		tr.detach(1)
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(10*time.Millisecond, cancel)
		if r := tr.wait(ctx); r.Outcome != Canceled || r.Latency != 10*time.Millisecond {
			t.Errorf("got %v after %v, want canceled after 10ms", r.Outcome, r.Latency)
		}
		time.Sleep(2 * timeout)
		synctest.Wait()
		if got := rows(tr.engine.Calls()); !slices.Equal(got, []int{1}) {
			t.Errorf("calls: got %v rows, want the first alone", got)
		}
		tr.wantTotals(map[Outcome]uint64{Match: 1, Canceled: 1})
	})
}

// A bad row fails alone, and every row gets its own score.
func TestRowsGetTheirOwnAnswers(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		tr := newTrial(t, enginetest.Options{}, func(o *Options) { o.MaxInFlight = 1 })
		held, release := enginetest.Gate()
		tr.engine.Break(held)
		tr.detach(1)
		synctest.Wait()
		results := make(chan error, 50)
		for i := range 50 {
			r := tr.request()
			if i%7 == 0 {
				r.State.Vector[0] = 2 // not a bias
			}
			want := tr.engine.Model().Scorer.Score(r.State.Vector)
			go func() {
				got := tr.Wait(t.Context(), r)
				switch {
				case i%7 == 0 && got.Outcome != Rejected:
					t.Errorf("row %d: got %v, want rejected", i, got.Outcome)
				case i%7 != 0 && (got.Score != want || got.Delta != 0):
					t.Errorf("row %d: got %v off by %v, want %v", i, got.Score, got.Delta, want)
				}
				results <- got.Err
			}()
		}
		synctest.Wait()
		release()
		for range 50 {
			<-results
		}
		if got := rows(tr.engine.Calls()); !slices.Equal(got, []int{1, 50}) {
			t.Errorf("calls: got %v rows, want 1 and 50", got)
		}
		tr.wantTotals(map[Outcome]uint64{Match: 43, Rejected: 8})
	})
}

// A batch of a wide schema is as long as a message allows, and every row is scored.
func TestBatchesFitIntoAMessage(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		own := enginetest.Own(t, "wide", 1000)
		const n = 1200 // 9.6 MB of values
		tr := newTrial(t, enginetest.Options{Own: own, Version: "own-1"}, func(o *Options) {
			o.MaxInFlight, o.MaxBatch, o.QueueSize = 1, 10_000, 10_000
		})
		held, release := enginetest.Gate()
		tr.engine.Break(held)
		tr.detach(1)
		synctest.Wait() // the first is in flight
		tr.detach(n)
		release()
		synctest.Wait()
		time.Sleep(timeout)
		most := 0
		for _, r := range rows(tr.engine.Calls()) {
			most = max(most, r)
		}
		if most > 4<<20/8000 || most < 400 {
			t.Errorf("the largest batch has %d rows of 8,000 bytes; a message has 4 MiB", most)
		}
		tr.wantTotals(map[Outcome]uint64{Match: n + 1})
	})
}

// lateEngine answers or fails each batch after a time, whatever its deadline.
type lateEngine struct {
	mlenginev1.ScoringServiceClient

	after time.Duration
	err   error
}

func (e *lateEngine) BatchPredict(_ context.Context, r *mlenginev1.BatchPredictRequest, _ ...grpc.CallOption) (*mlenginev1.BatchPredictResponse, error) {
	time.Sleep(e.after)
	return &mlenginev1.BatchPredictResponse{Scores: make([]float64, len(r.GetValues())/7)}, e.err
}

// Shadows for which executor has no time are shed, and do not open the breaker.
func TestShadowsThatExecutorMissesAreShed(t *testing.T) {
	for name, tt := range map[string]struct {
		engine lateEngine
		rows   int
		want   map[Outcome]uint64
		open   bool
	}{
		"ml-engine is late":                       {lateEngine{after: timeout, err: context.DeadlineExceeded}, 64, map[Outcome]uint64{Deadline: 64}, true},
		"the worker wakes late":                   {lateEngine{after: timeout + 2*lateWake, err: context.DeadlineExceeded}, 64, map[Outcome]uint64{Shed: 64}, false},
		"the queue waits for calls that fail":     {lateEngine{after: timeout, err: context.DeadlineExceeded}, 65, map[Outcome]uint64{Deadline: 65}, true},
		"the queue waits for calls that are late": {lateEngine{after: timeout - time.Microsecond}, 65, map[Outcome]uint64{Match: 64, Shed: 1}, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr := newTrial(t, enginetest.Options{}, func(o *Options) {
					tt.engine.ScoringServiceClient, o.Engine, o.MaxInFlight = o.Engine, &tt.engine, 1
				})
				tr.queue.mu.Lock()
				tr.queue.newest = time.Now() // so that the first call waits for a full batch
				tr.queue.mu.Unlock()
				for range tt.rows {
					r := tr.request()
					r.Baseline = 0
					tr.Detach(r)
				}
				time.Sleep(3 * timeout)
				tr.wantTotals(tt.want)
				if open := tr.breakerState() == executorv1.BreakerState_BREAKER_STATE_OPEN; open != tt.open {
					t.Errorf("the breaker is open: %t, want %t", open, tt.open)
				}
			})
		})
	}
}
