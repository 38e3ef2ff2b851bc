package shadow

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"

	"github.com/greenlight-ml/greenlight/pkg/shadow/link"
	"github.com/greenlight-ml/greenlight/pkg/stats"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// rival is a challenger in a test: its engine, and its settled results.
type rival struct {
	*enginetest.Engine
	settlements

	t *testing.T
}

// newContest starts a trial with a challenger for each of the engines, which are named a, b, c and so on.
func newContest(t *testing.T, engines []enginetest.Options, change func(*Options)) (*trial, []*rival) {
	t.Helper()
	var rivals []*rival
	var opts []ChallengerOptions
	for i, o := range engines {
		o.Unary = !streamed(t)
		r := &rival{Engine: enginetest.Start(t, o), t: t}
		client, err := link.Connect(r.Target(), nil, link.Options{
			Timeout: timeout, MaxInFlight: 1, MaxBatch: 64, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(), Challenger: "x",
		}, r.Dialer()...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = client.Close() })
		rivals = append(rivals, r)
		opts = append(opts, ChallengerOptions{Name: string(rune('a' + i)), Engine: client, OnSettled: r.onSettled})
	}
	tr := newTrial(t, enginetest.Options{}, func(o *Options) {
		o.Challengers = opts
		if change != nil {
			change(o)
		}
	})
	return tr, rivals
}

// wantChallenger checks that the requests of a challenger each have one outcome, and returns its report.
func (tr *trial) wantChallenger(i int, requests uint64) *executorv1.Challenger {
	tr.t.Helper()
	c := tr.Report().GetChallengers()[i]
	sum := c.GetInFlight()
	for _, n := range counts(c.GetOutcomesTotal()) {
		sum += n
	}
	if c.GetRequestsTotal() != requests || sum != requests || c.GetInFlight() != 0 {
		tr.t.Errorf("challenger %s: %d requests, %d outcomes, %d in flight; want %d of each and none in flight",
			c.GetName(), c.GetRequestsTotal(), sum, c.GetInFlight(), requests)
	}
	return c
}

// Whatever the challengers do, every sampled request has one outcome for each, and the model under trial is unaffected.
func TestChallengersChangeNothing(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		tr, rivals := newContest(t, make([]enginetest.Options, 8), nil)
		want := []Outcome{Match, Deadline, Unavailable, InvalidScore, InvalidScore, Mismatch, Internal, Rejected}
		for i, f := range []enginetest.Fault{
			{},
			enginetest.Hang(),
			{},
			enginetest.Answer(math.NaN()), enginetest.Surplus(3), enginetest.Answer(0), enginetest.Fail(codes.Internal),
			enginetest.Fail(codes.InvalidArgument),
		} {
			rivals[i].Break(f)
		}
		rivals[2].Stop()
		time.Sleep(time.Second)
		const rounds = 100
		for i := range rounds {
			for j, send := range []func(Request){tr.Skip, tr.Detach, func(r Request) {
				if got := tr.Wait(t.Context(), r); got.Outcome != Match || got.Latency > 0 {
					t.Errorf("request %s: got %v after %v (%v), want a match at once", r.ID, got.Outcome, got.Latency, got.Err)
				}
			}} {
				r := tr.request()
				r.ID = fmt.Sprint(j, " ", i)
				start := time.Now()
				send(r)
				if took := time.Since(start); took > 0 {
					t.Errorf("a decision took %v", took)
				}
			}
			time.Sleep(20 * time.Millisecond)
		}
		time.Sleep(2 * timeout)
		synctest.Wait()
		tr.wantConserved(0)
		tr.wantTotals(map[Outcome]uint64{Match: 2 * rounds, NotSampled: rounds})
		for i, r := range rivals {
			c := tr.wantChallenger(i, 2*rounds)
			settled := map[Outcome]uint64{}
			for id, results := range r.results {
				if len(results) != 1 || strings.HasPrefix(id, "0 ") {
					t.Errorf("challenger %d, request %s: settled %d times", i, id, len(results))
				}
				settled[results[0].Outcome]++
			}
			for o, n := range counts(c.GetOutcomesTotal()) {
				if n != settled[o] || n > 0 && o != want[i] && o != BreakerOpen && (o != Match || want[i] != Mismatch) { // 0 matches some baselines
					t.Errorf("challenger %d: %d of %v, %d were settled; want %v, or %v after it", i, n, o, settled[o], want[i], BreakerOpen)
				}
			}
			if settled[want[i]] == 0 || (want[i] == Match || want[i] == Mismatch || want[i] == Rejected) != (settled[BreakerOpen] == 0) {
				t.Errorf("challenger %d: %v", i, settled)
			}
		}
	})
}

