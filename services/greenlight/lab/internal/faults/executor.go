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

// callTimeout is after how long a decision counts as lost.
const callTimeout = 2 * time.Second

// Executor is an executor as its client sees it.
type Executor struct {
	fleet.Executor

	Name    string
	Process *process.Process

	conn     *grpc.ClientConn
	states   []traffic.State
	requests []*executorv1.PredictRequest
	want     []float64 // the scores that they must get
	digest   string    // of the baseline

	calls calls
}

// calls counts the decisions that were asked for.
type calls struct {
	sent, lost, changed atomic.Int64
	// sum is of a hash of every answer with the number of its request, so that it does not depend on their order.
	sum atomic.Uint64
	why atomic.Pointer[string] // the first that was lost or changed
}

func newExecutor(name string, p *process.Process, o StageOptions) (*Executor, error) {
	conn, err := rpc.Dial(p.Addr("grpc"), nil)
	if err != nil {
		return nil, err
	}
	e := &Executor{
		Executor: fleet.NewExecutor(p.Addr("grpc"), conn), Name: name, Process: p, conn: conn, states: o.States, digest: o.Artifact.Baseline.Digest(),
	}
	for _, s := range o.States {
		e.requests, e.want = append(e.requests, s.VectorRequest(o.Artifact.Schema.Name)), append(e.want, s.Baseline)
	}
	return e, nil
}

// decide asks for the i-th decision and judges the answer. What is wrong with it is counted and is no error: a loop goes
// on.
func (e *Executor) decide(ctx context.Context, i int) error {
	k := i % len(e.states)
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	e.calls.sent.Add(1)
	resp, err := e.Decisions.Predict(ctx, e.requests[k])
	if err != nil {
		e.calls.lost.Add(1)
		e.calls.note("decision %d of %s was lost: %v", i, e.Name, err)
		return nil // a lost decision is a result
	}
	got, want := resp.GetScore(), e.want[k]
	if math.Float64bits(got) != math.Float64bits(want) || resp.GetRequestId() != e.states[k].ID || resp.GetModelDigest() != e.digest {
		e.calls.changed.Add(1)
		e.calls.note("decision %d of %s is %v of %s: want %v of %s", i, e.Name, got, resp.GetModelDigest(), want, e.digest)
	}
	e.calls.sum.Add(mix(uint64(i) ^ math.Float64bits(got)))
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

// AwaitShadow waits until shadows are compared and the breaker is closed, which a machine that is busy may have opened.
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

// Sent is how many requests this package has sent to it.
func (e *Executor) Sent() int64 { return e.calls.sent.Load() }
