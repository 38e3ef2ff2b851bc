package shadow

import (
	"sync"
	"time"
)

// pace is the minimum time between the starts of two calls that are not full. A row that has waited this long still has
// most of its 60 ms. 100 calls a second cost next to nothing, also over streams: see docs/adr/0005-batches-go-over-streams.md.
const pace = 10 * time.Millisecond

// queue holds waiting shadows and decides when a batch of them is sent as one call.
//
// A call costs both processes far more than a row does. So rows that arrive soon after a call wait and go together. A call
// is due in four cases: a full batch waits; the pace since the last call is over, even if that call has not returned (a
// timer fires if no further row arrives); a caller waits for its shadow and no call is in flight, so that a lone request
// is sent immediately; or an urgent row waits, on which a decision depends. Urgent rows go first, and other rows fill up
// their call.
type queue struct {
	maxBatch int

	mu       sync.Mutex
	due      sync.Cond // signaled when an idle worker should make a call
	signaled bool      // a worker was signaled and has not woken yet
	urgent   ring
	ordinary ring
	awaited  int       // ordinary rows with a waiting caller
	inFlight int       // calls in flight
	newest   time.Time // when the latest call began
	closed   bool
	// timer fires when the pace since the latest call is over, if rows wait. It is armed at most once per call, so its cost
	// does not grow with the request rate.
	timer *time.Timer
	armed bool
}

// ring is a ring buffer of waiting rows, starting at first.
type ring struct {
	rows           []*call
	first, waiting int
}

func (r *ring) full() bool { return r.waiting == len(r.rows) }

func (r *ring) push(c *call) {
	r.rows[(r.first+r.waiting)%len(r.rows)] = c
	r.waiting++
}

// pop appends up to n rows to batch.
func (r *ring) pop(batch []*call, n int) []*call {
	for range min(r.waiting, n) {
		batch, r.rows[r.first] = append(batch, r.rows[r.first]), nil
		r.first = (r.first + 1) % len(r.rows)
		r.waiting--
	}
	return batch
}

// newQueue returns a queue of at most size urgent rows and size others.
func newQueue(size, maxBatch int) *queue {
	q := &queue{maxBatch: maxBatch, urgent: ring{rows: make([]*call, size)}, ordinary: ring{rows: make([]*call, size)}}
	q.due.L = &q.mu
	q.timer = time.AfterFunc(pace, q.overdue)
	q.timer.Stop()
	return q
}

// overdue is the timer's callback: it wakes a worker if rows still wait.
func (q *queue) overdue() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.armed = false
	if q.waiting() == 0 || q.closed {
		return
	}
	q.wake(time.Now())
}

// wake signals an idle worker if a call is due, and otherwise arms the timer.
func (q *queue) wake(now time.Time) {
	switch {
	case q.signaled:
	case q.wantsCall(now):
		q.signaled = true
		q.due.Signal()
	case !q.armed:
		q.armed = true
		q.timer.Reset(pace - now.Sub(q.newest))
	}
}

// put adds the call. It never blocks: when the queue is full or closed it returns errShed or errStopped.
func (q *queue) put(c *call) error {
	rows := &q.ordinary
	if c.urgent {
		rows = &q.urgent
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.closed:
		return errStopped
	case rows.full():
		return errShed
	}
	rows.push(c)
	q.awaited += c.awaited()
	q.wake(c.Arrival)
	return nil
}

func (q *queue) waiting() int { return q.urgent.waiting + q.ordinary.waiting }

// wantsCall reports whether a call is due now, if rows wait.
func (q *queue) wantsCall(now time.Time) bool {
	return q.urgent.waiting > 0 || q.awaited > 0 && q.inFlight == 0 || q.waiting() >= q.maxBatch || now.Sub(q.newest) >= pace
}

// take waits until a call is due and appends its rows to batch. It appends none if the queue is closed and empty. If it
// appended any, the caller must call next.
func (q *queue) take(batch []*call) []*call {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.waiting() == 0 || !q.closed && !q.wantsCall(time.Now()) {
		if q.closed {
			return batch
		}
		q.signaled = false
		q.due.Wait()
	}
	return q.begin(batch)
}

// next ends the call that take or next began. If another call is due, it begins it and appends its rows to batch; the
// caller must then call next again.
func (q *queue) next(batch []*call) []*call {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.inFlight--
	switch now := time.Now(); {
	case q.waiting() == 0:
		return batch
	case !q.closed && !q.wantsCall(now):
		q.wake(now)
		return batch
	}
	return q.begin(batch)
}

func (q *queue) begin(batch []*call) []*call {
	batch = q.urgent.pop(batch, q.maxBatch)
	batch = q.ordinary.pop(batch, q.maxBatch-len(batch))
	for _, c := range batch {
		q.awaited -= c.awaited()
	}
	q.inFlight++
	q.newest = time.Now()
	// Only this worker was signaled for the remaining rows, perhaps another full batch.
	if q.signaled = false; q.waiting() > 0 {
		q.wake(q.newest)
	}
	return batch
}

// close refuses further rows. Waiting rows are still taken.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.timer.Stop()
	q.due.Broadcast()
}

func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.waiting()
}
