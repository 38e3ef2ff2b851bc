package monitor

import (
	"sync/atomic"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/rpc"
)

// clock decides in which hour a row counts. It tolerates wrong times of single rows, and temporarily wrong times of this machine.
// It is not safe for concurrent use.
type clock struct {
	// event selects event time; ahead is how far an event time may be ahead of this machine's clock; 0 is no limit.
	event bool
	ahead time.Duration

	// last is the latest accepted time of this machine; leapt is the hour of a time not accepted yet, 0 without one.
	last  time.Time
	leapt int64
	// behind is the hour since which the ring's present has been later than any valid event; 0 while it is not.
	behind int64
	// unsure is set while the present rests on a guess or on a single event.
	unsure bool
	// jumped is the event time of the last row in milliseconds, if it was too far after the present to be accepted; else 0.
	jumped int64
	// ignored counts the rows with an invalid event time.
	ignored *atomic.Uint64
}

// maxStep is how many hours time may step ahead without confirmation.
const maxStep = 24

// tick passes this machine's time to the ring. It returns how many rows were dropped because they were counted at a time that
// no event can have.
func (c *clock) tick(ring *drift.Ring, now time.Time) (dropped uint64) {
	if c.event {
		return c.dropAhead(ring, now)
	}
	passed := time.Duration(0) // by the monotonic clock, which never jumps
	if !c.last.IsZero() {
		passed = now.Sub(c.last)
	}
	if c.step(hourOf(now), passed) {
		c.last = now
		ring.Tick(hourOf(now))
	}
	return 0
}

// step reports whether the hour of the wall clock is accepted. passed is the monotonic time since the last accepted one. If
// the wall clock is far ahead of that, it was set wrong or the machine has slept: the new time is accepted when its next hour begins.
func (c *clock) step(hour int64, passed time.Duration) bool {
	leap := hour - hourOf(c.last) - int64(passed/time.Hour)
	switch {
	case c.last.IsZero() || leap <= maxStep || c.leapt != 0 && hour > c.leapt && hour-c.leapt <= maxStep:
		c.leapt = 0
		return true
	case c.leapt == 0 || hour < c.leapt || hour-c.leapt > maxStep:
		c.leapt = hour
	}
	return false
}

// dropAhead drops the rows that are later than any valid event. It waits for the clock's next hour, since the clock itself
// may be wrong.
func (c *clock) dropAhead(ring *drift.Ring, now time.Time) (dropped uint64) {
	latest, hour := hourOf(now.Add(c.ahead)), hourOf(now)
	switch {
	case c.ahead == 0 || ring.Present() <= latest:
		c.behind = 0
	case c.behind == 0 || hour < c.behind:
		c.behind = hour
	case hour > c.behind:
		c.behind = 0
		return ring.DropAfter(latest)
	}
	return 0
}

// hourOf returns the hour in which a row counts: the present hour, or the hour of its event time in milliseconds.
//
// A row without a valid event time counts in the newest hour, since its arrival would end the replay of the other rows. So
// does an event more than a day after the present, unless the previous event was near it: one wrong time must not empty the
// window. If the present rests on a single row, a much earlier event replaces it.
func (c *clock) hourOf(ring *drift.Ring, now time.Time, eventMS int64) int64 {
	present := ring.Present()
	if !c.event {
		return present
	}
	if !rpc.EventMS(eventMS, now, c.ahead) {
		if eventMS != 0 {
			c.ignored.Add(1)
		}
		if present == 0 {
			c.unsure = true
			return hourOf(now)
		}
		return present
	}
	hour := eventMS / time.Hour.Milliseconds()
	switch {
	case present == 0:
		c.unsure = true
		return hour
	case c.unsure && hour < present-2*maxStep:
		ring.Retreat(hour)
		return hour
	case hour-present > maxStep && !near(eventMS, c.jumped):
		c.jumped = eventMS
		return present
	}
	c.jumped, c.unsure = 0, c.unsure && hour < present-maxStep
	return hour
}

// near reports whether two event times differ, by at most a day.
func near(a, b int64) bool {
	step := max(a-b, b-a)
	return b != 0 && step != 0 && step <= maxStep*time.Hour.Milliseconds()
}
