package shadow

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

const (
	// MatchTolerance is the largest |shadow - baseline| that still is a match.
	MatchTolerance = 0.05

	// usefulMinimum is the least time that is worth a call: less than a loopback round trip at a calm moment, so that
	// a call that cannot succeed is not made.
	usefulMinimum = time.Millisecond

	// ReplyReserve is kept of the caller's deadline for the way back.
	ReplyReserve = 5 * time.Millisecond
)

// Options configures a [Dispatcher].
type Options struct {
	// Engine is the client of ml-engine. Required.
	Engine mlenginev1.ScoringServiceClient
	// Timeout is how long a shadow may take, from the arrival of its request. Default 60 ms.
	Timeout time.Duration
	// QueueSize is how many shadows may wait; more are shed. Default 1024: at 60 ms each, what 17,000 requests a second
	// can leave behind while every call hangs.
	QueueSize int
	// MaxInFlight is how many calls may be under way at once. Default 4.
	MaxInFlight int
	// MaxBatch is how many rows a call may have. Default 64.
	MaxBatch int
	// Busy, if set, says that decisions wait: shadows are shed then, so that they are the first to go.
	Busy func() bool
	// Window is the rolling window of the report. Default 10 minutes.
	Window time.Duration
	// Breaker configures the circuit breaker; its Logger is the dispatcher's unless it is set.
	Breaker BreakerOptions
	// OnSettled, if set, is told of every request and its result, exactly once, after it was counted, perhaps after Wait has
	// returned it. Whoever settled it calls: the handler of the request, or a worker that others wait for and that Stop
	// waits for. So it must not block, and it must not keep the numbers of Request.State: it copies what it needs.
	OnSettled func(Request, Result)
	// Logger is required.
	Logger *slog.Logger
	// Registerer gets the metrics. Required.
	Registerer prometheus.Registerer
}

// DefaultOptions are the design's numbers; Engine, Logger and Registerer are left to the caller.
func DefaultOptions() Options {
	return Options{
		Timeout: 60 * time.Millisecond, QueueSize: 1024, MaxInFlight: 4, MaxBatch: 64,
		Window: 10 * time.Minute, Breaker: DefaultBreakerOptions(),
	}
}

func (o Options) validate() error {
	switch {
	case o.Engine == nil || o.Logger == nil || o.Registerer == nil:
		return errors.New("shadow options: engine, logger and registerer are required")
	case o.Timeout < 2*usefulMinimum:
		return fmt.Errorf("shadow timeout %v: want at least %v", o.Timeout, 2*usefulMinimum)
	case o.QueueSize < 1 || o.MaxInFlight < 1:
		return fmt.Errorf("shadow queue of %d and %d calls in flight: want at least 1 of each", o.QueueSize, o.MaxInFlight)
	case o.MaxBatch < 1 || o.MaxBatch > 10_000:
		return fmt.Errorf("shadow batch of %d rows: want 1 to 10000", o.MaxBatch)
	case o.Window < windowSlots*time.Millisecond:
		return fmt.Errorf("report window %v: want at least %v", o.Window, windowSlots*time.Millisecond)
	}
	return nil
}

// Dispatcher sends shadows to ml-engine: a bounded queue, and a few workers that each send whatever is queued as one
// call (group commit; see queue for when). A lone request goes at once; under load a call carries many rows and the cost of
// a shadow is a fraction of a call. Nothing here ever blocks the caller of Detach.
type Dispatcher struct {
	opts     Options
	breaker  *Breaker
	recorder *Recorder
	model    *modelWatch
	queue    *queue

	unwatch context.CancelFunc // ends the watch of the model
	stop    context.CancelFunc // ends it too, and the calls in flight
	workers sync.WaitGroup
}

