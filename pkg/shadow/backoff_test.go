package shadow

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"

	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

// backOff opens the breaker and makes its probes fail n times.
func backOff(t *testing.T, b *Breaker, n int) {
	t.Helper()
	trip(t, b)
	for range n {
		time.Sleep(time.Until(b.Status().NextProbe) + 1)
		tell(b, 1, Deadline)
		wantState(t, b, open)
	}
}

func TestSkipBackoffKeepsTheOpenTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreaker(t, nil)
		b.skipBackoff() // closed: nothing to skip
		wantState(t, b, closed)
		trip(t, b)
		b.skipBackoff() // the first opening has no backoff
		if got := time.Until(b.Status().NextProbe); got != 15*time.Second {
			t.Errorf("first opening: probes in %v, want 15s", got)
		}
		b = newBreaker(t, nil)
		backOff(t, b, 4)
		b.skipBackoff()
		if got := time.Until(b.Status().NextProbe); got != 15*time.Second {
			t.Errorf("just reopened: probes in %v, want 15s", got)
		}
		time.Sleep(10 * time.Second)
		b.skipBackoff() // a second time: no sooner
		if got := time.Until(b.Status().NextProbe); got != 5*time.Second {
			t.Errorf("asked twice: probes in %v, want 5s", got)
		}
		time.Sleep(5*time.Second + 1)
		if got := tell(b, 5, Match); got != 5 {
			t.Errorf("%d probes went through, want 5", got)
		}
		wantState(t, b, closed)
	})
}

// If OpenFor has long passed, probes begin immediately.
func TestSkipBackoffLongAfterOpening(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreaker(t, nil)
		backOff(t, b, 5)
		time.Sleep(100 * time.Second)
		wantState(t, b, open)
		b.skipBackoff()
		wantState(t, b, halfOpen)
	})
}

// The rate is judged when a prediction fails. If a success completed the window, the next failure opens the breaker.
func TestBreakerJudgesAtTheNextFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreaker(t, nil)
		tell(b, 41, Match)
		tell(b, 9, Deadline)
		tell(b, 41, Match)
		tell(b, 8, Deadline)
		tell(b, 1, Match) // the hundredth: 17 % failed
		wantState(t, b, closed)
		tell(b, 1, Deadline)
		wantState(t, b, open)
	})
}

// longOutage is twenty minutes with a request a second. It ends with an open breaker if the breaker opens.
func (tr *trial) longOutage() {
	for i := 0; i < 20*60 || i < 21*60 && tr.breakerState() != open; i++ { // not in the middle of a probe
		time.Sleep(time.Second)
		tr.Detach(tr.request())
	}
}

// wantBack waits up to 30 s until a shadow is compared again.
func (tr *trial) wantBack() {
	tr.t.Helper()
	back := time.Now()
	for tr.wait(tr.t.Context()).Outcome != Match || tr.breakerState() != closed {
		time.Sleep(time.Second)
		if time.Since(back) > 5*time.Minute {
			tr.t.Fatal("no shadow within 5 minutes")
		}
	}
	if took := time.Since(back); took > 30*time.Second {
		tr.t.Errorf("shadows were back after %v, want 30s", took)
	}
}

// However long ml-engine was down, shadows are compared again within 30 s of its return.
func TestRecoveryAfterALongOutage(t *testing.T) {
	for name, breakEngine := range map[string]func(*enginetest.Engine){
		"stopped": (*enginetest.Engine).Stop,
		"hangs":   func(e *enginetest.Engine) { e.Break(enginetest.Hang()) },
		"slow": func(e *enginetest.Engine) {
			slow := enginetest.Delay(130 * time.Millisecond)
			slow.Everywhere = true
			e.Break(slow)
		},
	} {
		t.Run(name, func(t *testing.T) {
			bothWays(t, func(t *testing.T) {
				tr := newTrial(t, enginetest.Options{}, nil)
				breakEngine(tr.engine)
				tr.longOutage()
				if hold := time.Until(tr.breakerStatus().NextProbe); hold < 0 || tr.breakerState() != open {
					t.Fatalf("after the outage: %+v, want open", tr.breakerStatus())
				}
				tr.engine.Heal()
				tr.engine.Restart()
				tr.wantBack()
			})
		})
	}
}

