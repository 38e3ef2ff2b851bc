package shadow

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/greenlight-ml/greenlight/pkg/decide"
	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/shadow/spans"
	"github.com/greenlight-ml/greenlight/pkg/telemetry"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

// Options configures a [Dispatcher].
type Options struct {
	// Engine is the client of ml-engine, for example from package link. Required by New.
	Engine mlenginev1.ScoringServiceClient
	// MatchTolerance is the largest |shadow - baseline| that counts as a match, in (0,1). Default [gate.MatchTolerance].
	MatchTolerance float64
	// DecisionThreshold is the score at or above which a score stands for a decision to act, in (0,1). Comparisons are then
	// also counted by the decisions of both. Default 0, which is off.
	DecisionThreshold float64
	// Timeout is how long a shadow may take, from the arrival of its request. Default [DefaultTimeout].
	Timeout time.Duration
	// QueueSize is how many shadows may wait; more are shed. Default 1024: 17,000 requests a second fill it in the 60 ms
	// during which every call hangs.
	QueueSize int
	// MaxInFlight is how many calls may be in flight. Default 4.
	MaxInFlight int
	// MaxBatch is how many rows a call may have. Default 64.
	MaxBatch int
	// Busy, if set, reports whether work has waited for a processor for at least that time. Shadows are shed from 100 ms on,
	// so that load costs shadows first; challengers' shadows are shed sooner.
	Busy func(queue time.Duration) bool
	// Window is the rolling window of the report. Default 10 minutes.
	Window time.Duration
	// Breaker configures the circuit breaker. Without a Logger it uses the dispatcher's.
	Breaker BreakerOptions
	// OnSettled, if set, is called exactly once for every request, after it was counted and perhaps after Wait returned.
	// The request's handler or a worker calls it, so it must not block. It must copy what it needs from Request.State.
	OnSettled func(Request, Result)
	// Schemas are the known schemas. The dispatcher adds the schemas of ml-engine's models. Default [feature.NewKnown].
	Schemas *feature.Known
	// Challengers get every sampled request after the model under trial, in order. They are shed first, starting with the
	// last. At most [MaxChallengers].
	Challengers []ChallengerOptions
	// Logger is required.
	Logger *slog.Logger
	// Registerer receives the metrics. Required.
	Registerer prometheus.Registerer
}

// DefaultOptions returns the defaults. The caller sets Engine, Logger and Registerer.
func DefaultOptions() Options {
	return Options{
		MatchTolerance: gate.MatchTolerance, Timeout: DefaultTimeout, QueueSize: 1024, MaxInFlight: 4, MaxBatch: 64,
		Window: 10 * time.Minute, Breaker: DefaultBreakerOptions(),
	}
}

// Validate returns an error for the first option that is missing or out of range.
func (o Options) Validate() error {
	switch {
	case o.Logger == nil || o.Registerer == nil:
		return errors.New("shadow options: logger and registerer are required")
	case !(o.MatchTolerance > 0 && o.MatchTolerance < 1): // NaN too
		return fmt.Errorf("match tolerance %v: want more than 0 and less than 1", o.MatchTolerance)
	case o.DecisionThreshold != 0 && !(o.DecisionThreshold > 0 && o.DecisionThreshold < 1):
		return fmt.Errorf("decision threshold %v: want more than 0 and less than 1, or 0 for none", o.DecisionThreshold)
	case o.Timeout < 2*usefulMinimum:
		return fmt.Errorf("shadow timeout %v: want at least %v", o.Timeout, 2*usefulMinimum)
	case o.QueueSize < 1 || o.MaxInFlight < 1:
		return fmt.Errorf("shadow queue of %d and %d calls in flight: want at least 1 of each", o.QueueSize, o.MaxInFlight)
	case o.MaxBatch < 1 || o.MaxBatch > 10_000:
		return fmt.Errorf("shadow batch of %d rows: want 1 to 10000", o.MaxBatch)
	case o.Window < windowSlots*time.Millisecond:
		return fmt.Errorf("report window %v: want at least %v", o.Window, windowSlots*time.Millisecond)
	}
	return checkChallengers(o.Challengers)
}

