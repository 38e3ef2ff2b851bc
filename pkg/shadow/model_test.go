package shadow

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

// union is a state by name with the inputs of every schema; its score matches the engine's model.
func (tr *trial) union() Request {
	named := map[string]float64{}
	for _, s := range feature.Schemas() {
		for i, x := range enginetest.Vector(tr.rng, s) {
			named[s.Features[i].Name] = x
		}
	}
	state := State{Named: named}
	x, _ := state.Project(tr.engine.Model().Schema)
	return Request{Arrival: time.Now(), Baseline: tr.engine.Model().Scorer.Score(x), State: state}
}

func TestEngineAbsentAtStart(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		tr := newTrial(t, enginetest.Options{Absent: true}, nil)
		if model, ok := tr.Ready(); ok || model != "" {
			t.Errorf("ready: got %q, %v; want nothing", model, ok)
		}
		for range 10 {
			if r := tr.wait(t.Context()); r.Outcome != Unavailable {
				t.Fatalf("got %v (%v), want unavailable", r.Outcome, r.Err)
			}
		}
		if r := tr.wait(t.Context()); r.Outcome != BreakerOpen {
			t.Fatalf("after ten: got %v, want breaker_open", r.Outcome)
		}
		tr.engine.Restart()
		time.Sleep(3 * time.Second)
		if model, ok := tr.Ready(); !ok || model != "v1.8.1-test" {
			t.Errorf("ready, 3 s after the start of the engine: got %q, %v", model, ok)
		}
		time.Sleep(12*time.Second + time.Nanosecond) // 15 s after it opened
		for range 6 {
			if r := tr.wait(t.Context()); r.Outcome != Match {
				t.Errorf("after recovery: got %v (%v), want match", r.Outcome, r.Err)
			}
		}
		if got := tr.breakerState(); got != closed {
			t.Errorf("breaker: got %v, want closed", got)
		}
	})
}

// A model's digest does not cover the ranges of its features, so they may change with the same digest.
func TestRangesChangeUnderADigest(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		tr := newTrial(t, enginetest.Options{}, nil)
		time.Sleep(modelPeriod)
		if len(tr.Active().Domain) != tr.engine.Model().Schema.Len() {
			t.Errorf("at first: %v", tr.Active())
		}
		tr.engine.Break(enginetest.Fault{Info: func(r *mlenginev1.GetModelInfoResponse) { r.Features[1].ProfileLow = nil }})
		time.Sleep(2 * modelPeriod)
		if tr.Active().Domain != nil {
			t.Errorf("without a range: %v", tr.Active())
		}
		tr.engine.Break(enginetest.Fault{Info: func(r *mlenginev1.GetModelInfoResponse) { *r.Features[1].ProfileLow = -0.125 }})
		time.Sleep(2 * modelPeriod)
		if d := tr.Active().Domain; len(d) < 2 || d[1].Low != -0.125 {
			t.Errorf("with another range: %v", d)
		}
	})
}

// An engine that restarts with the same model is used again immediately.
func TestEngineRestarts(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		tr := newTrial(t, enginetest.Options{}, nil)
		tr.engine.Stop()
		if r := tr.wait(t.Context()); r.Outcome != Unavailable {
			t.Errorf("stopped: got %v, want unavailable", r.Outcome)
		}
		time.Sleep(time.Second)
		if _, ok := tr.Ready(); ok {
			t.Error("a second after the engine stopped: ready, want not")
		}
		tr.engine.Restart()
		time.Sleep(2 * time.Second)
		if r := tr.wait(t.Context()); r.Outcome != Match {
			t.Errorf("restarted: got %v (%v), want match", r.Outcome, r.Err)
		}
		if _, ok := tr.Ready(); !ok {
			t.Error("restarted: not ready")
		}
	})
}

// Without traffic, the regular probe notices that the engine has stopped.
func TestReadyWithoutTraffic(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		tr := newTrial(t, enginetest.Options{}, nil)
		for name, breakEngine := range map[string]func(){
			"stopped": tr.engine.Stop, "hangs": func() { tr.engine.Break(enginetest.Hang()) },
		} {
			breakEngine()
			time.Sleep(modelPeriod + modelTimeout)
			synctest.Wait()
			if _, ok := tr.Ready(); ok {
				t.Errorf("%s: ready, want not", name)
			}
			tr.engine.Restart()
			tr.engine.Heal()
			time.Sleep(modelTimeout + 2*time.Second)
			if _, ok := tr.Ready(); !ok {
				t.Errorf("%s, then healthy: not ready", name)
			}
		}
	})
}

