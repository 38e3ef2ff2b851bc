package shadow

import (
	"context"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/shadow/spans"
)

// Result is how one shadow ended.
type Result struct {
	Outcome Outcome
	// Score is the shadow's score, in [0,1]; valid only if Outcome.Compared().
	Score float64
	// Delta is Score minus the baseline's score, in [-1,1].
	Delta float64
	// Version and Digest name the model that answered.
	Version, Digest string
	// Schema is the schema that the state was scored with. For a state that was not scored, OnSettled gets the schema of the
	// model under trial, or nil if it is not known yet.
	Schema *feature.Schema
	// Latency is the time from the arrival of the request to the end of its shadow.
	Latency time.Duration
	// Err is why the shadow has no score, for people; nil if it has one.
	Err error
}

// call is one shadow in progress. The worker with the answer and the caller whose time is up both try to settle it; the first
// one wins.
type call struct {
	Request

	// deadline is the end of ml-engine's time: the full timeout after the arrival. The caller's time may end sooner, by early.
	// An answer between the two is not ml-engine's fault.
	deadline time.Time
	early    time.Duration

	urgent bool // a decision waits for the answer: see queue

	schema  *feature.Schema // the schema of values; nil while the engine's schema is not known
	values  []float64
	allowed func(error) // from the breaker's Allow; must be called once with a verdict

	span trace.Span // of the shadow; nil unless Request.Span is set

	// sent is set once schema and values are final and go to ml-engine; then every goroutine may read them.
	sent    atomic.Bool
	settled atomic.Bool
	pairs   *pair         // A/A tests of the score; nil without one
	result  Result        // written after a claim, before done is closed
	done    chan struct{} // nil for a detached call
	// ctx is the waiting caller's, nil for a detached call: a detached shadow outlives its request.
	ctx context.Context //nolint:containedctx // the call is the caller's request on its way through the queue
}

// claim reports whether the caller may settle the call: true once, for the first caller.
func (c *call) claim() bool { return c.settled.CompareAndSwap(false, true) }

// row is what a call sends to ml-engine. The zero value is no row.
type row struct {
	schema *feature.Schema
	values []float64
}

// sentRow returns the row of the call if it was sent.
func (c *call) sentRow() row {
	if !c.sent.Load() {
		return row{}
	}
	return row{c.schema, c.values}
}

// awaited is 1 for a call whose caller waits for the result, and 0 for a detached one.
func (c *call) awaited() int {
	if c.done == nil {
		return 0
	}
	return 1
}

// endSpan ends the span of a call whose outcome is recorded.
func (c *call) endSpan() {
	r := &c.result
	s := spans.Shadow{Outcome: r.Outcome.String(), Version: r.Version, Failed: r.Outcome.Failed()}
	if r.Outcome.Compared() {
		s.Delta = &r.Delta
	}
	if c.Gated != nil {
		d, _ := c.Gated.Decision()
		s.Gate = &d
	}
	spans.End(c.span, s)
}

// release hands the result to the waiting caller, if there is one.
func (c *call) release() {
	if c.done != nil {
		close(c.done)
	}
}

// verdict returns what the breaker counts for a settled call: the outcome that the call was settled with, since the caller
// may have left first. If the caller's own shorter deadline ran out, it is engine: how the call to ml-engine ended within
// its full time.
func (c *call) verdict(engine Outcome) error {
	if c.done != nil {
		<-c.done
	}
	if c.shortened() && c.result.Outcome == Deadline {
		return verdict(engine)
	}
	return verdict(c.result.Outcome)
}
