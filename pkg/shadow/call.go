package shadow

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/feature"
)

// Result is how one shadow ended.
type Result struct {
	Outcome Outcome
	// Score is the shadow's, in [0,1]; meaningful only when Outcome.Compared().
	Score float64
	// Delta is Score less the baseline's, in [-1,1].
	Delta float64
	// Version and Digest name the model that answered.
	Version, Digest string
	// Schema is what the state was scored as. For OnSettled alone it is, of a state that was not scored, what the model
	// under trial takes; nil while that is not known.
	Schema *feature.Schema
	// Latency is from the arrival of the request to the end of its shadow.
	Latency time.Duration
	// Err says why the shadow has no score, for people; nil when it has one.
	Err error
}

// call is one shadow on its way. Whoever settles it first, the worker that got its answer or the caller whose time is
// up, decides its outcome; the other finds it settled and leaves it.
type call struct {
	Request

	// deadline is when ml-engine's time is up: the shadow's full time after the arrival. limit is when the caller's is,
	// which may be sooner; ml-engine is not to blame for what lies between the two.
	deadline, limit time.Time

	schema  *feature.Schema // what values were projected to; nil while the engine's schema is not known
	values  []float64
	allowed func(error) // the breaker's answer to Allow, owed one outcome

	settled atomic.Bool
	result  Result        // written by whoever claims the call, before done is closed
	done    chan struct{} // nil for a detached call
	// ctx is the waiting caller's, nil for a detached call: a detached shadow outlives its request.
	ctx context.Context //nolint:containedctx // the call is the caller's request on its way through the queue
}

// claim makes the caller the one who settles the call. It reports false when somebody was first.
func (c *call) claim() bool { return c.settled.CompareAndSwap(false, true) }

// awaited is 1 for a call whose caller waits for the result, and 0 for a detached one.
func (c *call) awaited() int {
	if c.done == nil {
		return 0
	}
	return 1
}

// release lets who waits for the call have its result.
func (c *call) release() {
	if c.done != nil {
		close(c.done)
	}
}

// verdict is what the breaker is told of the call, which has been settled. The outcome that counts is the one it was
// settled with, since a caller who left may have been first; but where it was the caller's own deadline that ran out,
// what counts is engine, how the call to ml-engine ended, within its full time or not.
func (c *call) verdict(engine Outcome) error {
	if c.done != nil {
		<-c.done
	}
	if c.cut() && c.result.Outcome == Deadline {
		return verdict(engine)
	}
	return verdict(c.result.Outcome)
}

// cut says whether the caller has less time than the shadow.
func (c *call) cut() bool { return c.limit.Before(c.deadline) }