// After a swap the first shadows are rejected for their schema. Within 100 ms all shadows use the new model's schema.
func TestModelSwapToAnotherSchema(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		tr := newTrial(t, enginetest.Options{}, nil)
		for _, to := range []string{"v1.8", "v1.8.1"} {
			if r := tr.Wait(t.Context(), tr.union()); r.Outcome != Match {
				t.Fatalf("before the swap to %s: got %v (%v), want match", to, r.Outcome, r.Err)
			}
			time.Sleep(time.Second)
			tr.engine.Swap(to, to+"-swapped")
			if r := tr.Wait(t.Context(), tr.union()); r.Outcome != Rejected {
				t.Errorf("just after the swap to %s: got %v, want rejected", to, r.Outcome)
			}
			time.Sleep(modelGap)
			synctest.Wait()
			r := tr.Wait(t.Context(), tr.union())
			if r.Outcome != Match || r.Version != to+"-swapped" {
				t.Errorf("100 ms after the swap to %s: got %v by %s (%v), want match", to, r.Outcome, r.Version, r.Err)
			}
		}
		if s := tr.breakerStatus(); s.State != closed || s.Failures != 0 {
			t.Errorf("breaker: got %+v, want closed without failures", s)
		}
	})
}

// Queued rows of two schemas are sent as one call per schema.
func TestModelSwapWithQueuedRows(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		tr := newTrial(t, enginetest.Options{}, func(o *Options) { o.MaxInFlight = 1 })
		held, release := enginetest.Gate()
		tr.engine.Break(held)
		for range 3 {
			tr.Detach(tr.union()) // one in flight, two queued: projected to v1.8.1
			synctest.Wait()
		}
		tr.engine.Swap("v1.8", "v1.8-b0")
		m := *tr.model.current.Load() // as a probe would set it, but before any shadow is rejected
		m.schema = mustSchema(t, "v1.8")
		tr.model.current.Store(&m)
		for range 2 {
			tr.Detach(tr.union())
		}
		tr.Detach(Request{Arrival: time.Now(), State: State{Schema: mustSchema(t, "v1.8.1"), Vector: make([]float64, 7)}})
		release()
		time.Sleep(timeout)
		synctest.Wait()
		calls := tr.engine.Calls()
		if len(calls) != 3 || calls[1].Rows != 2 || calls[1].Schema != "v1.8.1" || calls[2].Rows != 2 || calls[2].Schema != "v1.8" {
			t.Errorf("calls: got %+v, want 1 and 2 rows of v1.8.1, then 2 of v1.8", calls)
		}
		// The call in flight was scored by the model that was active when it began.
		tr.wantTotals(map[Outcome]uint64{Match: 3, Rejected: 3})
	})
}

// Rows that are set aside for the next call return their probes to the breaker.
func TestProbesOfBothSchemas(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		tr := newTrial(t, enginetest.Options{}, func(o *Options) { o.MaxInFlight = 1 })
		trip(t, tr.breaker)
		time.Sleep(15*time.Second + time.Nanosecond)
		held, release := enginetest.Gate()
		tr.engine.Break(held)
		tr.detach(1)
		synctest.Wait()
		tr.detach(1)
		m := *tr.model.current.Load()
		m.schema = mustSchema(t, "v1.8")
		tr.model.current.Store(&m)
		for range 3 {
			tr.Detach(tr.union())
		}
		tr.engine.Heal()
		release()
		tr.quiet()
		tr.wantTotals(map[Outcome]uint64{Match: 2, Rejected: 3})
		m.schema = tr.engine.Model().Schema
		tr.model.current.Store(&m)
		tr.detach(3)
		tr.quiet()
		if got := tr.breakerState(); got != closed {
			t.Errorf("after 5 good probes: got %v, want closed", got)
		}
	})
}

// A schema counts as known only if its hash matches.
func TestProbeComparesTheSchema(t *testing.T) {
	known := mustSchema(t, "v1.8")
	for name, tt := range map[string]struct {
		info *mlenginev1.GetModelInfoResponse
		want error
	}{
		"known":           {&mlenginev1.GetModelInfoResponse{Version: "v", Schema: "v1.8", SchemaHash: known.Hash()}, nil},
		"another meaning": {&mlenginev1.GetModelInfoResponse{Version: "v", Schema: "v1.8", SchemaHash: mustSchema(t, "v1.8.1").Hash()}, errSchema},
		"another name":    {&mlenginev1.GetModelInfoResponse{Version: "v", Schema: "v9", SchemaHash: known.Hash()}, errSchema},
		"no model":        {&mlenginev1.GetModelInfoResponse{Schema: "v1.8", SchemaHash: known.Hash()}, errUnknown},
	} {
		w := newModelWatch(infoClient{info: tt.info}, feature.NewKnown(), slog.New(slog.DiscardHandler), timeout)
		if _, err := w.schema(); !errors.Is(err, errUnknown) {
			t.Errorf("%s, before a probe: got %v, want errUnknown", name, err)
		}
		if !w.probe(t.Context(), new(peer.Peer)) {
			t.Errorf("%s: the probe failed", name)
		}
		if s, err := w.schema(); !errors.Is(err, tt.want) || (err == nil && s != known) {
			t.Errorf("%s: got %v, %v; want %v", name, s, err, tt.want)
		}
	}
}