// Under load the challengers are shed before the model under trial, starting with the last.
func TestTheLastChallengerIsShedFirst(t *testing.T) {
	t.Run("processors", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			wait := time.Duration(0)
			tr, _ := newContest(t, make([]enginetest.Options, 8), func(o *Options) {
				o.Busy = func(queue time.Duration) bool { return wait >= queue }
			})
			for step := range 60 {
				wait = time.Duration(step) * 2 * time.Millisecond
				tr.wantShedInOrder(func() { tr.wait(t.Context()) }, float64(wait)/float64(100*time.Millisecond))
			}
		})
	})
	for _, size := range []int{1024, 64, 20, 3} {
		t.Run("queue of "+strconv.Itoa(size), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr, _ := newContest(t, make([]enginetest.Options, 8), func(o *Options) { o.QueueSize, o.MaxInFlight = size, 1 })
				held, release := enginetest.Gate()
				tr.engine.Break(held)
				tr.detach(1)
				synctest.Wait()
				for i := range size + 3 {
					if i%32 == 31 { // let the challengers answer, so that their own queues are empty
						synctest.Wait()
					}
					tr.wantShedInOrder(func() { tr.detach(1) }, float64(i)/float64(size))
				}
				release()
			})
		})
	}
}

// wantShedInOrder sends a request and checks that only the last challengers shed it: none without load, and all at the load at
// which the model under trial sheds it.
func (tr *trial) wantShedInOrder(send func(), load float64) {
	tr.t.Helper()
	shed := func() (n []uint64) {
		n = append(n, tr.recorder.Total(Shed))
		for _, c := range tr.challengers {
			n = append(n, c.recorder.Total(Shed))
		}
		return n
	}
	before := shed()
	send()
	after := shed()
	var did []bool
	for i := range after {
		did = append(did, after[i] > before[i])
	}
	for i := 1; i < len(did); i++ {
		if did[i-1] && !did[i] {
			tr.t.Errorf("at a load of %.2f, those that shed the request are %v, want the last ones", load, did)
		}
	}
	if load == 0 && did[len(did)-1] || load >= 1 && !did[0] {
		tr.t.Errorf("at a load of %.2f, those that shed the request are %v", load, did)
	}
}