// Dispatcher sends shadows to ml-engine. It has a bounded queue and a few workers, each of which sends queued rows as one
// call (group commit; see queue for the timing). A lone request is sent immediately. Under load a call carries many rows, so a
// shadow costs a fraction of a call. Detach never blocks.
type Dispatcher struct {
	opts     Options
	name     string // of a challenger; empty for the model under trial
	breaker  *Breaker
	recorder *Recorder
	model    *modelWatch
	queue    *queue
	// local are the schemas that were known before ml-engine was asked.
	local    []*feature.Schema
	watchers watchers
	// challengers are the challengers of the model under trial.
	challengers []*challenger

	unwatch context.CancelFunc // ends the model watch
	stop    context.CancelFunc // ends the model watch and the calls in flight
	workers sync.WaitGroup
}

// New starts the workers of the model under trial and of its challengers. Call [Dispatcher.Stop] to end them.
func New(opts Options) (*Dispatcher, error) {
	if opts.Schemas == nil {
		opts.Schemas = feature.NewKnown()
	}
	d, err := newDispatcher(opts, "")
	if err != nil {
		return nil, err
	}
	for i := range opts.Challengers {
		c, err := newChallenger(d.opts, i)
		if err != nil {
			return nil, errors.Join(err, d.Stop(context.Background()))
		}
		d.challengers = append(d.challengers, c)
	}
	return d, nil
}