// infoClient answers GetModelInfo.
type infoClient struct {
	mlenginev1.ScoringServiceClient

	info *mlenginev1.GetModelInfoResponse
}

func (c infoClient) GetModelInfo(context.Context, *mlenginev1.GetModelInfoRequest, ...grpc.CallOption) (*mlenginev1.GetModelInfoResponse, error) {
	return c.info, nil
}

func TestModelOfUnknownSchema(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		tr := newTrial(t, enginetest.Options{}, nil)
		m := *tr.model.current.Load()
		m.schema = nil
		tr.model.current.Store(&m)
		tr.engine.Forget()
		if r := tr.wait(t.Context()); r.Outcome != Rejected || r.Err == nil {
			t.Errorf("got %v (%v), want rejected", r.Outcome, r.Err)
		}
		if n := len(tr.engine.Calls()); n != 0 {
			t.Errorf("%d calls went out", n)
		}
	})
}

func TestStateOfAnotherSchemaIsRejected(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		tr := newTrial(t, enginetest.Options{Schema: "v1.8"}, nil)
		s := mustSchema(t, "v1.8.1")
		r := tr.Wait(t.Context(), Request{Arrival: time.Now(), State: State{Schema: s, Vector: enginetest.Vector(tr.rng, s)}})
		if r.Outcome != Rejected || len(tr.engine.Calls()) != 0 {
			t.Errorf("got %v and %d calls, want rejected and none", r.Outcome, len(tr.engine.Calls()))
		}
	})
}

// rejectedOf starts a detached shadow every 10 ms for d, with states that only a v1.8.1 model can score. It returns how
// many were rejected.
func (tr *trial) rejectedOf(d time.Duration) uint64 {
	before := tr.recorder.Total(Rejected)
	for range d / pace {
		schema := mustSchema(tr.t, "v1.8.1")
		tr.Detach(Request{Arrival: time.Now(), State: State{Schema: schema, Vector: enginetest.Vector(tr.rng, schema)}})
		time.Sleep(pace)
	}
	synctest.Wait()
	return tr.recorder.Total(Rejected) - before
}

// After a rollback to a model that can score the states again, shadows are rejected for at most half a second, whether or not
// requests arrived meanwhile.
func TestRollbackToAnotherSchemaLosesNoShadowsForLong(t *testing.T) {
	for name, quiet := range map[string]time.Duration{"under load": 0, "after a quiet second": time.Second} {
		t.Run(name, func(t *testing.T) {
			bothWays(t, func(t *testing.T) {
				tr := newTrial(t, enginetest.Options{}, nil)
				for range 2 {
					tr.engine.Swap("v1.8", "v1.8-b0")
					if n := tr.rejectedOf(7 * time.Second); n < 150 {
						t.Fatalf("%d shadows were rejected under a model of another schema", n)
					}
					tr.engine.Swap("v1.8.1", "v1.8.1-rc1")
					time.Sleep(quiet)
					if quiet == 0 {
						if n := tr.rejectedOf(modelRetry + pace); n > uint64(modelRetry/pace) {
							t.Errorf("%d shadows were rejected in the half second after the rollback", n)
						}
					}
					if n := tr.rejectedOf(3 * time.Second); n != 0 {
						t.Errorf("%d shadows were rejected although the previous model serves again", n)
					}
				}
			})
		})
	}
}

// The first rejection after a long time triggers a probe immediately.
func TestARejectionRequestsAProbeAtOnce(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		tr := newTrial(t, enginetest.Options{Schema: "v1.8"}, nil)
		time.Sleep(modelMemory)
		tr.engine.Swap("v1.8.1", "v1.8.1-rc1") // between two regular probes
		if n := tr.rejectedOf(2 * modelGap); n == 0 || n > uint64(modelGap/pace)+1 {
			t.Errorf("%d shadows were rejected, want those of %v at most", n, modelGap)
		}
	})
}

// An engine that rejects everything is probed at a bounded rate.
func TestRejectionsCauseFewProbes(t *testing.T) {
	for name, schema := range map[string]string{"by executor": "v1.8", "by ml-engine": "v1.8.1"} {
		t.Run(name, func(t *testing.T) {
			bothWays(t, func(t *testing.T) {
				tr := newTrial(t, enginetest.Options{Schema: schema}, nil)
				var probes atomic.Int64
				tr.engine.Break(enginetest.Fault{
					Info:   func(*mlenginev1.GetModelInfoResponse) { probes.Add(1) },
					Before: func(context.Context) error { return status.Error(codes.InvalidArgument, "no") },
				})
				n := tr.rejectedOf(10 * time.Second)
				if got := probes.Load(); n == 0 || got > 22 || got < 15 {
					t.Errorf("%d rejections in 10 s caused %d probes, want about 20", n, got)
				}
				time.Sleep(2 * modelMemory)
				probes.Store(0)
				time.Sleep(20 * time.Second)
				if got := probes.Load(); got > 5 {
					t.Errorf("without requests: %d probes in 20 s", got)
				}
			})
		})
	}
}
