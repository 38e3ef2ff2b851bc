package faults

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/greenlight-ml/greenlight/pkg/rpc"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/process"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
)

// An answer after lateAfter is late. A decision is lost if it has no answer within CallTimeout, or ends with an error. Other
// work on the machine can delay an answer by seconds, which is not executor's fault.
const (
	lateAfter   = 2 * time.Second
	CallTimeout = 20 * time.Second
)

// underWay is the number of streams, and of calls in flight in the closed loops that measure a client's throughput.
const underWay = 16

// Executor is an executor as seen by its client.
type Executor struct {
	fleet.Executor

	Name    string
	Process *process.Process
	Streams *traffic.Streams // end with conn

	conn     *grpc.ClientConn
	states   []traffic.State
	requests []*executorv1.PredictRequest
	want     []float64 // the expected scores
	digest   string    // of the baseline
	guard    *guard    // nil without a gate
	// End stops it. A second call does nothing.
	End func() error

	calls calls
}

// Asked counts the requested decisions. Lost were not answered, Changed differ from the baseline in at least one bit, Late
// took more than 2 s.
type Asked struct {
	Requests int64 `json:"requests"`
	Lost     int64 `json:"lost"`
	Changed  int64 `json:"changed"`
	Late     int64 `json:"late"`
}

func (a Asked) plus(b Asked) Asked {
	return Asked{a.Requests + b.Requests, a.Lost + b.Lost, a.Changed + b.Changed, a.Late + b.Late}
}

func (a Asked) minus(b Asked) Asked {
	return Asked{a.Requests - b.Requests, a.Lost - b.Lost, a.Changed - b.Changed, a.Late - b.Late}
}

// counts is Asked during a run.
type counts struct{ sent, lost, changed, late atomic.Int64 }

func (c *counts) read() Asked {
	return Asked{c.sent.Load(), c.lost.Load(), c.changed.Load(), c.late.Load()}
}

// calls counts all decisions, and those over a stream.
type calls struct {
	counts

	streamed counts
	// sum adds a hash of the baseline's score of every answer and its request number, so it does not depend on the order of the answers.
	sum atomic.Uint64
	why atomic.Pointer[string] // describes the first lost or changed decision
}

func newExecutor(name string, p *process.Process, o StageOptions) (*Executor, error) {
	conn, err := rpc.Dial(p.Addr("grpc"), nil)
	if err != nil {
		return nil, err
	}
	e := &Executor{
		Executor: fleet.NewExecutor(p.Addr("grpc"), conn), Name: name, Process: p, conn: conn, states: o.States, digest: o.Artifact.Baseline.Digest(),
	}
	e.Streams = traffic.NewStreams(e.Decisions, underWay)
	for _, s := range o.States {
		if o.Gated {
			s.Time = nil // the features are current, as a trader's would be
		}
		e.requests, e.want = append(e.requests, s.VectorRequest(o.Artifact.Schema.Name)), append(e.want, s.Baseline)
	}
	return e, nil
}

// Decide requests a decision from an executor, by a call or over a stream.
type Decide = func(context.Context, *executorv1.PredictRequest) (*executorv1.PredictResponse, error)

// Predict requests a decision by a call.
func (e *Executor) Predict(ctx context.Context, req *executorv1.PredictRequest) (*executorv1.PredictResponse, error) {
	return e.Decisions.Predict(ctx, req)
}

// decide requests the i-th decision by a call.
func (e *Executor) decide(ctx context.Context, i int) error {
	return e.ask(ctx, i, &e.calls.counts, e.Predict)
}

// decideBothWays requests the i-th decision: about half of them by a call, the others over a stream.
func (e *Executor) decideBothWays(ctx context.Context, i int) error {
	if mix(uint64(i))%2 == 0 {
		return e.decide(ctx, i)
	}
	return e.ask(ctx, i, &e.calls.streamed, e.Streams.Decide)
}

// asked counts all requested decisions, and those over streams.
func (e *Executor) asked() (all, streamed Asked) {
	streamed = e.calls.streamed.read()
	return e.calls.read().plus(streamed), streamed
}

// ask requests the i-th decision and checks the answer. It counts a wrong answer and returns no error for it, so that loops
// continue.
func (e *Executor) ask(ctx context.Context, i int, n *counts, decide Decide) error {
	k := i % len(e.states)
	ctx, cancel := context.WithTimeout(ctx, CallTimeout)
	defer cancel()
	n.sent.Add(1)
	start := time.Now()
	resp, err := decide(ctx, e.requests[k])
	if err != nil {
		n.lost.Add(1)
		e.calls.note("decision %d of %s was lost: %v", i, e.Name, err)
		return nil // a lost decision is a result
	}
	if time.Since(start) > lateAfter {
		n.late.Add(1)
	}
	got, want, digest, ok := resp.GetScore(), e.want[k], e.digest, resp.GetGate() == nil
	baseline := got
	if e.guard != nil {
		want, digest, ok = e.guard.check(k, want, resp, digest)
		baseline = resp.GetGate().GetBaselineScore()
	}
	if !ok || math.Float64bits(got) != math.Float64bits(want) || resp.GetRequestId() != e.states[k].ID || resp.GetModelDigest() != digest {
		n.changed.Add(1)
		e.calls.note("decision %d of %s is %v of %s (%v): want %v of %s", i, e.Name, got, resp.GetModelDigest(), resp.GetGate(), want, digest)
	}
	e.calls.sum.Add(mix(uint64(i) ^ math.Float64bits(baseline)))
	return nil
}

func (t *calls) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	t.why.CompareAndSwap(nil, &text)
}

// mix is the finalizer of SplitMix64.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// AwaitShadow waits until shadows are compared and the breaker is closed. A busy machine may have opened it.
func (e *Executor) AwaitShadow(ctx context.Context) error {
	for range 2000 {
		sent, err := process.AwaitShadow(ctx, e.Decisions, e.states[0])
		e.calls.sent.Add(int64(sent))
		if err != nil {
			return fmt.Errorf("%s: %w", e.Name, err)
		}
		if c, err := e.Counters(ctx); err != nil || c.Breaker == executorv1.BreakerState_BREAKER_STATE_CLOSED {
			return err
		}
		if !traffic.Pause(ctx, 20*time.Millisecond) {
			return ctx.Err()
		}
	}
	return errors.New(e.Name + ": the breaker did not close within 40 s")
}

// Sent returns the number of requests that this package has sent to the executor.
func (e *Executor) Sent() int64 { return e.calls.sent.Load() }
