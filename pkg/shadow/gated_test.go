package shadow

import (
	"errors"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/greenlight-ml/greenlight/pkg/decide"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// gated is a request that a gate decides on. It records the advice.
type gated struct {
	mu      sync.Mutex
	results []Result
	at      time.Time
	// counted, if set, returns how many results of an outcome were counted, and before stores its value at the time of the advice.
	counted func(Outcome) uint64
	before  uint64
}

// Advise implements [Gated].
func (g *gated) Advise(r Result) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.results, g.at = append(g.results, r), time.Now()
	if g.counted != nil {
		g.before = g.counted(r.Outcome)
	}
}

// Decision implements [Gated].
func (*gated) Decision() (decide.Decision, uint64) { return decide.Decision{}, 0 }

// result returns the only advice, and its time.
func (g *gated) result(t *testing.T) (Result, time.Time) {
	t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.results) != 1 {
		t.Fatalf("advised %d times, want once", len(g.results))
	}
	return g.results[0], g.at
}

// advise starts n urgent shadows and checks that this takes no time.
func (tr *trial) advise(n int) []*gated {
	tr.t.Helper()
	start := time.Now()
	all := make([]*gated, n)
	for i := range all {
		all[i] = &gated{}
		r := tr.request()
		r.Gated = all[i]
		tr.Advise(r)
	}
	if took := time.Since(start); took != 0 {
		tr.t.Errorf("Advise blocked: %d of them took %v", n, took)
	}
	return all
}

// If a worker is idle, an urgent row waits neither for the pace nor for calls in flight, and takes waiting rows along.
func TestUrgentRowGoesAtOnce(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		tr := newTrial(t, enginetest.Options{}, nil)
		held, release := enginetest.Gate()
		tr.engine.Break(held)
		tr.detach(1)
		synctest.Wait()
		tr.detach(3)
		synctest.Wait()
		tr.advise(1)
		synctest.Wait()
		tr.advise(1)
		synctest.Wait()
		if got, want := rows(tr.engine.Calls()), []int{1, 4, 1}; !slices.Equal(got, want) {
			t.Errorf("calls: got %v rows, want %v", got, want)
		}
		release()
		tr.quiet()
		tr.wantTotals(map[Outcome]uint64{Match: 6})
	})
}

// While all workers are busy, urgent rows wait. They take the first free slot, before rows that came earlier, even within the
// pace.
func TestUrgentRowsTakeTheFirstFreeSlot(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		tr := newTrial(t, enginetest.Options{}, nil)
		const took = 4 * time.Millisecond
		tr.engine.Break(enginetest.Delay(took))
		start := time.Now()
		first := tr.advise(1)
		synctest.Wait()
		for range tr.opts.MaxInFlight - 1 {
			time.Sleep(took / 4)
			first = append(first, tr.advise(1)...)
			synctest.Wait()
		}
		tr.detach(3 * tr.opts.MaxBatch)
		urgent := tr.advise(2)
		time.Sleep(timeout)
		for i, g := range slices.Concat(first, urgent) {
			want := time.Duration(i)*took/4 + took
			if i >= len(first) {
				want = took + took
			}
			if r, at := g.result(t); r.Outcome != Match || at.Sub(start) != want {
				t.Errorf("row %d: got %v after %v, want a match after %v", i, r.Outcome, at.Sub(start), want)
			}
		}
		if got, want := rows(tr.engine.Calls())[tr.opts.MaxInFlight:], []int{64, 64, 64, 2}; !slices.Equal(got, want) {
			t.Errorf("calls: got %v rows, want %v", got, want)
		}
	})
}