// The noise floor compares scores of one model with each other, not with the baseline and not between two models.
func TestNoiseFloor(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		tr, rivals := newContest(t, []enginetest.Options{{}, {Version: "another"}, {}}, nil)
		rivals[2].Break(enginetest.Shift(0.1))
		const n = 40
		send := func() {
			for range n {
				r := tr.request()
				r.Baseline = 1 - r.Baseline // far from both
				r.State.Vector[1] = 0
				tr.Detach(r)
				time.Sleep(time.Millisecond)
			}
			time.Sleep(timeout)
			synctest.Wait()
		}
		send()
		report := tr.Report()
		same, other, shifted := report.GetChallengers()[0], report.GetChallengers()[1], report.GetChallengers()[2]
		_, high := stats.Wilson(0, n, stats.Z95)
		if f := same.GetNoiseFloor(); !same.GetSameModel() || f.GetComparisons() != n || f.GetMismatches() != 0 || f.MismatchRate == nil ||
			f.GetMismatchRate() != 0 || f.GetMismatchRateHigh() != high || f.GetMaxDelta() != 0 {
			t.Errorf("the same model: %v, want no difference in %d pairs", f, n)
		}
		if other.GetSameModel() || other.GetNoiseFloor() != nil {
			t.Errorf("another model: %v, want no A/A test", other.GetNoiseFloor())
		}
		if f := shifted.GetNoiseFloor(); f.GetComparisons() != n || f.GetMismatches() != n || f.GetMismatchRate() != 1 || math.Abs(f.GetMaxDelta()-0.1) > 1e-9 {
			t.Errorf("a copy with shifted scores: %v, want %d mismatches by 0.1", f, n)
		}
		if report.GetWindow().GetMatchRate() == 1 {
			t.Error("the baseline matches, so the test shows nothing")
		}
		got := tr.scrape()
		for name, want := range map[string]float64{
			"ml_challenger_noise_total a match": n, "ml_challenger_noise_total a mismatch": 0, "ml_challenger_noise_floor a": 0,
			"ml_challenger_noise_total c mismatch": n, "ml_challenger_noise_floor c": 1, "ml_challenger_noise_total b match": 0,
			"ml_challenger_outcomes_total a not_sampled": 0, "ml_challenger_breaker_state a closed": 1, "ml_challenger_queue_depth b": 0,
			"ml_challenger_model_info b " + rivals[1].Model().Digest() + " another": 1, "ml_challenger_latency_ms b count": n,
			"ml_challenger_abs_delta c count": n,
		} {
			if v, ok := got[name]; v != want || !ok {
				t.Errorf("%s: got %v (there: %v), want %v", name, v, ok, want)
			}
		}
		if v := got["ml_challenger_noise_floor b"]; !math.IsNaN(v) {
			t.Errorf("noise floor of another model: got %v, want NaN", v)
		}

		// After a swap of the model under trial, the second challenger is its copy, and no pair mixes two models.
		tr.engine.Swap("v1.8.1", "another")
		time.Sleep(modelPeriod)
		synctest.Wait()
		send()
		report = tr.Report()
		for i, want := range []uint64{n, n, n} {
			if f := report.GetChallengers()[i].GetNoiseFloor(); (i == 1) != report.GetChallengers()[i].GetSameModel() || i == 1 && (f.GetComparisons() != want || f.GetMismatches() != 0) {
				t.Errorf("after the swap: challenger %d has %v", i, report.GetChallengers()[i])
			}
			if v := tr.scrape()["ml_challenger_noise_total "+string(rune('a'+i))+" match"]; i < 2 && v != float64(want) {
				t.Errorf("after the swap: challenger %d has %v pairs, want %d", i, v, want)
			}
		}
	})
}

// A challenger whose model needs other features rejects states that lack them, without affecting others. It does not change which
// schemas executor knows.
func TestChallengerOfAnotherSchema(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		own := enginetest.Own(t, "desk", 3)
		tr, _ := newContest(t, []enginetest.Options{{Schema: "v1.8"}, {Own: own}, {}}, nil)
		r := tr.request()
		for range 5 {
			r.Arrival = time.Now()
			tr.Detach(r)
			time.Sleep(timeout)
		}
		r.State.Named = map[string]float64{"own_0": 1, "own_1": 2, "own_2": 3}
		for range 5 {
			r.Arrival = time.Now()
			tr.Detach(r)
			time.Sleep(timeout)
		}
		synctest.Wait()
		tr.wantTotals(map[Outcome]uint64{Match: 10})
		for i, want := range []map[Outcome]uint64{{Rejected: 10}, {Rejected: 5}, {Match: 10}} {
			got := counts(tr.wantChallenger(i, 10).GetOutcomesTotal())
			if i == 1 && got[Match]+got[Mismatch] != 5 {
				t.Errorf("challenger 1: %v, want 5 comparisons", got)
			}
			for o, n := range want {
				if got[o] != n {
					t.Errorf("challenger %d: %d of %v, want %d", i, got[o], o, n)
				}
			}
		}
		if _, known := tr.Schemas().Lookup("desk"); known {
			t.Error("a challenger's engine has taught executor a schema")
		}
	})
}

