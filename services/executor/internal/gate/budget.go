package gate

import (
	"sync"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/durable"
)

const (
	// hour is the number of minutes that a budget covers, including the current one.
	hour = 60
	// fewRequests is how many requests an hour must have before the percentage applies. Until then fewChanges are allowed.
	fewRequests, fewChanges = 1000, 100
)

// minute counts one minute of requests.
type minute struct {
	// Minute is the number of the minute since 1970, if the clock was never set.
	Minute   int64  `json:"minute"`
	Requests uint64 `json:"requests"`
	Changed  uint64 `json:"changed"`
}

// budget counts the requests of a rolling hour, and how many of them the model has changed. It uses the monotonic clock from
// the start of the process, so that setting the machine's clock does not widen it.
type budget struct {
	mu sync.Mutex
	// first is the minute in which the process started, at began.
	first int64
	began time.Time
	// minutes are the minutes of the hour, at their number modulo hour. sum adds them up; its Minute is the current one.
	minutes [hour]minute
	sum     minute
	// total counts all changes, even across a kill; nil without a folder.
	total *durable.Counter
}

// restore starts at now with earlier counts. If the clock is behind those minutes, no time has passed since.
func (b *budget) restore(now time.Time, before []minute) {
	b.began, b.first = now, now.Unix()/60
	for _, m := range before {
		b.first = max(b.first, m.Minute)
	}
	b.sum.Minute = b.first
	for _, m := range before {
		if m.Minute > b.first-hour {
			at := &b.minutes[m.Minute%hour]
			at.Minute = m.Minute
			at.Requests += m.Requests
			at.Changed += m.Changed
			b.sum.Requests += m.Requests
			b.sum.Changed += m.Changed
		}
	}
}

// turn makes the minute of now the current one. The caller holds the lock.
func (b *budget) turn(now time.Time) *minute {
	current := b.first + int64(now.Sub(b.began)/time.Minute)
	if current-b.sum.Minute >= hour {
		b.minutes, b.sum = [hour]minute{}, minute{Minute: current}
	}
	for b.sum.Minute < current {
		b.sum.Minute++
		old := &b.minutes[b.sum.Minute%hour]
		b.sum.Requests -= old.Requests
		b.sum.Changed -= old.Changed
		*old = minute{}
	}
	m := &b.minutes[b.sum.Minute%hour]
	m.Minute = b.sum.Minute
	return m
}

// request counts a request.
func (b *budget) request(now time.Time) {
	b.mu.Lock()
	b.turn(now).Requests++
	b.sum.Requests++
	b.mu.Unlock()
}

// change counts a request that the model changes. If the model may not change any more, it counts nothing and returns false.
func (b *budget) change(now time.Time, maxChanged float64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	m := b.turn(now)
	if b.sum.Changed >= limit(b.sum.Requests, maxChanged) {
		return false
	}
	m.Changed++
	b.sum.Changed++
	if b.total != nil {
		b.total.Add()
	}
	return true
}

// limit returns how many of the requests may be changed, at a percentage.
func limit(requests uint64, percent float64) uint64 {
	if requests < fewRequests {
		return fewChanges
	}
	return uint64(float64(requests) * percent / 100)
}

// now returns the sums of the hour.
func (b *budget) now(at time.Time) minute {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.turn(at)
	return b.sum
}

// copy returns the minutes that have counts.
func (b *budget) copy(at time.Time) (counted []minute) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.turn(at)
	for _, m := range b.minutes {
		if m.Requests > 0 || m.Changed > 0 {
			counted = append(counted, m)
		}
	}
	return counted
}
