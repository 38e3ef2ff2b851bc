package shadow

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// watch starts a watcher that ends with the test.
func (tr *trial) watch(o WatchOptions) *Watcher {
	tr.t.Helper()
	w, err := tr.Watch(o)
	if err != nil {
		tr.t.Fatal(err)
	}
	tr.t.Cleanup(w.Close)
	return w
}

// read returns the comparisons that wait for the watcher's reader, by request id.
func (tr *trial) read(w *Watcher) map[string]*executorv1.WatchComparisonsResponse {
	tr.t.Helper()
	all := map[string]*executorv1.WatchComparisonsResponse{}
	for {
		select {
		case c := <-w.Comparisons():
			p := c.Proto()
			if all[p.GetRequestId()] != nil {
				tr.t.Errorf("%s was seen twice", p.GetRequestId())
			}
			all[p.GetRequestId()] = p
		default:
			return all
		}
	}
}

func sameBits(a, b []float64) bool {
	return slices.EqualFunc(a, b, func(x, y float64) bool { return math.Float64bits(x) == math.Float64bits(y) })
}

// A watcher sees the end of every request: the compared scores, to the last bit, and the row that was sent.
func TestWatcherSeesEveryEnd(t *testing.T) {
	for name, tt := range map[string]struct {
		fault enginetest.Fault
		// detached and waited are the outcomes of the two kinds of requests; sent reports whether their row is sent.
		detached, waited Outcome
		sent             bool
	}{
		"healthy":      {enginetest.Fault{}, Match, Match, true},
		"far":          {enginetest.Fault{}, Mismatch, Mismatch, true},
		"hung":         {enginetest.Hang(), Deadline, Deadline, true},
		"refusing":     {enginetest.Fail(codes.InvalidArgument), Rejected, Rejected, true},
		"out of range": {enginetest.Answer(17), InvalidScore, InvalidScore, true},
		"open":         {enginetest.Fault{}, BreakerOpen, BreakerOpen, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr := newTrial(t, enginetest.Options{}, nil)
				if name == "open" {
					tr.engine.Break(enginetest.Fail(codes.Internal))
					for tr.breakerState() != executorv1.BreakerState_BREAKER_STATE_OPEN {
						tr.wait(t.Context())
					}
				}
				tr.engine.Break(tt.fault)
				every := tr.watch(WatchOptions{Outcomes: Outcomes(), Features: true})
				usual := tr.watch(WatchOptions{})
				requests := map[string]Request{}
				start := time.Now()
				for i := range 9 {
					r := tr.request()
					r.ID, r.Symbol, r.Source = strconv.Itoa(i), "S", Replay
					if name == "far" {
						r.Baseline = math.Mod(r.Baseline+0.5, 1)
					}
					requests[r.ID] = r
					switch i % 3 {
					case 0:
						tr.Skip(r)
					case 1:
						tr.Detach(r)
					default:
						tr.Wait(t.Context(), r)
					}
				}
				time.Sleep(timeout)
				synctest.Wait()
				seen := tr.read(every)
				if len(seen) != 9 || len(tr.read(usual)) != 6 || every.Dropped() != 0 {
					t.Fatalf("%d of 9 requests were seen, %d dropped", len(seen), every.Dropped())
				}
				for id, c := range seen {
					r := requests[id]
					i, _ := strconv.Atoi(id)
					want := []Outcome{NotSampled, tt.detached, tt.waited}[i%3]
					if Outcome(c.GetOutcome()) != want {
						t.Errorf("%s: got %v, want %v", id, c.GetOutcome(), want)
					}
					if c.GetSymbol() != "S" || c.GetSource() != executorv1.Source_SOURCE_REPLAY || math.Float64bits(c.GetBaselineScore()) != math.Float64bits(r.Baseline) {
						t.Errorf("%s: got %v, want the request's symbol, source and baseline score %v", id, c, r.Baseline)
					}
					if at := c.GetTime().AsTime(); at.Before(start) || at.After(time.Now()) || at.Sub(r.Arrival) != time.Duration(c.GetLatencyMs()*1e6) {
						t.Errorf("%s: ended at %v after %v ms, and arrived at %v", id, at, c.GetLatencyMs(), r.Arrival)
					}
					compared := want == Match || want == Mismatch
					if compared != (c.ShadowScore != nil) || compared != (c.Delta != nil) {
						t.Errorf("%s: got %v", id, c)
					}
					score := tr.engine.Model().Scorer.Score(r.State.Vector)
					if compared && !sameBits([]float64{c.GetShadowScore(), c.GetDelta()}, []float64{score, score - r.Baseline}) {
						t.Errorf("%s: got %v and %v, want %v and %v", id, c.GetShadowScore(), c.GetDelta(), score, score-r.Baseline)
					}
					if answered := compared || want == InvalidScore; answered != (c.GetModelDigest() == tr.engine.Model().Digest()) || answered != (c.GetModelVersion() == "v1.8.1-test") {
						t.Errorf("%s: %v was answered by %q", id, want, c.GetModelVersion())
					}
					if tt.sent && want != NotSampled {
						if c.GetSchema() != "v1.8.1" || c.GetFeatures().GetSchema() != "v1.8.1" || !sameBits(c.GetFeatures().GetValues(), r.State.Vector) {
							t.Errorf("%s: got %q with %v, want %v", id, c.GetSchema(), c.GetFeatures(), r.State.Vector)
						}
					} else if c.GetSchema() != "" || c.GetFeatures() != nil {
						t.Errorf("%s: got %q with %v, but no row was sent", id, c.GetSchema(), c.GetFeatures())
					}
				}
			})
		})
	}
}

