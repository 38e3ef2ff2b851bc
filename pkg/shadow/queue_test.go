package shadow

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
)

// While a call is in flight, rows wait and are sent together, even if slots are free.
func TestRowsGoTogetherWhenTheCallReturns(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		tr := newTrial(t, enginetest.Options{}, nil)
		tr.engine.Break(enginetest.Delay(pace - time.Microsecond))
		for range 10 {
			tr.detach(1)
			synctest.Wait()
		}
		time.Sleep(timeout)
		if got, want := rows(tr.engine.Calls()), []int{1, 9}; !slices.Equal(got, want) {
			t.Errorf("calls: got %v rows, want %v", got, want)
		}
	})
}

// Rows that arrive soon after a call wait for the pace, however fast calls return. A row that arrives late is sent immediately.
func TestCallsKeepThePace(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		tr := newTrial(t, enginetest.Options{}, nil)
		for range 5 {
			tr.detach(1)
			synctest.Wait()
			time.Sleep(pace * 2 / 5)
		}
		tr.quiet()
		if got, want := rows(tr.engine.Calls()), []int{1, 2, 2}; !slices.Equal(got, want) {
			t.Errorf("five rows in two paces: got calls of %v rows, want %v", got, want)
		}
		time.Sleep(pace)
		tr.detach(1)
		synctest.Wait()
		if got := len(tr.engine.Calls()); got != 4 {
			t.Errorf("a lone row: got %d calls, want 4: it goes at once", got)
		}
		tr.wantTotals(map[Outcome]uint64{Match: 6})
	})
}

// A caller that waits for its shadow does not wait for the pace, and takes waiting rows along.
func TestAwaitedRowGoesAtOnce(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		tr := newTrial(t, enginetest.Options{}, nil)
		tr.detach(1)
		synctest.Wait()
		tr.detach(2)
		synctest.Wait()
		start := time.Now()
		if r := tr.wait(t.Context()); r.Outcome != Match || time.Since(start) != 0 {
			t.Errorf("got %v after %v, want a match at once", r.Outcome, time.Since(start))
		}
		if got, want := rows(tr.engine.Calls()), []int{1, 3}; !slices.Equal(got, want) {
			t.Errorf("calls: got %v rows, want %v", got, want)
		}
	})
}

// A full batch does not wait for the call in flight.
func TestFullBatchOpensASlot(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		tr := newTrial(t, enginetest.Options{}, nil)
		held, release := enginetest.Gate()
		tr.engine.Break(held)
		tr.detach(1)
		synctest.Wait()
		tr.detach(64 + 64 + 10)
		synctest.Wait()
		if got, want := rows(tr.engine.Calls()), []int{1, 64, 64}; !slices.Equal(got, want) {
			t.Errorf("calls: got %v rows, want %v", got, want)
		}
		release()
	})
}

func TestQueueKeepsTheOrderAndRefusesWhenItMust(t *testing.T) {
	q := newQueue(4, 3)
	var calls []*call
	for range 9 {
		calls = append(calls, &call{})
	}
	put := func(c *call, want error) {
		t.Helper()
		if err := q.put(c); !errors.Is(err, want) {
			t.Errorf("put: got %v, want %v", err, want)
		}
	}
	for _, c := range calls[:4] {
		put(c, nil)
	}
	put(calls[8], errShed)
	if got := q.take(nil); !slices.Equal(got, calls[:3]) {
		t.Errorf("take: got %v, want the first three", got)
	}
	put(calls[4], nil)
	put(calls[5], nil) // wraps around the ring
	if got := q.next(nil); !slices.Equal(got, calls[3:6]) {
		t.Errorf("next: got %v, want the other three, in order", got)
	}
	put(calls[6], nil)
	q.close()
	put(calls[7], errStopped)
	if got := q.next(nil); !slices.Equal(got, calls[6:7]) {
		t.Errorf("next of a closed queue: got %v, want what waited", got)
	}
	if got := q.next(nil); len(got) != 0 || q.len() != 0 {
		t.Errorf("next of an empty queue: got %v", got)
	}
	if got := q.take(nil); len(got) != 0 {
		t.Errorf("take of a closed queue: got %v", got)
	}
}

// A lone row behind a hung call is sent after the pace, even if no further row arrives.
func TestHungCallDoesNotDelayALoneRow(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		tr := newTrial(t, enginetest.Options{}, nil)
		held, release := enginetest.Gate()
		tr.engine.Break(held)
		tr.detach(1)
		synctest.Wait()
		time.Sleep(time.Millisecond)
		tr.engine.Break(enginetest.Delay(0))
		tr.detach(1)
		time.Sleep(pace - time.Millisecond - time.Nanosecond)
		synctest.Wait()
		if got, want := rows(tr.engine.Calls()), []int{1}; !slices.Equal(got, want) {
			t.Errorf("before the pace is over: got %v rows, want %v", got, want)
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if got, want := rows(tr.engine.Calls()), []int{1, 1}; !slices.Equal(got, want) {
			t.Errorf("after it: got %v rows, want %v", got, want)
		}
		release()
	})
}
