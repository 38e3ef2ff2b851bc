package shadow

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/shadow/link"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const timeout = 60 * time.Millisecond

// trial is a dispatcher with an engine, in a synctest bubble.
type trial struct {
	*Dispatcher

	t      *testing.T
	engine *enginetest.Engine
	reg    *prometheus.Registry
	rng    *rand.Rand
}

// bothWays runs the test in two bubbles: with an engine that takes streams, and with one that does not.
func bothWays(t *testing.T, test func(*testing.T)) {
	t.Helper()
	for _, way := range []string{"stream", "unary"} {
		t.Run(way, func(t *testing.T) { synctest.Test(t, test) })
	}
}

// streamed reports whether the test runs with an engine that takes streams.
func streamed(t *testing.T) bool { return !strings.HasSuffix(t.Name(), "/unary") }

// newTrial starts both, connected like executor, and waits until the model is known. change may be nil.
func newTrial(t *testing.T, engine enginetest.Options, change func(*Options)) *trial {
	t.Helper()
	engine.Unary = !streamed(t)
	tr := &trial{
		t: t, engine: enginetest.Start(t, engine), reg: prometheus.NewRegistry(), rng: rand.New(rand.NewPCG(3, 4)),
	}
	opts := DefaultOptions()
	opts.Logger, opts.Registerer = slog.New(slog.DiscardHandler), tr.reg
	if change == nil {
		change = func(*Options) {}
	}
	limits := opts
	change(&limits)
	client, err := link.Connect(tr.engine.Target(), nil, link.Options{
		Timeout: limits.Timeout, MaxInFlight: limits.MaxInFlight, MaxBatch: limits.MaxBatch, Logger: limits.Logger, Registerer: limits.Registerer,
	}, tr.engine.Dialer()...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	opts.Engine = client
	change(&opts)
	d, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	tr.Dispatcher = d
	t.Cleanup(func() {
		if err := d.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("stop: %v", err)
		}
		tr.wantConserved(0)
	})
	synctest.Wait()
	return tr
}

// request is a random state that arrives now, with a baseline score that matches the healthy engine's.
func (tr *trial) request() Request {
	schema := tr.engine.Model().Schema
	x := enginetest.Vector(tr.rng, schema)
	return Request{
		Arrival: time.Now(), Baseline: tr.engine.Model().Scorer.Score(x), State: State{Schema: schema, Vector: x},
	}
}

// detach starts n shadows and checks that this takes no time.
func (tr *trial) detach(n int) {
	tr.t.Helper()
	start := time.Now()
	for range n {
		tr.Detach(tr.request())
	}
	if took := time.Since(start); took != 0 {
		tr.t.Errorf("Detach blocked: %d of them took %v", n, took)
	}
}

// quiet waits until queued rows have been sent.
func (tr *trial) quiet() {
	time.Sleep(pace)
	synctest.Wait()
}

// wait waits for one shadow and checks that Wait returns in time.
func (tr *trial) wait(ctx context.Context) Result {
	tr.t.Helper()
	start := time.Now()
	r := tr.Wait(ctx, tr.request())
	if took := time.Since(start); took > timeout {
		tr.t.Errorf("Wait took %v, want at most %v (%v)", took, timeout, r.Outcome)
	}
	return r
}

// wantConserved checks that every request has one outcome or is in flight. inFlight < 0 allows any number in flight.
func (tr *trial) wantConserved(inFlight int) {
	tr.t.Helper()
	r := tr.Report()
	sum := r.GetInFlight()
	for _, o := range r.GetOutcomesTotal() {
		sum += o.GetCount()
	}
	bySource := uint64(0)
	for _, s := range r.GetSourcesTotal() {
		bySource += s.GetCount()
	}
	if bySource != r.GetRequestsTotal() || len(r.GetSourcesTotal()) != len(Sources()) {
		tr.t.Errorf("requests %d, but by source: %v", r.GetRequestsTotal(), r.GetSourcesTotal())
	}
	if sum != r.GetRequestsTotal() {
		tr.t.Errorf("requests %d, but outcomes and in flight add up to %d: %v", r.GetRequestsTotal(), sum, r.GetOutcomesTotal())
	}
	if inFlight >= 0 && r.GetInFlight() != uint64(inFlight) {
		tr.t.Errorf("in flight: got %d, want %d", r.GetInFlight(), inFlight)
	}
}

// wantTotals checks the outcomes so far; the others must be zero.
func (tr *trial) wantTotals(want map[Outcome]uint64) {
	tr.t.Helper()
	for _, o := range Outcomes() {
		if got := tr.recorder.Total(o); got != want[o] {
			tr.t.Errorf("%v: got %d, want %d", o, got, want[o])
		}
	}
}

// breakerStatus reads the breaker once all is quiet: a waiting caller has its answer before the breaker counts it.
func (tr *trial) breakerStatus() BreakerStatus {
	synctest.Wait()
	return tr.breaker.Status()
}

func (tr *trial) breakerState() executorv1.BreakerState { return tr.breakerStatus().State }

func mustSchema(t *testing.T, name string) *feature.Schema {
	t.Helper()
	s, ok := feature.Lookup(name)
	if !ok {
		t.Fatalf("no schema %q", name)
	}
	return s
}