// A watcher gets only what it selects. Its sample is nested, and does not depend on the sample of the rollout.
func TestWatchersSelect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := newTrial(t, enginetest.Options{Absent: true}, nil)
		none := tr.watch(WatchOptions{Outcomes: []Outcome{Match}})
		symbol := tr.watch(WatchOptions{Outcomes: []Outcome{Match, NotSampled}, Symbol: "A"})
		some := tr.watch(WatchOptions{Outcomes: []Outcome{NotSampled}, Percent: 10})
		more := tr.watch(WatchOptions{Outcomes: []Outcome{NotSampled}, Percent: 50})
		rollout, err := NewSampler("greenlight", 25)
		if err != nil {
			t.Fatal(err)
		}
		const n = 20_000
		var sampled, both, ofSome, ofMore, ofSymbol float64
		for i := range n {
			r := Request{ID: fmt.Sprint("request-", i), Symbol: string(rune('A' + i%2))}
			tr.Skip(r)
			inSome, inMore := tr.read(some)[r.ID] != nil, tr.read(more)[r.ID] != nil
			if inSome && !inMore {
				t.Errorf("%s is in the sample of 10 %% but not in that of 50 %%", r.ID)
			}
			if in := tr.read(symbol)[r.ID] != nil; in != (r.Symbol == "A") {
				t.Errorf("symbol %s: seen %v", r.Symbol, in)
			} else if in {
				ofSymbol++
			}
			in := rollout.Sampled(r.ID)
			for _, count := range []struct {
				*float64
				bool
			}{{&sampled, in}, {&both, in && inMore}, {&ofSome, inSome}, {&ofMore, inMore}} {
				if count.bool {
					*count.float64++
				}
			}
		}
		if len(tr.read(none)) > 0 || ofSymbol != n/2 {
			t.Errorf("%v of the symbol were seen", ofSymbol)
		}
		// Five standard deviations of a binomial.
		for _, share := range []struct{ k, n, p float64 }{{ofSome, n, 0.1}, {ofMore, n, 0.5}, {both, sampled, 0.5}} {
			if bound := 5 * math.Sqrt(share.p*(1-share.p)*share.n); math.Abs(share.k-share.p*share.n) > bound {
				t.Errorf("%v of %v were seen, want %v +- %.0f", share.k, share.n, share.p*share.n, bound)
			}
		}
		if _, err := tr.Watch(WatchOptions{Percent: math.NaN()}); err == nil {
			t.Error("NaN is a percentage")
		}
	})
}

