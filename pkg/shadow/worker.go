package shadow

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/rpc"
	"github.com/greenlight-ml/greenlight/pkg/shadow/spans"
	"github.com/greenlight-ml/greenlight/pkg/telemetry"
	"github.com/greenlight-ml/greenlight/pkg/text"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

// worker owns one call slot and reuses its buffers.
type worker struct {
	d       *Dispatcher
	metrics *metrics
	batch   []*call
	later   []*call // rows for the next message: they have another schema, after a model swap, or did not fit into this one
	request mlenginev1.BatchPredictRequest
	watched watched
	// failed reports whether ml-engine failed the last call.
	failed bool
}

func newWorker(d *Dispatcher, m *metrics) *worker {
	return &worker{d: d, metrics: m, batch: make([]*call, 0, d.opts.MaxBatch)}
}

// run sends queued rows until the queue is closed and empty. Canceling ctx cancels the calls in flight.
func (w *worker) run(ctx context.Context) {
	for {
		if w.batch = w.d.queue.take(w.batch[:0]); len(w.batch) == 0 {
			return
		}
		for len(w.batch) > 0 {
			for len(w.batch) > 0 {
				w.send(ctx)
				w.batch, w.later = append(w.batch[:0], w.later...), w.later[:0]
			}
			w.batch = w.d.queue.next(w.batch)
		}
	}
}

// send makes one call with the batch's rows that still have time and share the first one's schema.
func (w *worker) send(ctx context.Context) {
	w.admit(ctx)
	if len(w.batch) == 0 {
		return
	}
	w.request.Schema = w.batch[0].schema.Name
	w.request.Values = w.request.Values[:0]
	for _, c := range w.batch {
		w.request.Values = append(w.request.Values, c.values...)
		c.sent.Store(true)
	}
	w.watched.add(&w.request, w.batch)
	w.metrics.batchSize.Observe(float64(len(w.batch)))
	deadline := batchDeadline(w.batch)
	callCtx, cancel := context.WithDeadline(ctx, deadline)
	callCtx, span, traceparent := spans.Call(callCtx, len(w.batch), func(i int) trace.Span { return w.batch[i].span })
	w.request.Traceparent = traceparent
	response, err := w.d.opts.Engine.BatchPredict(callCtx, &w.request)
	telemetry.EndSpan(span, err)
	cancel()
	w.failed = err != nil
	if err != nil {
		outcome := OutcomeOf(err)
		if outcome == Deadline && time.Since(deadline) > lateWake {
			w.failed = false
			w.fail(Result{Outcome: Shed, Err: errBusy})
			return
		}
		if outcome == Canceled && ctx.Err() == nil {
			outcome = Unavailable // ml-engine, not executor, canceled the call, so the breaker counts it
		}
		if outcome != Rejected { // recording a rejection requests a probe
			w.d.model.requestProbe()
		}
		w.fail(Result{Outcome: outcome, Err: err})
		return
	}
	if err := validate(response, len(w.batch)); err != nil {
		w.fail(Result{Outcome: InvalidScore, Err: err})
		return
	}
	w.answer(response)
}

// validate returns an error unless the response has one score per row and its errors are in ascending row order.
func validate(r *mlenginev1.BatchPredictResponse, rows int) error {
	if n := len(r.GetScores()); n != rows {
		return fmt.Errorf("ml-engine answered %s for %s", text.Count(n, "score"), text.Count(rows, "row"))
	}
	next := uint32(0)
	for _, e := range r.GetErrors() {
		if e.GetRow() < next || e.GetRow() >= uint32(rows) {
			return fmt.Errorf("ml-engine answered an error for row %d: want ascending rows below %d", e.GetRow(), rows)
		}
		next = e.GetRow() + 1
	}
	return nil
}

// admit drops rows that are settled or out of time, and asks the breaker about each of the others. It sets aside rows with
// another schema, and rows that do not fit into the message.
func (w *worker) admit(ctx context.Context) {
	kept := w.batch[:0]
	now := time.Now()
	for _, c := range w.batch {
		switch {
		case c.settled.Load() || c.tooLate(now):
			w.expire(c)
			continue
		case ctx.Err() != nil:
			w.d.settle(c, Result{Outcome: Canceled, Err: errStopped})
			continue
		case c.ctx != nil && c.ctx.Err() != nil:
			w.d.settle(c, Result{Outcome: OutcomeOf(c.ctx.Err()), Err: c.ctx.Err()})
			continue
		}
		if c.allowed = w.d.breaker.Allow(); c.allowed == nil {
			w.d.settle(c, Result{Outcome: BreakerOpen, Err: errOpen})
			continue
		}
		schema, err := w.d.schemaFor(c)
		switch {
		case errors.Is(err, errUnknown):
			w.end(c, Result{Outcome: Unavailable, Err: err})
		case err != nil:
			w.end(c, Result{Outcome: Rejected, Err: err})
		case len(kept) > 0 && (kept[0].schema != schema || len(kept) == maxRows(schema)):
			c.allowed(errExcluded)
			w.later = append(w.later, c)
		default:
			kept = append(kept, c)
		}
	}
	clear(w.batch[len(kept):])
	w.batch = kept
}

// maxRows is how many rows of the schema fit into a message to ml-engine. A row also has its watched inputs, time and source,
// in at most 64 bytes.
func maxRows(s *feature.Schema) int { return (rpc.MaxMessage - 4<<10) / (8*s.Len() + 64) }

// expire settles a row that was not sent in time, unless its caller already did. If ml-engine failed the previous call, the row
// waited for that call, and the breaker counts it as a failure. If ml-engine answered in time, executor had no time for the row.
// Neither counts if the caller had less time than the timeout.
func (w *worker) expire(c *call) {
	if !w.failed && !c.shortened() {
		w.d.settle(c, Result{Outcome: Shed, Err: errBusy})
		return
	}
	w.d.settle(c, Result{Outcome: Deadline, Err: errDeadline})
	if c.shortened() {
		return
	}
	if c.allowed = w.d.breaker.Allow(); c.allowed != nil {
		c.allowed(c.verdict(Deadline))
	}
}

// end settles a row and reports it to the breaker.
func (w *worker) end(c *call, r Result) {
	w.d.settle(c, r)
	c.allowed(c.verdict(r.Outcome))
}

func (w *worker) fail(r Result) {
	for _, c := range w.batch {
		w.end(c, r)
	}
}

// answer settles every row of the batch with its score or its error.
func (w *worker) answer(response *mlenginev1.BatchPredictResponse) {
	version, digest := response.GetModelVersion(), response.GetModelDigest()
	errs := response.GetErrors()
	for i, c := range w.batch {
		if len(errs) > 0 && errs[0].GetRow() == uint32(i) {
			r := Result{Outcome: Rejected, Version: version, Digest: digest, Err: fmt.Errorf("ml-engine refused the state: %s", errs[0].GetMessage())}
			if errs[0].GetReason() == mlenginev1.ErrorReason_ERROR_REASON_SCORE_INVALID {
				r.Outcome = InvalidScore
			}
			errs = errs[1:]
			w.end(c, r)
			continue
		}
		engine := w.d.answered(c, response.GetScores()[i], version, digest)
		c.allowed(c.verdict(engine))
	}
}
