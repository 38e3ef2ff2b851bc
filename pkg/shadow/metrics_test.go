package shadow

import (
	"context"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
)

// scrape returns every series of the registry except histograms, by name and label values.
func (tr *trial) scrape() map[string]float64 {
	tr.t.Helper()
	families, err := tr.reg.Gather()
	if err != nil {
		tr.t.Fatal(err)
	}
	series := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			switch {
			case m.GetCounter() != nil:
				series[name] = m.GetCounter().GetValue()
			case m.GetGauge() != nil:
				series[name] = m.GetGauge().GetValue()
			case m.GetHistogram() != nil:
				series[name+" count"] = float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return series
}

func TestMetricsAddUp(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		tr := newTrial(t, enginetest.Options{}, nil)
		before := tr.scrape()
		for _, o := range Outcomes() {
			if v, ok := before["ml_shadow_outcomes_total "+o.String()]; !ok || v != 0 {
				t.Errorf("at the start: outcome %v is %v (there: %v), want 0", o, v, ok)
			}
		}
		if rate := before["ml_shadow_match_rate"]; !math.IsNaN(rate) {
			t.Errorf("match rate without data: got %v, want NaN", rate)
		}
		for range 3 {
			tr.wait(t.Context())
		}
		tr.engine.Break(enginetest.Shift(0.5))
		tr.wait(t.Context())
		tr.engine.Break(enginetest.Fail(codes.InvalidArgument))
		tr.wait(t.Context())
		tr.engine.Break(enginetest.Fail(codes.Internal))
		for range 10 {
			tr.wait(t.Context())
		}
		tr.wait(t.Context())
		tr.Skip(Request{})
		got := tr.scrape()
		for name, want := range map[string]float64{
			"ml_shadow_success_total": 4, "ml_shadow_match_total": 3, "ml_shadow_mismatch_total": 1,
			"ml_shadow_error_total": 11, "ml_shadow_match_rate": 0.75,
			"ml_shadow_outcomes_total internal": 10, "ml_shadow_outcomes_total rejected": 1,
			"ml_shadow_outcomes_total breaker_open": 1, "ml_shadow_outcomes_total not_sampled": 1,
			"ml_shadow_abs_delta count": 4, "ml_shadow_latency_ms count": 15, "ml_shadow_latency_delta_ms count": 4,
			"ml_shadow_batch_size count":     15,
			"ml_shadow_breaker_state closed": 0, "ml_shadow_breaker_state half_open": 0, "ml_shadow_breaker_state open": 1,
			"ml_shadow_breaker_blind": 1, "ml_shadow_queue_depth": 0,
		} {
			if got[name] != want {
				t.Errorf("%s: got %v, want %v", name, got[name], want)
			}
		}
	})
}

func TestQueueDepth(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		tr := newTrial(t, enginetest.Options{}, func(o *Options) { o.MaxInFlight = 1 })
		tr.engine.Break(enginetest.Hang())
		tr.detach(1)
		synctest.Wait()
		tr.detach(7)
		synctest.Wait()
		if got := tr.scrape()["ml_shadow_queue_depth"]; got != 7 {
			t.Errorf("queue depth: got %v, want 7", got)
		}
	})
}

// Many goroutines use everything at once while the engine fails and recovers, for the race detector.
func TestConcurrentUse(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		tr := newTrial(t, enginetest.Options{}, func(o *Options) {
			o.Breaker.OpenFor, o.Breaker.MaxOpenFor = 20*time.Millisecond, 80*time.Millisecond
		})
		requests := make([]Request, 8)
		for i := range requests {
			requests[i] = tr.request()
		}
		var wg sync.WaitGroup
		for worker, r := range requests {
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(uint64(worker), 9))
				for range 100 {
					r.Arrival = time.Now()
					switch rng.IntN(6) {
					case 0:
						tr.Report()
						tr.Ready()
					case 1:
						_, _ = tr.reg.Gather()
					case 2:
						ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rng.IntN(100))*time.Millisecond)
						tr.Wait(ctx, r)
						cancel()
					case 3:
						tr.Skip(Request{})
					default:
						tr.Detach(r)
						time.Sleep(time.Duration(rng.IntN(3)) * time.Millisecond)
					}
				}
			})
		}
		wg.Go(func() {
			for _, f := range faults {
				tr.engine.Break(f.fault)
				time.Sleep(20 * time.Millisecond)
			}
			tr.engine.Heal()
		})
		wg.Wait()
		time.Sleep(2 * timeout)
		synctest.Wait()
		tr.wantConserved(0)
	})
}