// A model with invalid scores passes every probe. Only a new model shows that it was repaired.
func TestRecoveryWithAnotherModel(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		tr := newTrial(t, enginetest.Options{}, nil)
		tr.engine.Break(enginetest.Answer(2))
		tr.longOutage()
		tr.engine.Heal()
		tr.engine.Swap("v1.8.1", "v1.8.1-repaired")
		tr.wantBack()
	})
}

// reconnected is a client whose connection has a port set by the test: in memory, all connections have the same ends.
type reconnected struct {
	mlenginev1.ScoringServiceClient

	port atomic.Int64
}

func (r *reconnected) GetModelInfo(
	ctx context.Context, req *mlenginev1.GetModelInfoRequest, opts ...grpc.CallOption,
) (*mlenginev1.GetModelInfoResponse, error) {
	resp, err := r.ScoringServiceClient.GetModelInfo(ctx, req, opts...)
	for _, o := range opts {
		if o, ok := o.(grpc.PeerCallOption); ok {
			engine := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 4010}
			*o.PeerAddr = peer.Peer{Addr: engine, LocalAddr: &net.TCPAddr{IP: engine.IP, Port: int(r.port.Load())}}
		}
	}
	return resp, err
}

// An engine with invalid scores passes every probe. A restart with the same model, however fast, skips the backoff. Without
// a restart the backoff continues.
func TestRecoveryOverAnotherConnection(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		client := &reconnected{}
		tr := newTrial(t, enginetest.Options{}, func(o *Options) {
			client.ScoringServiceClient = o.Engine
			o.Engine = client
		})
		tr.engine.Break(enginetest.Answer(2))
		tr.longOutage()
		// 15, 30, 60 and 120 s minus up to a quarter, then at least 180 s: nine in twenty minutes.
		if n := tr.breakerStatus().Trips; n > 10 {
			t.Errorf("the same connection: the breaker opened %d times in 20 minutes, want 10 at most", n)
		}
		if hold := time.Until(tr.breakerStatus().NextProbe); hold < 0 {
			t.Fatalf("after the outage: %+v, want open", tr.breakerStatus())
		}
		tr.engine.Heal()
		client.port.Add(1)
		tr.wantBack()
	})
}

// The memory of connections is bounded.
func TestConnectionsAreForgotten(t *testing.T) {
	var w modelWatch
	p := &peer.Peer{Addr: &net.TCPAddr{Port: 4010}}
	if w.isNew(p) {
		t.Error("a connection of which nothing is known is new")
	}
	for port := range 2 * maxConnections {
		p.LocalAddr = &net.TCPAddr{Port: port}
		if !w.isNew(p) || w.isNew(p) {
			t.Errorf("port %d: want it new once", port)
		}
	}
	if n := len(w.connections); n != maxConnections {
		t.Errorf("%d are remembered, want %d", n, maxConnections)
	}
}

// While the breaker is open ml-engine is probed more often, so that a quick restart is noticed.
func TestProbesMoreOftenWhileTheBreakerIsOpen(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		tr := newTrial(t, enginetest.Options{}, nil)
		backOff(t, tr.breaker, 4)
		time.Sleep(modelPeriod) // until the probe that was already scheduled
		tr.engine.Stop()
		time.Sleep(modelRetry + time.Millisecond)
		tr.engine.Restart()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if got := time.Until(tr.breakerStatus().NextProbe); got > 15*time.Second {
			t.Errorf("2 s after a restart that took %v: probes in %v, want 15s at most", modelRetry, got)
		}
	})
}