// New starts the workers. Call [Dispatcher.Stop] to end them.
func New(opts Options) (*Dispatcher, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	if opts.Breaker.Logger == nil {
		opts.Breaker.Logger = opts.Logger
	}
	breaker, err := NewBreaker(opts.Breaker)
	if err != nil {
		return nil, err
	}
	m := newMetrics(opts.Registerer)
	d := &Dispatcher{
		opts: opts, breaker: breaker, recorder: newRecorder(opts.Window, m),
		model: newModelWatch(opts.Engine, opts.Logger, opts.Timeout/2),
		queue: newQueue(opts.QueueSize, opts.MaxBatch),
	}
	d.model.back = breaker.skipBackoff
	d.model.waiting = func() bool {
		_, held := breaker.held()
		return held
	}
	if err := opts.Registerer.Register(collector{d}); err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	watchCtx, unwatch := context.WithCancel(ctx)
	d.stop, d.unwatch = stop, unwatch
	d.workers.Go(func() { d.model.run(watchCtx) })
	for range opts.MaxInFlight {
		d.workers.Go(func() { newWorker(d, m).run(ctx) })
	}
	return d, nil
}

// Skip counts a request that is not sampled.
func (d *Dispatcher) Skip(r Request) {
	d.recorder.begin(r.Source)
	d.record(&r, Result{Outcome: NotSampled})
}

// Request is one decision, which may want a shadow.
type Request struct {
	// ID and Symbol name it to OnSettled; nothing else looks at them.
	ID, Symbol string
	// Source is where it comes from.
	Source Source
	// EventTime is when the state was, zero when that is not known. It goes to OnSettled, and to ml-engine, whose drift may
	// be counted by it; the score does not depend on it.
	EventTime time.Time
	// Arrival is when the request came in; its shadow's time runs from here.
	Arrival time.Time
	// Baseline is the baseline's score, in [0,1], and BaselineLatency what it took.
	Baseline        float64
	BaselineLatency time.Duration
	// State is what to score.
	State State
}

// Detach starts the request's shadow and returns at once. The shadow is recorded when it ends.
func (d *Dispatcher) Detach(r Request) {
	deadline := r.Arrival.Add(d.opts.Timeout)
	d.submit(&call{Request: r, deadline: deadline, limit: deadline})
}

// Wait starts the request's shadow and waits for it: at most the timeout, and at most what is left of ctx's deadline
// less the reply reserve. When ctx ends first, the outcome is [Canceled].
func (d *Dispatcher) Wait(ctx context.Context, r Request) Result {
	deadline := r.Arrival.Add(d.opts.Timeout)
	c := &call{Request: r, deadline: deadline, limit: deadline, ctx: ctx, done: make(chan struct{})}
	if t, ok := ctx.Deadline(); ok && t.Add(-ReplyReserve).Before(deadline) {
		c.limit = t.Add(-ReplyReserve)
	}
	d.submit(c)
	timer := time.NewTimer(time.Until(c.limit))
	defer timer.Stop()
	select {
	case <-c.done:
	case <-timer.C:
		d.settle(c, Result{Outcome: Deadline, Err: errDeadline})
	case <-ctx.Done():
		d.settle(c, Result{Outcome: OutcomeOf(ctx.Err()), Err: ctx.Err()})
	}
	<-c.done // whoever settled it has written the result
	return c.result
}

var (
	errDeadline = errors.New("the shadow's time was up before ml-engine answered")
	errShed     = errors.New("the queue of shadows is full")
	errBusy     = errors.New("decisions wait: there is no time for shadows")
	errStopped  = errors.New("the executor stops")
	errOpen     = errors.New("the circuit breaker is open")
	errUnknown  = errors.New("ml-engine has not been reached yet")
	errSchema   = errors.New("the model under trial needs a feature schema that this executor does not have")
	errProject  = errors.New("the state lacks inputs of the model under trial")
)