// A stop waits for the shadows of all challengers, and cancels the hanging ones.
func TestStopWithHangingChallengers(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		tr, rivals := newContest(t, make([]enginetest.Options, 3), nil)
		for _, r := range rivals {
			r.Break(enginetest.Hang())
		}
		tr.detach(5)
		tr.quiet()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		start := time.Now()
		if err := tr.Stop(ctx); err == nil || time.Since(start) != 10*time.Millisecond {
			t.Errorf("stop: %v after %v, want an error after 10ms", err, time.Since(start))
		}
		tr.detach(1)
		tr.wantTotals(map[Outcome]uint64{Match: 5, Canceled: 1})
		for i := range rivals {
			if got := counts(tr.wantChallenger(i, 6).GetOutcomesTotal())[Canceled]; got != 6 {
				t.Errorf("challenger %d: %d canceled, want 6", i, got)
			}
		}
	})
}

// Many goroutines send requests while the engines of all fail and recover, for the race detector.
func TestChallengersUnderConcurrentUse(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		tr, rivals := newContest(t, make([]enginetest.Options, 3), func(o *Options) {
			o.Breaker.OpenFor, o.Breaker.MaxOpenFor = 20*time.Millisecond, 80*time.Millisecond
		})
		var wg sync.WaitGroup
		requests := make([]Request, 6)
		for i := range requests {
			requests[i] = tr.request()
		}
		const each = 100
		for i, r := range requests {
			wg.Go(func() {
				for range each {
					r.Arrival = time.Now()
					switch i % 3 {
					case 0:
						tr.Wait(t.Context(), r)
					case 1:
						tr.Report()
						_, _ = tr.reg.Gather()
						tr.Challengers()
						fallthrough
					default:
						tr.Detach(r)
						time.Sleep(2 * time.Millisecond)
					}
				}
			})
		}
		wg.Go(func() {
			for i, name := range slices.Sorted(maps.Keys(faults)) {
				rivals[i%3].Break(faults[name].fault)
				if i%2 == 0 {
					tr.engine.Break(faults[name].fault)
				}
				time.Sleep(10 * time.Millisecond)
				tr.engine.Heal()
				rivals[i%3].Heal()
				time.Sleep(20 * time.Millisecond)
			}
		})
		wg.Wait()
		time.Sleep(2 * timeout)
		synctest.Wait()
		tr.wantConserved(0)
		for i := range rivals {
			c := tr.wantChallenger(i, uint64(len(requests)*each))
			if c.GetNoiseFloor().GetComparisons() == 0 {
				t.Errorf("challenger %d was never compared with its copy", i)
			}
		}
	})
}

func TestCheckChallenger(t *testing.T) {
	eight := []string{"a", "b", "c", "d", "e", "f", "g", "h"}
	for name, tt := range map[string]struct {
		others []string
		want   string
	}{
		"a": {nil, ""}, "gbm-2024-11": {eight[:7], ""}, strings.Repeat("x", 32): {nil, ""},
		"": {nil, "want a name of 1 to 32"}, "A": {nil, "lower-case"}, "a b": {nil, "lower-case"}, "a_b": {nil, "lower-case"}, "ä": {nil, "lower-case"},
		"a\n": {nil, "lower-case"}, strings.Repeat("y", 33): {nil, "at most 32"}, "h": {eight, "is given twice"}, "i": {eight, "want at most 8"},
	} {
		err := CheckChallenger(name, tt.others)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) && tt.want != "at most 32" {
			t.Errorf("%q: got %v, want %q", name, err, tt.want)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		good := newTrial(t, enginetest.Options{}, nil).opts
		good.Registerer = prometheus.NewRegistry()
		for name, bad := range map[string][]ChallengerOptions{
			"no engine": {{Name: "a"}}, "twice": {{Name: "a", Engine: good.Engine}, {Name: "a", Engine: good.Engine}}, "no name": {{Engine: good.Engine}},
		} {
			o := good
			o.Challengers = bad
			if _, err := New(o); err == nil {
				t.Errorf("%s: got no error", name)
			}
		}
	})
}