// A reader that never reads delays nothing, and misses what does not fit into its buffer. Others miss nothing.
func TestSlowReaderLosesAndCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := newTrial(t, enginetest.Options{}, nil)
		slow, quick := tr.watch(WatchOptions{}), tr.watch(WatchOptions{})
		const batches, size = 20, 100
		read := 0
		for b := range batches {
			for i := range size {
				r := tr.request()
				r.ID = fmt.Sprint(b, "-", i)
				tr.Detach(r)
			}
			tr.quiet()
			read += len(tr.read(quick))
		}
		if read != batches*size || quick.Dropped() != 0 {
			t.Errorf("%d of %d were read, %d dropped", read, batches*size, quick.Dropped())
		}
		waiting := len(tr.read(slow))
		if waiting != watchBuffer || slow.Dropped() != batches*size-watchBuffer {
			t.Errorf("%d wait and %d were dropped, want %d and %d", waiting, slow.Dropped(), watchBuffer, batches*size-watchBuffer)
		}
		if got := tr.scrape(); got["ml_shadow_watch_dropped_total"] != float64(slow.Dropped()) || got["ml_shadow_watchers"] != 2 {
			t.Errorf("metrics: %v dropped of %v watchers", got["ml_shadow_watch_dropped_total"], got["ml_shadow_watchers"])
		}
		tr.wantTotals(map[Outcome]uint64{Match: batches * size})
	})
}

func TestWatchersAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := newTrial(t, enginetest.Options{Absent: true}, nil)
		var all []*Watcher
		for range maxWatchers {
			all = append(all, tr.watch(WatchOptions{}))
		}
		if w, err := tr.Watch(WatchOptions{}); !errors.Is(err, ErrTooManyWatchers) || w != nil {
			t.Errorf("watcher %d: got %v", maxWatchers+1, err)
		}
		all[3].Close()
		all[3].Close()
		tr.watch(WatchOptions{}).Close()
		for _, w := range all {
			w.Close()
		}
		if n := tr.scrape()["ml_shadow_watchers"]; n != 0 || tr.watchers.list.Load() != nil {
			t.Errorf("%v watchers remain", n)
		}
	})
}

// Watchers come, read and go while requests end.
func TestWatchersCanComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := newTrial(t, enginetest.Options{}, nil)
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				for ctx.Err() == nil {
					w, err := tr.Watch(WatchOptions{Outcomes: Outcomes(), Features: true})
					if err != nil {
						t.Error(err)
						return
					}
					for range 20 {
						select {
						case c := <-w.Comparisons():
							_ = c.Proto()
						case <-ctx.Done():
						}
					}
					w.Close()
				}
			})
		}
		requests := make([]Request, 4)
		for i := range requests {
			requests[i] = tr.request()
		}
		var load sync.WaitGroup
		for _, r := range requests {
			load.Go(func() {
				for i := range 300 {
					r.Arrival = time.Now()
					switch i % 3 {
					case 0:
						tr.Skip(r)
					case 1:
						tr.Detach(r)
					default:
						tr.Wait(t.Context(), r)
					}
				}
			})
		}
		load.Wait()
		cancel()
		all.Wait()
		tr.quiet()
		if n := tr.scrape()["ml_shadow_watchers"]; n != 0 {
			t.Errorf("%v watchers remain", n)
		}
	})
}

// Watchers, even full ones, cost a request no allocation, unless they want features.
func TestWatchersDoNotAllocate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := newTrial(t, enginetest.Options{Absent: true}, nil)
		w := tr.watch(WatchOptions{Outcomes: Outcomes(), Percent: 50})
		r := tr.request()
		r.ID = "any"
		tr.Skip(r) // allocates the slot of the window
		if n := testing.AllocsPerRun(2*watchBuffer, func() { tr.Skip(r) }); n != 0 {
			t.Errorf("%v allocations for a request that is watched, want none", n)
		}
		if len(w.comparisons) != watchBuffer {
			t.Errorf("%d comparisons wait, want %d", len(w.comparisons), watchBuffer)
		}
	})
}
