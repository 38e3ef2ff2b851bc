package shadow

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
)

func TestStopWaitsForCallsInFlight(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		tr := newTrial(t, enginetest.Options{}, func(o *Options) { o.MaxInFlight = 1 })
		tr.engine.Break(enginetest.Delay(20 * time.Millisecond))
		tr.detach(1)
		synctest.Wait()
		tr.detach(60) // queued
		start := time.Now()
		if err := tr.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took != 40*time.Millisecond {
			t.Errorf("stop took %v, want the 40ms of two rounds of calls", took)
		}
		tr.wantTotals(map[Outcome]uint64{Match: 61})
		tr.wantConserved(0)
	})
}

func TestStopWaitsForAHungEngineAtMostTheTimeout(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		tr := newTrial(t, enginetest.Options{}, nil)
		tr.engine.Break(enginetest.Hang())
		tr.detach(50)
		start := time.Now()
		if err := tr.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took > timeout {
			t.Errorf("stop took %v, want at most %v", took, timeout)
		}
		tr.wantTotals(map[Outcome]uint64{Deadline: 50})
	})
}

func TestStopCancelsWhatTakesTooLong(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		tr := newTrial(t, enginetest.Options{}, nil)
		tr.engine.Break(enginetest.Hang())
		for range 4 {
			tr.detach(1)
			synctest.Wait()
		}
		tr.detach(50)
		waited := make(chan Result, 1)
		r := tr.request()
		go func() { waited <- tr.Wait(t.Context(), r) }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		start := time.Now()
		if err := tr.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("stop: got %v, want a deadline", err)
		}
		if took := time.Since(start); took != 10*time.Millisecond {
			t.Errorf("stop took %v, want the 10ms it was given", took)
		}
		if got := <-waited; got.Outcome != Canceled {
			t.Errorf("the waiting caller: got %v, want canceled", got.Outcome)
		}
		tr.wantTotals(map[Outcome]uint64{Canceled: 55})
		tr.wantConserved(0)
		if s := tr.breakerStatus(); s.Failures != 0 {
			t.Errorf("the breaker counts %d failures of a stop", s.Failures)
		}
	})
}

func TestStoppedDispatcherRefuses(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		tr := newTrial(t, enginetest.Options{}, nil)
		for range 2 { // a second Stop does nothing
			if err := tr.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		tr.detach(1)
		if r := tr.wait(t.Context()); r.Outcome != Canceled || r.Latency != 0 {
			t.Errorf("got %v after %v, want canceled at once", r.Outcome, r.Latency)
		}
		tr.Skip(Request{})
		tr.wantTotals(map[Outcome]uint64{Canceled: 2, NotSampled: 1})
	})
}

func TestStopWithoutAnEngine(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		tr := newTrial(t, enginetest.Options{Absent: true}, nil)
		start := time.Now()
		if err := tr.Stop(t.Context()); err != nil || time.Since(start) != 0 {
			t.Errorf("stop: got %v after %v, want nil at once", err, time.Since(start))
		}
	})
}

// Stop does not wait for a probe that hangs.
func TestStopDuringAProbe(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		tr := newTrial(t, enginetest.Options{}, nil)
		tr.engine.Break(enginetest.Hang())
		time.Sleep(modelPeriod + time.Millisecond)
		start := time.Now()
		if err := tr.Stop(t.Context()); err != nil || time.Since(start) != 0 {
			t.Errorf("stop: got %v after %v, want nil at once", err, time.Since(start))
		}
	})
}
