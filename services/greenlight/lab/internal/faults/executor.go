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
	"github.com/greenlight-ml/greenlight/pkg/shadow"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/process"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
)

// callTimeout is after how long a decision counts as lost.
const callTimeout = 2 * time.Second

// Executor is an executor as its client sees it.
type Executor struct {
	Name    string
	Process *process.Process

	conn      *grpc.ClientConn
	decisions executorv1.DecisionServiceClient
	shadows   executorv1.ShadowServiceClient
	states    []traffic.State
	requests  []*executorv1.PredictRequest
	digest    string // of the baseline

	tally tally
}

// tally counts the answers.
type tally struct {
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
		Name: name, Process: p, conn: conn, states: o.States, digest: o.Artifact.Baseline.Digest(),
		decisions: executorv1.NewDecisionServiceClient(conn), shadows: executorv1.NewShadowServiceClient(conn),
	}
	for _, s := range o.States {
		e.requests = append(e.requests, &executorv1.PredictRequest{
			RequestId: s.ID, Symbol: s.Symbol, EventTime: s.Time,
			Vector: &executorv1.FeatureVector{Schema: o.Artifact.Schema.Name, Values: s.Vector},
		})
	}
	return e, nil
}

// decide asks for the i-th decision and judges the answer. What is wrong with it is counted and is no error: a loop goes
// on.
func (e *Executor) decide(ctx context.Context, i int) error {
	k := i % len(e.states)
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	e.tally.sent.Add(1)
	resp, err := e.decisions.Predict(ctx, e.requests[k])
	if err != nil {
		e.tally.lost.Add(1)
		e.tally.note("decision %d of %s was lost: %v", i, e.Name, err)
		return nil // a lost decision is a result
	}
	got, want := resp.GetScore(), e.states[k].Baseline
	if math.Float64bits(got) != math.Float64bits(want) || resp.GetRequestId() != e.states[k].ID || resp.GetModelDigest() != e.digest {
		e.tally.changed.Add(1)
		e.tally.note("decision %d of %s is %v of %s: want %v of %s", i, e.Name, got, resp.GetModelDigest(), want, e.digest)
	}
	e.tally.sum.Add(mix(uint64(i) ^ math.Float64bits(got)))
	return nil
}

func (t *tally) note(format string, args ...any) {
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

// Counts are what an executor has counted since it started.
type Counts struct {
	Requests, InFlight uint64
	Outcomes           [shadow.NotSampled + 1]uint64
	Breaker            executorv1.BreakerState
}

// Sum is of all outcomes.
func (c Counts) Sum() (n uint64) {
	for _, k := range c.Outcomes {
		n += k
	}
	return n
}

// since is what came after the reading before.
func (c Counts) since(before Counts) Counts {
	c.Requests -= before.Requests
	for o := range c.Outcomes {
		c.Outcomes[o] -= before.Outcomes[o]
	}
	return c
}

// compared is how many shadows were compared, and how many of them matched.
func (c Counts) compared() (n, matches uint64) {
	return c.Outcomes[shadow.Match] + c.Outcomes[shadow.Mismatch], c.Outcomes[shadow.Match]
}

// Counts reads the executor's report.
func (e *Executor) Counts(ctx context.Context) (Counts, error) {
	r, err := e.shadows.GetShadowReport(ctx, &executorv1.GetShadowReportRequest{})
	if err != nil {
		return Counts{}, fmt.Errorf("%s: read the report: %w", e.Name, err)
	}
	c := Counts{Requests: r.GetRequestsTotal(), InFlight: r.GetInFlight(), Breaker: r.GetBreaker().GetState()}
	for _, o := range r.GetOutcomesTotal() {
		c.Outcomes[o.GetOutcome()] = o.GetCount()
	}
	return c, nil
}

// Settle waits until no shadow is under way. It does not say that the counts add up.
func (e *Executor) Settle(ctx context.Context) (Counts, error) {
	for range 250 {
		c, err := e.Counts(ctx)
		if err != nil || c.InFlight == 0 {
			return c, err
		}
		if !traffic.Pause(ctx, 20*time.Millisecond) {
			return c, ctx.Err()
		}
	}
	return Counts{}, fmt.Errorf("%s: shadows are still under way 5 s after the last request", e.Name)
}

// AwaitShadow waits until shadows are compared and the breaker is closed, which a machine that is busy may have opened.
func (e *Executor) AwaitShadow(ctx context.Context) error {
	for range 2000 {
		sent, err := process.AwaitShadow(ctx, e.decisions, e.states[0])
		e.tally.sent.Add(int64(sent))
		if err != nil {
			return fmt.Errorf("%s: %w", e.Name, err)
		}
		if c, err := e.Counts(ctx); err != nil || c.Breaker == executorv1.BreakerState_BREAKER_STATE_CLOSED {
			return err
		}
		if !traffic.Pause(ctx, 20*time.Millisecond) {
			return ctx.Err()
		}
	}
	return errors.New(e.Name + ": the breaker did not close within 40 s")
}

// Decisions are its decisions.
func (e *Executor) Decisions() executorv1.DecisionServiceClient { return e.decisions }

// Rollouts is its rollout.
func (e *Executor) Rollouts() executorv1.RolloutServiceClient {
	return executorv1.NewRolloutServiceClient(e.conn)
}

// Sent is how many requests this package has sent to it.
func (e *Executor) Sent() int64 { return e.tally.sent.Load() }