// newDispatcher starts the workers of one model: a challenger unless name is empty.
func newDispatcher(opts Options, name string) (*Dispatcher, error) {
	if opts.Engine == nil {
		return nil, errors.New("shadow options: engine is required")
	}
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	if opts.Breaker.Logger == nil {
		opts.Breaker.Logger = opts.Logger
	}
	breaker, err := NewBreaker(opts.Breaker)
	if err != nil {
		return nil, err
	}
	if opts.Schemas == nil {
		opts.Schemas = feature.NewKnown()
	}
	m := newMetrics(telemetry.Series(opts.Registerer, name), opts.MatchTolerance)
	d := &Dispatcher{
		opts: opts, name: name, breaker: breaker, recorder: newRecorder(m, opts),
		model: newModelWatch(opts.Engine, opts.Schemas, opts.Logger, opts.Timeout/2),
		queue: newQueue(opts.QueueSize, opts.MaxBatch),
	}
	d.local = opts.Schemas.All()
	d.model.recovered = breaker.skipBackoff
	d.model.backingOff = func() bool {
		_, waiting := breaker.backingOff()
		return waiting
	}
	if err := d.register(opts.Registerer); err != nil {
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
	d.record(&r, Result{Outcome: NotSampled}, row{})
}

// Detach starts the request's shadow and returns immediately. The shadow is recorded when it ends.
func (d *Dispatcher) Detach(r Request) {
	d.start(newCall(r, d.opts.Timeout))
}

// Advise is like [Dispatcher.Detach], but the shadow goes before all others, as soon as a slot is free, because a decision
// waits for it. Request.Gated gets the result. Challengers' shadows do not go first.
func (d *Dispatcher) Advise(r Request) {
	c := newCall(r, d.opts.Timeout)
	c.urgent = true
	d.start(c)
}

// Wait starts the request's shadow and waits for it, at most until the timeout or the reply reserve before ctx's deadline.
// If ctx is canceled first, the outcome is [Canceled].
func (d *Dispatcher) Wait(ctx context.Context, r Request) Result {
	c := newAwaitedCall(ctx, r, d.opts.Timeout)
	d.start(c)
	timer := time.NewTimer(time.Until(c.limit()))
	defer timer.Stop()
	select {
	case <-c.done:
	case <-timer.C:
		d.settle(c, Result{Outcome: Deadline, Err: errDeadline})
	case <-ctx.Done():
		d.settle(c, Result{Outcome: OutcomeOf(ctx.Err()), Err: ctx.Err()})
	}
	<-c.done // the result is written
	return c.result
}

var (
	errShed    = errors.New("the shadow queue is full")
	errBusy    = errors.New("executor is busy with decisions, so shadows are shed")
	errStopped = errors.New("executor is stopping")
	errOpen    = errors.New("the circuit breaker is open")
	errUnknown = errors.New("ml-engine has not been reached yet")
	errSchema  = errors.New("the schema of the model under trial cannot be used")
	errProject = errors.New("the state lacks inputs of the model under trial")
)

// busyQueue is how long work must have waited for a processor before shadows are shed.
const busyQueue = 100 * time.Millisecond

func (d *Dispatcher) busy(queue time.Duration) bool { return d.opts.Busy != nil && d.opts.Busy(queue) }

// submit puts the call into the queue, or settles it. A busy dispatcher sheds it.
func (d *Dispatcher) submit(c *call, busy bool) {
	d.recorder.begin(c.Source)
	c.span = spans.Begin(c.Span, d.name)
	if c.Fault != nil {
		d.settle(c, Result{Outcome: Rejected, Err: c.Fault})
		return
	}
	if d.name == "" { // a challenger's worker projects, since the caller has a decision to send
		if _, err := d.schemaFor(c); err != nil && !errors.Is(err, errUnknown) {
			d.settle(c, Result{Outcome: Rejected, Err: err})
			return
		}
	}
	if c.tooLate(time.Now()) {
		d.settle(c, Result{Outcome: Deadline, Err: errDeadline})
		return
	}
	// The workers ask the breaker for each row as they send. During the backoff they are not even woken, so a dead
	// ml-engine costs the requests nothing.
	if _, waiting := d.breaker.backingOff(); waiting {
		d.settle(c, Result{Outcome: BreakerOpen, Err: errOpen})
		return
	}
	if busy {
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
	d.scored(c.pairs, &c.result)
	d.record(&c.Request, r, c.sentRow()) // before the caller has its answer, so that every answered request is counted
	if c.span != nil {
		c.endSpan()
	}
	c.release()
}

// record counts the outcome of a request and reports it. sent is the row that was sent to ml-engine, if any.
func (d *Dispatcher) record(req *Request, r Result, sent row) {
	if req.Gated != nil {
		req.Gated.Advise(r)
	}
	d.recorder.record(r, req)
	d.watchers.publish(req, &r, sent)
	if r.Outcome == Rejected && req.Fault == nil { // no other model would score a faulty state
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

// answered settles the call with ml-engine's score. It returns the outcome on ml-engine's side, even if the caller has
// already left.
func (d *Dispatcher) answered(c *call, score float64, version, digest string) Outcome {
	r := Result{Version: version, Digest: digest, Schema: c.schema}
	switch {
	case !(score >= 0 && score <= 1): // NaN too
		r.Outcome, r.Err = InvalidScore, fmt.Errorf("ml-engine answered %v: want a score in [0,1]", score)
	case c.missed(time.Now()):
		r.Outcome, r.Err = Deadline, errDeadline
	default:
		r.Score, r.Delta, r.Outcome = score, score-c.Baseline, Mismatch
		if math.Abs(r.Delta) <= d.opts.MatchTolerance {
			r.Outcome = Match
		}
	}
	d.settle(c, r)
	return r.Outcome
}

// Schemas returns the schemas that are known: the built-in ones, those of the options, and those of ml-engine's models.
func (d *Dispatcher) Schemas() *feature.Known { return d.opts.Schemas }

// Learned reports whether the schema is known only from ml-engine, which may have described it wrongly.
func (d *Dispatcher) Learned(s *feature.Schema) bool { return !slices.Contains(d.local, s) }

// Ready reports whether ml-engine is reachable, and the version of its model when it was last seen.
func (d *Dispatcher) Ready() (model string, ok bool) {
	m := d.model.current.Load()
	if m == nil {
		return "", false
	}
	return m.version, m.reachable
}

// Active describes ml-engine's model. The zero Active is unknown.
type Active struct {
	Version, Digest string
	// Schema is nil if it cannot be used.
	Schema *feature.Schema
	// Domain has the range of each feature of Schema in the training data. It is nil if ml-engine does not know them all.
	Domain []decide.Range
}

// Active returns ml-engine's model when it was last seen.
func (d *Dispatcher) Active() Active {
	m := d.model.current.Load()
	if m == nil {
		return Active{}
	}
	return Active{m.version, m.digest, m.schema, m.domain}
}

// Model returns the digest of ml-engine's model when it was last seen, and what it predicts. Before that the digest is empty.
func (d *Dispatcher) Model() (digest string, label Label) {
	m := d.model.current.Load()
	if m == nil {
		return "", Label{}
	}
	return m.digest, m.label
}

// Stop refuses new shadows, including challengers', and waits for those in flight. When ctx ends first, it cancels the rest,
// records them as canceled and returns ctx's error.
func (d *Dispatcher) Stop(ctx context.Context) error {
	stops := []func() error{func() error { return d.stopWorkers(ctx) }}
	for _, c := range d.challengers {
		stops = append(stops, func() error { return c.Stop(ctx) })
	}
	return stopAll(stops)
}

func (d *Dispatcher) stopWorkers(ctx context.Context) error {
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
		d.stop() // cancels the calls in flight; the workers settle the remaining calls as canceled and end
		<-idle
		return ctx.Err()
	}
}

// schemaFor returns the schema of the call's values. It projects the state if the schema was not known before.
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
