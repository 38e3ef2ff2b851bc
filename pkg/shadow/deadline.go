package shadow

import (
	"context"
	"errors"
	"time"
)

// The time budget of a shadow. The 60 ms run from the arrival of the request and include the queue, the call to ml-engine
// and the way back. A caller with less time shortens the budget for its own answer, but not for the verdict on ml-engine.
const (
	// DefaultTimeout is how long a shadow may take from the arrival of its request.
	DefaultTimeout = 60 * time.Millisecond
	// ReplyReserve is the part of the caller's deadline that is kept for sending the reply.
	ReplyReserve = 5 * time.Millisecond
	// usefulMinimum is the minimum time left for a call: less than a loopback round trip on an idle machine, so a call with
	// less time cannot succeed.
	usefulMinimum = time.Millisecond
	// lateWake is how late a worker must notice the end of its call for the miss to be executor's: the worker did not run, and an
	// answer may have waited for it. Goroutines of a process that is not overloaded wake within a millisecond.
	lateWake = 5 * time.Millisecond
)

var errDeadline = errors.New("the shadow's deadline passed before ml-engine answered")

// newCall returns a detached call, which has the full timeout from the arrival of its request.
func newCall(r Request, timeout time.Duration) *call {
	return &call{Request: r, deadline: r.Arrival.Add(timeout)}
}

// newAwaitedCall returns a call whose caller waits, at most until its own deadline minus the reply reserve.
func newAwaitedCall(ctx context.Context, r Request, timeout time.Duration) *call {
	c := newCall(r, timeout)
	c.ctx, c.done = ctx, make(chan struct{})
	if t, ok := ctx.Deadline(); ok {
		c.early = max(0, c.deadline.Sub(t.Add(-ReplyReserve)))
	}
	return c
}

// limit is the end of the caller's time.
func (c *call) limit() time.Time { return c.deadline.Add(-c.early) }

// tooLate reports whether the time left for the call is below the useful minimum.
func (c *call) tooLate(now time.Time) bool { return c.limit().Sub(now) < usefulMinimum }

// shortened reports whether the caller has less time than the full timeout.
func (c *call) shortened() bool { return c.early > 0 }

// missed reports whether ml-engine's full time has passed.
func (c *call) missed(now time.Time) bool { return now.After(c.deadline) }

// batchDeadline is the latest deadline of the rows. The call may take that long, but each row keeps its own deadline.
func batchDeadline(batch []*call) time.Time {
	latest := batch[0].deadline
	for _, c := range batch[1:] {
		if c.deadline.After(latest) {
			latest = c.deadline
		}
	}
	return latest
}
