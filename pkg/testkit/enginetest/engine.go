// Package enginetest is an in-memory ml-engine for tests. It implements the contract over gRPC with a real logistic model,
// and its faults can be switched while it runs.
//
//	engine := enginetest.Start(t, enginetest.Options{})
//	engine.Break(enginetest.Hang())
//	... engine.Client() ...
//	engine.Heal()
//
// It works inside a testing/synctest bubble, where its delays take no time. Everything it starts ends before the bubble.
package enginetest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/rpc"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

// Options configures an [Engine]. The zero value is a healthy in-memory engine.
type Options struct {
	// Schema is the model's feature schema. Default feature.DefaultSchema.
	Schema string
	// Own is the model's schema if it is not built in.
	Own *feature.Schema
	// Version is the model's version. Default: the schema's name and "-test".
	Version string
	// Absent starts without a server: calls fail as if the port were closed, until Restart.
	Absent bool
	// Loopback listens on a real TCP port of 127.0.0.1 instead of in memory, for tests of whole programs. It does not
	// work inside a synctest bubble.
	Loopback bool
	// Unary serves no StreamPredict, like engines of older versions.
	Unary bool
}

// Engine is the engine of one test.
type Engine struct {
	t     testing.TB
	opts  Options
	conn  *grpc.ClientConn
	model atomic.Pointer[model.Artifact]
	fault atomic.Pointer[Fault]
	addr  string // of a loopback engine, kept across a restart

	mu       sync.Mutex
	server   *grpc.Server      // nil while the engine is stopped
	stopping chan struct{}     // closed when streams should end
	buffer   *bufconn.Listener // nil while the engine is stopped, and for a loopback engine
	served   chan struct{}
	calls    []Call
	inFlight int
	peak     int
}

// Call is one scoring call that reached the engine.
type Call struct {
	Schema string
	Rows   int
	// Arrival is when it arrived. Timeout is the caller's remaining time; 0 over a stream, which has no deadline.
	Arrival time.Time
	Timeout time.Duration
	// Watched are the names of the raw inputs, WatchedValues one value per name and row, EventTimesMS one time per row. They
	// are empty if the caller sent none.
	Watched       []string
	WatchedValues []float64
	EventTimesMS  []int64
}

// Start returns a running engine that is stopped when the test ends.
func Start(t testing.TB, opts Options) *Engine {
	t.Helper()
	if opts.Schema == "" {
		opts.Schema = feature.DefaultSchema
	}
	if opts.Version == "" {
		opts.Version = opts.Schema + "-test"
	}
	e := &Engine{t: t, opts: opts, addr: "127.0.0.1:0"}
	if opts.Own != nil {
		e.SwapTo(ArtifactOf(t, opts.Own, opts.Version))
	} else {
		e.Swap(opts.Schema, opts.Version)
	}
	e.Heal()
	if !opts.Absent || opts.Loopback {
		e.Restart()
	}
	t.Cleanup(e.Stop)
	conn, err := rpc.Dial(e.Target(), nil, e.Dialer()...)
	if err != nil {
		t.Fatal(err)
	}
	e.conn = conn
	t.Cleanup(func() { _ = conn.Close() })
	if opts.Absent {
		e.Stop()
	}
	return e
}

// Target returns the target to dial, with the options of Dialer.
func (e *Engine) Target() string {
	if e.opts.Loopback {
		return e.addr
	}
	return "passthrough:///bufnet"
}

// Dialer returns the options that connect to the engine.
func (e *Engine) Dialer() []grpc.DialOption {
	if e.opts.Loopback {
		return nil
	}
	return []grpc.DialOption{grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return e.Dial(ctx) })}
}

// Client returns a client of the engine that makes one call per batch.
func (e *Engine) Client() mlenginev1.ScoringServiceClient {
	return mlenginev1.NewScoringServiceClient(e.conn)
}

