package shadow

import (
	"sync"
	"time"
)

// pace is how long after the newest call another one begins that is not full. A row that has waited so long still has most
// of its 60 ms, and 100 calls a second cost next to nothing, whatever the rate of requests: see "executor, 100 % shadow" in
// the bench.
const pace = 10 * time.Millisecond

// queue holds the shadows that wait and says when some of them go out as one call.
//
// A call costs two processes far more than a row does, so a call is not made because there could be one more: rows that
// come soon after a call wait, and go together. A call is made when a full batch waits; when the pace since the call before
// is over, whether or not that has returned, which a timer tells when no further row comes to notice it; and for a caller
// who waits for his shadow, as soon as no call is under way. So a lone request goes at once.
type queue struct {
	maxBatch int

	mu       sync.Mutex
	due      sync.Cond // signaled when an idle worker should make a call
	signaled bool      // and the worker has not looked yet
	ring     []*call   // waiting holds its places from first on
	first    int
	waiting  int
	awaited  int       // of those that wait, how many have a caller who waits for the answer
	underWay int       // calls
	newest   time.Time // when the newest of them began
	closed   bool
	// timer fires when the pace since the newest call is over, if anything waited then. It is armed at most once per call,
	// so it costs nothing at any rate of requests.
	timer *time.Timer
	armed bool
}

func newQueue(size, maxBatch int) *queue {
	q := &queue{maxBatch: maxBatch, ring: make([]*call, size)}
	q.due.L = &q.mu
	q.timer = time.AfterFunc(pace, q.overdue)
	q.timer.Stop()
	return q
}

// overdue looks whether what waits has waited long enough.
func (q *queue) overdue() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.armed = false
	if q.waiting == 0 || q.closed {
		return
	}
	q.wake(time.Now())
}

// wake has an idle worker make a call of what waits if that is due, and sees to it that it will be otherwise.
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
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.closed:
		return errStopped
	case q.waiting == len(q.ring):
		return errShed
	}
	q.ring[(q.first+q.waiting)%len(q.ring)] = c
	q.waiting++
	q.awaited += c.awaited()
	q.wake(c.Arrival)
	return nil
}

// wantsCall says whether what waits is worth a call now.
func (q *queue) wantsCall(now time.Time) bool {
	return q.awaited > 0 && q.underWay == 0 || q.waiting >= q.maxBatch || now.Sub(q.newest) >= pace
}

// take waits until a call is due and appends its rows to batch. It appends none when the queue is closed and empty. The
// caller owes a call of next.
func (q *queue) take(batch []*call) []*call {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.waiting == 0 || !q.closed && !q.wantsCall(time.Now()) {
		if q.closed {
			return batch
		}
		q.signaled = false
		q.due.Wait()
	}
	return q.begin(batch)
}

// next ends the call that take or next began. If another is due it begins it, appends the rows to batch, and owes another
// next; if not, it appends none.
func (q *queue) next(batch []*call) []*call {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.underWay--
	switch now := time.Now(); {
	case q.waiting == 0:
		return batch
	case !q.closed && !q.wantsCall(now):
		q.wake(now)
		return batch
	}
	return q.begin(batch)
}

func (q *queue) begin(batch []*call) []*call {
	for range min(q.waiting, q.maxBatch) {
		c := q.ring[q.first]
		batch, q.ring[q.first] = append(batch, c), nil
		q.awaited -= c.awaited()
		q.first = (q.first + 1) % len(q.ring)
		q.waiting--
	}
	q.underWay++
	q.newest = time.Now()
	// What is left over, perhaps a full batch again, had its arrival signaled to this worker and no other.
	if q.signaled = false; q.waiting > 0 {
		q.wake(q.newest)
	}
	return batch
}

// close refuses further calls. Those that wait are still taken.
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
	return q.waiting
}