// A batch has the urgent rows first, then the others, both in order. Each ring is bounded.
func TestQueueTakesUrgentRowsFirst(t *testing.T) {
	q := newQueue(3, 4)
	var ordinary, urgent []*call
	for range 3 {
		ordinary, urgent = append(ordinary, &call{}), append(urgent, &call{urgent: true})
	}
	for i := range 3 {
		if err := errors.Join(q.put(ordinary[i]), q.put(urgent[i])); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []*call{{}, {urgent: true}} {
		if err := q.put(c); !errors.Is(err, errShed) {
			t.Errorf("put into a full ring: got %v, want %v", err, errShed)
		}
	}
	if got, want := q.take(nil), slices.Concat(urgent, ordinary[:1]); !slices.Equal(got, want) || q.len() != 2 {
		t.Errorf("take: got %v, want the urgent rows and the first of the others", got)
	}
	late := &call{urgent: true}
	if err := q.put(late); err != nil {
		t.Fatal(err)
	}
	if got, want := q.next(nil), append([]*call{late}, ordinary[1:]...); !slices.Equal(got, want) {
		t.Errorf("next: got %v, want the urgent row and the rest", got)
	}
	if got := q.next(nil); len(got) != 0 || q.len() != 0 {
		t.Errorf("next of an empty queue: got %v", got)
	}
	q.close()
}

// However its shadow ends, a gated request is advised exactly once, before its outcome is counted.
func TestGatedRequestsAreAdvisedOnce(t *testing.T) {
	unknown := func(r *Request) { r.State.Schema = mustSchema(t, "v1.8") }
	for name, tt := range map[string]struct {
		fault   enginetest.Fault
		options func(*Options)
		prepare func(*trial)
		change  func(*Request)
		want    Outcome
	}{
		"match":        {want: Match},
		"mismatch":     {fault: enginetest.Answer(0), change: func(r *Request) { r.Baseline = 1 }, want: Mismatch},
		"faulty state": {change: func(r *Request) { r.Fault = errors.New("no features") }, want: Rejected},
		"other schema": {change: unknown, want: Rejected},
		"refused":      {fault: enginetest.Fail(codes.InvalidArgument), want: Rejected},
		"late":         {change: func(r *Request) { r.Arrival = r.Arrival.Add(-timeout) }, want: Deadline},
		"hung":         {fault: enginetest.Hang(), want: Deadline},
		"internal":     {fault: enginetest.Fail(codes.Internal), want: Internal},
		"NaN":          {fault: enginetest.Answer(math.NaN()), want: InvalidScore},
		"dead":         {prepare: func(tr *trial) { tr.engine.Stop() }, want: Unavailable},
		"busy":         {options: func(o *Options) { o.Busy = func(time.Duration) bool { return true } }, want: Shed},
		"stopped":      {prepare: func(tr *trial) { tr.queue.close() }, want: Canceled},
		"open breaker": {prepare: func(tr *trial) { tell(tr.breaker, 200, Internal) }, want: BreakerOpen},
	} {
		t.Run(name, func(t *testing.T) {
			bothWays(t, func(t *testing.T) {
				for _, way := range []string{"Advise", "Detach", "Wait", "Skip"} {
					tr := newTrial(t, enginetest.Options{}, tt.options)
					tr.engine.Break(tt.fault)
					if tt.prepare != nil {
						tt.prepare(tr)
					}
					g := &gated{counted: tr.recorder.Total}
					r := tr.request()
					r.Gated = g
					if tt.change != nil {
						tt.change(&r)
					}
					want := tt.want
					switch way {
					case "Advise":
						tr.Advise(r)
					case "Detach":
						tr.Detach(r)
					case "Wait":
						if got := tr.Wait(t.Context(), r); got.Outcome != want {
							t.Errorf("Wait: got %v, want %v", got.Outcome, want)
						}
					case "Skip":
						want = NotSampled
						tr.Skip(r)
					}
					time.Sleep(2 * timeout)
					synctest.Wait()
					if got, _ := g.result(t); got.Outcome != want || g.before != 0 {
						t.Errorf("%s: got %v with %d counted, want %v with none", way, got.Outcome, g.before, want)
					}
					tr.wantTotals(map[Outcome]uint64{want: 1})
				}
			})
		})
	}
}

// Challengers neither advise nor go first, and a gated request is advised once however many there are.
func TestChallengersDoNotAdvise(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		tr, rivals := newContest(t, make([]enginetest.Options, 2), nil)
		rivals[0].Break(enginetest.Answer(0.25))
		rivals[1].Break(enginetest.Hang())
		var all []*gated
		for i := range 20 {
			g := &gated{}
			r := tr.request()
			r.ID, r.Gated = strconv.Itoa(i), g
			tr.Advise(r)
			all = append(all, g)
			synctest.Wait()
			time.Sleep(time.Millisecond)
		}
		time.Sleep(2 * timeout)
		synctest.Wait()
		for _, g := range all {
			if r, _ := g.result(t); r.Outcome != Match || r.Latency != 0 {
				t.Errorf("got %v after %v, want the match of the model under trial at once", r.Outcome, r.Latency)
			}
		}
		if calls := rivals[0].Calls(); len(calls) > 4 {
			t.Errorf("the challenger was called %d times in two paces: want rows to wait for the pace", len(calls))
		}
		for i := range rivals {
			tr.wantChallenger(i, 20)
			for id, results := range rivals[i].results {
				if len(results) != 1 {
					t.Errorf("challenger %d settled request %s %d times", i, id, len(results))
				}
			}
		}
	})
}

// The reasons of package decide match the contract's names, values and order.
func TestReasonsAreThoseOfTheContract(t *testing.T) {
	want := map[string]int32{"FALLBACK_REASON_UNSPECIFIED": int32(decide.None)}
	for _, r := range decide.Reasons() {
		want["FALLBACK_REASON_"+strings.ToUpper(r.String())] = int32(r)
	}
	if got := executorv1.FallbackReason_value; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// Callers of all kinds, with an engine that comes and goes: every gated request is advised exactly once.
func TestGatedRequestsUnderConcurrentUse(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		tr := newTrial(t, enginetest.Options{}, func(o *Options) { o.QueueSize, o.MaxBatch = 40, 8 })
		const callers, each = 8, 200
		all := make([][]*gated, callers)
		requests := make([][]Request, callers)
		for c := range callers {
			for range each {
				g := &gated{}
				r := tr.request()
				r.Gated = g
				all[c], requests[c] = append(all[c], g), append(requests[c], r)
			}
		}
		var running sync.WaitGroup
		for c := range callers {
			running.Go(func() {
				for i, r := range requests[c] {
					r.Arrival = time.Now()
					switch (c + i) % 4 {
					case 0, 1:
						tr.Advise(r)
					case 2:
						tr.Detach(r)
					default:
						tr.Wait(t.Context(), r)
					}
					if i%5 == c%5 {
						time.Sleep(time.Millisecond)
					}
				}
			})
		}
		for _, f := range []enginetest.Fault{enginetest.Hang(), {}, enginetest.Fail(codes.Internal), {}, enginetest.Delay(20 * time.Millisecond), {}} {
			time.Sleep(15 * time.Millisecond)
			tr.engine.Break(f)
		}
		running.Wait()
		if err := tr.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, of := range all {
			for _, g := range of {
				g.result(t)
			}
		}
		tr.wantConserved(0)
	})
}