// submit puts the call into the queue, or settles it.
func (d *Dispatcher) submit(c *call) {
	d.recorder.begin(c.Source)
	if _, err := d.schemaFor(c); err != nil && !errors.Is(err, errUnknown) {
		d.settle(c, Result{Outcome: Rejected, Err: err})
		return
	}
	if time.Until(c.limit) < usefulMinimum {
		d.settle(c, Result{Outcome: Deadline, Err: errDeadline})
		return
	}
	// The workers ask the breaker, row by row, as they send. While it refuses everything they are not even woken: a dead
	// ml-engine then costs the requests nothing.
	if _, held := d.breaker.held(); held {
		d.settle(c, Result{Outcome: BreakerOpen, Err: errOpen})
		return
	}
	if d.opts.Busy != nil && d.opts.Busy() {
		d.settle(c, Result{Outcome: Shed, Err: errBusy})
		return
	}
	switch err := d.queue.put(c); {
	case errors.Is(err, errShed):
		d.settle(c, Result{Outcome: Shed, Err: err})
	case err != nil:
		d.settle(c, Result{Outcome: Canceled, Err: err})
	}
}

// settle ends the call and records its outcome, unless it has ended already.
func (d *Dispatcher) settle(c *call, r Result) {
	r.Latency = time.Since(c.Arrival)
	if !c.claim() {
		return
	}
	c.result = r
	d.record(&c.Request, r) // before the caller has its answer, so that who is answered is counted
	c.release()
}

// record counts the outcome of a request and hands it on.
func (d *Dispatcher) record(req *Request, r Result) {
	d.recorder.record(r, req.BaselineLatency)
	if r.Outcome == Rejected {
		d.model.rejected()
	}
	if d.opts.OnSettled == nil {
		return
	}
	if r.Schema == nil {
		r.Schema, _ = d.model.schema() // nil when it is not known
	}
	d.opts.OnSettled(*req, r)
}

// answered settles the call with ml-engine's score, and returns what ml-engine made of it, whether or not the caller was
// still there.
func (d *Dispatcher) answered(c *call, score float64, version, digest string) Outcome {
	r := Result{Version: version, Digest: digest, Schema: c.schema}
	switch {
	case !(score >= 0 && score <= 1): // NaN too
		r.Outcome, r.Err = InvalidScore, fmt.Errorf("ml-engine answered %v: want a score in [0,1]", score)
	case time.Now().After(c.deadline):
		r.Outcome, r.Err = Deadline, errDeadline
	default:
		r.Score, r.Delta, r.Outcome = score, score-c.Baseline, Mismatch
		if math.Abs(r.Delta) <= MatchTolerance {
			r.Outcome = Match
		}
	}
	d.settle(c, r)
	return r.Outcome
}

// Ready says whether ml-engine has been reached, and what was found there last.
func (d *Dispatcher) Ready() (model string, ok bool) {
	m := d.model.current.Load()
	if m == nil {
		return "", false
	}
	return m.version, m.reachable
}

// Stop refuses new shadows, waits for those under way, and records what cannot be sent any more as canceled. It returns
// ctx's error when they take longer than that; those under way are then cut off.
func (d *Dispatcher) Stop(ctx context.Context) error {
	d.queue.close()

	idle := make(chan struct{})
	go func() {
		d.workers.Wait()
		close(idle)
	}()
	d.unwatch()
	select {
	case <-idle:
		d.stop()
		return nil
	case <-ctx.Done():
		d.stop() // cancels the calls in flight; the workers settle what is left as canceled and end
		<-idle
		return ctx.Err()
	}
}

// schemaFor is the schema that the call's values have, projecting them now if it was not known before.
func (d *Dispatcher) schemaFor(c *call) (*feature.Schema, error) {
	if c.schema != nil {
		return c.schema, nil
	}
	schema, err := d.model.schema()
	if err != nil {
		return nil, err
	}
	values, ok := c.State.Project(schema)
	if !ok {
		return nil, errProject
	}
	c.schema, c.values = schema, values
	return schema, nil
}
