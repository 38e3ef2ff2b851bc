package shadow

import (
	"sync"
	"time"
)

// patience is how old the newest call under way must be before a row that arrives opens another slot beside it. A healthy
// ml-engine answers in a fraction of this, and a row that has waited so long still has most of its 60 ms.
const patience = 5 * time.Millisecond

// queue holds the shadows that wait and says when some of them go out as one call.
//
// A call costs two processes far more than a row does, so a call is not made because there could be one more: rows wait
// for the call under way to return, and go together. Another call is made beside it only when a full batch waits, or when
// the one under way takes long, which a timer tells when no further row comes to notice it. A lone request finds no call
// under way and goes at once.
type queue struct {
	maxBatch int

	mu       sync.Mutex
	due      sync.Cond // signaled when an idle worker should make a call
	signaled bool      // and the worker has not looked yet
	ring     []*call   // waiting holds its places from first on
	first    int
	waiting  int
	underWay int       // calls
	newest   time.Time // when the newest of them began
	closed   bool
	// impatience fires patience after the newest call began, if anything waited behind it. It is armed at most once per
	// patience, so it costs nothing at any rate of requests.
	impatience *time.Timer
	armed      bool
}

func newQueue(size, maxBatch int) *queue {
	q := &queue{maxBatch: maxBatch, ring: make([]*call, size)}
	q.due.L = &q.mu
	q.impatience = time.AfterFunc(patience, q.overdue)
	q.impatience.Stop()
	return q
}

// overdue looks whether what waits has waited long enough behind the calls under way.
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
		q.impatience.Reset(patience - now.Sub(q.newest))
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
	q.wake(c.Arrival)
	return nil
}

// wantsCall says whether what waits is worth a call beside those under way.
func (q *queue) wantsCall(now time.Time) bool {
	return q.underWay == 0 || q.waiting >= q.maxBatch || now.Sub(q.newest) >= patience
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

// next ends the call that take or next began. If anything waits it begins another, appends the rows to batch, and owes
// another next; if not, it appends none.
func (q *queue) next(batch []*call) []*call {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.underWay--
	if q.waiting == 0 {
		return batch
	}
	return q.begin(batch)
}

func (q *queue) begin(batch []*call) []*call {
	for range min(q.waiting, q.maxBatch) {
		batch = append(batch, q.ring[q.first])
		q.ring[q.first] = nil
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
	q.impatience.Stop()
	q.due.Broadcast()
}

func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.waiting
}
