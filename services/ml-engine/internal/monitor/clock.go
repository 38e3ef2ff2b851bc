package monitor

import (
	"sync/atomic"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/rpc"
)

// clock says in what hour a row counts, and bears with wrong times: those of one row, and those of this machine for a
// while. It is not safe for concurrent use.
type clock struct {
	// event counts rows by the times of their events, ahead is by how much these may be ahead of this machine's clock; 0 is
	// no limit.
	event bool
	ahead time.Duration

	// last is the newest time of this machine that was believed, leapt the hour of one that was not, 0 without one.
	last  time.Time
	leapt int64
	// behind is the hour since when the present of the ring is ahead of what events can have; 0 while it is not.
	behind int64
	// unsure says that the present rests on a guess, or on one event alone.
	unsure bool
	// jumped is the event of the last row, in milliseconds, if it was too far after the present to be believed; else 0.
	jumped int64
	// ignored counts the rows whose event has a time that cannot be.
	ignored *atomic.Uint64
}

// maxStep is by how many hours time may step ahead before it has to be confirmed.
const maxStep = 24

// tick gives the time of this machine to the ring, and returns how many rows were dropped, because events cannot have the
// time that they were counted at.
func (c *clock) tick(ring *drift.Ring, now time.Time) (dropped uint64) {
	if c.event {
		return c.heal(ring, now)
	}
	passed := time.Duration(0) // by the monotonic clock, which does not leap
	if !c.last.IsZero() {
		passed = now.Sub(c.last)
	}
	if c.step(hourOf(now), passed) {
		c.last = now
		ring.Tick(hourOf(now))
	}
	return 0
}

// step reports whether the hour of the wall clock is believed. After one that was believed, and so much time, the wall clock
// may have been set far ahead, or the machine may have slept: that is believed when it has moved on to its next hour.
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

// heal drops the rows that are ahead of what events can have, once the clock has moved on to its next hour: until then it
// may be the clock that is wrong.
func (c *clock) heal(ring *drift.Ring, now time.Time) (dropped uint64) {
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

// hourOf is where a row counts: in the present hour, or in that of its event, in milliseconds. A row whose event has no time
// goes with the newest there is, since with the time of its arrival it would end the replay that the others are of. So does
// one that is more than a day after the present, unless the event before was near it: one wild time must not empty the
// window. Where the present rests on one row alone, an event of long before takes its place.
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

// near reports whether two events are at different times of about a day.
func near(a, b int64) bool {
	step := max(a-b, b-a)
	return b != 0 && step != 0 && step <= maxStep*time.Hour.Milliseconds()
}