// Addr returns the address of a loopback engine.
func (e *Engine) Addr() string { return e.addr }

// Dial connects to an in-memory engine.
func (e *Engine) Dial(ctx context.Context) (net.Conn, error) {
	e.mu.Lock()
	buffer := e.buffer
	e.mu.Unlock()
	if buffer == nil {
		return nil, errors.New("enginetest: connection refused: the engine is stopped")
	}
	return buffer.DialContext(ctx)
}

// Stop kills the engine: connections break, open calls fail, and so do new ones. A second call does nothing.
func (e *Engine) Stop() {
	e.mu.Lock()
	server, served := e.server, e.served
	e.server, e.buffer = nil, nil
	e.mu.Unlock()
	if server != nil {
		server.Stop()
		<-served
	}
}

// SetUnary chooses whether the engine serves no StreamPredict from its next Restart on.
func (e *Engine) SetUnary(unary bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.opts.Unary = unary
}

// Shutdown stops the engine like ml-engine: it answers what it has read, ends its streams, and waits for open calls.
func (e *Engine) Shutdown() {
	e.mu.Lock()
	server, stopping := e.server, e.stopping
	e.mu.Unlock()
	close(stopping)
	server.GracefulStop()
	e.Stop()
}

// Restart starts a stopped engine again.
func (e *Engine) Restart() {
	e.t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.server != nil {
		return
	}
	l, err := e.listen()
	if err != nil {
		e.t.Fatal(err)
	}
	server := grpc.NewServer(grpc.WaitForHandlers(true), grpc.MaxRecvMsgSize(rpc.MaxMessage))
	stopping := make(chan struct{})
	var s mlenginev1.ScoringServiceServer = &service{engine: e, stopping: stopping}
	if e.opts.Unary {
		s = unary{s}
	}
	mlenginev1.RegisterScoringServiceServer(server, s)
	served := make(chan struct{})
	e.stopping = stopping
	e.server, e.served = server, served
	go func() {
		defer close(served)
		if err := server.Serve(l); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			e.t.Errorf("enginetest: %v", err)
		}
	}()
}

func (e *Engine) listen() (net.Listener, error) {
	if !e.opts.Loopback {
		e.buffer = bufconn.Listen(1 << 20)
		return e.buffer, nil
	}
	var lc net.ListenConfig
	l, err := lc.Listen(e.t.Context(), "tcp", e.addr)
	if err != nil {
		return nil, fmt.Errorf("enginetest: %w", err)
	}
	e.addr = l.Addr().String()
	return l, nil
}

// Break makes calls fail from now on, until Heal or another Break.
func (e *Engine) Break(f Fault) { e.fault.Store(&f) }

// Heal ends a fault.
func (e *Engine) Heal() { e.fault.Store(&Fault{}) }

// served caches the models of all engines in the process, by schema and version: making one takes longer than most tests. They
// are never changed.
var served = struct {
	sync.Mutex

	models map[[2]string]*model.Artifact
}{models: map[[2]string]*model.Artifact{}}

// Swap activates another model.
func (e *Engine) Swap(schema, version string) {
	e.t.Helper()
	served.Lock()
	defer served.Unlock()
	key := [2]string{schema, version}
	if served.models[key] == nil {
		served.models[key] = Artifact(e.t, schema, version)
	}
	e.model.Store(served.models[key])
}

// SwapTo activates another model.
func (e *Engine) SwapTo(a *model.Artifact) { e.model.Store(a) }

// Model returns the active model.
func (e *Engine) Model() *model.Artifact { return e.model.Load() }

// Calls returns the scoring calls that have reached the engine, in order of arrival.
func (e *Engine) Calls() []Call {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]Call(nil), e.calls...)
}

// Peak returns the largest number of concurrent scoring calls.
func (e *Engine) Peak() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.peak
}

// Forget empties Calls and Peak.
func (e *Engine) Forget() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.calls, e.peak = nil, e.inFlight
}
