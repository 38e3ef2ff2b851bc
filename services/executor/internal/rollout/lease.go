package rollout

import (
	"fmt"
	"time"
)

// The range of a lease's length.
const (
	minLease = time.Second
	maxLease = time.Hour
)

// awaiting returns the rollout after a restart under a lease: 0 % until the holder renews the lease.
func (r *Rollout) awaiting() *Rollout {
	a := *r
	a.Percent, a.Decides, a.Mode, a.Awaited = 0, 0, off, r
	return &a
}

// wanted returns the rollout that was requested.
func (r *Rollout) wanted() *Rollout {
	if r.Awaited != nil {
		return r.Awaited
	}
	return r
}

// lapsed reports whether the lease has lapsed at that time.
func (r *Rollout) lapsed(at time.Time) bool { return !r.Expires.IsZero() && !at.Before(r.Expires) }

// left returns the remaining time of the lease; 0 without one.
func (r *Rollout) left(now time.Time) time.Duration {
	if r.Expires.IsZero() {
		return 0
	}
	return max(0, r.Expires.Sub(now))
}

// after returns the rollout after the lease has lapsed.
func (r *Rollout) after() *Rollout {
	return &Rollout{
		Mode: off, Revision: r.Revision + 1, By: byExecutor, Time: r.Expires,
		Reason: fmt.Sprintf("the lease of %s was not renewed for %s", r.Holder, r.Lease), Plan: r.Plan, Gate: r.Gate, Demoted: r.Demoted,
	}
}

// renews reports whether next changes only the expiry of the lease.
func renews(before, next *Rollout) bool {
	before = before.wanted()
	return before.Holder != "" && before.Holder == next.Holder && before.Percent == next.Percent && before.Decides == next.Decides && before.Mode == next.Mode &&
		before.Reason == next.Reason && before.Plan == next.Plan && before.Gate.Equal(next.Gate) && before.Record == next.Record
}

// current returns the rollout in force at that time. Requests call it, so it takes no lock: the timer replaces a lapsed rollout.
func (k *Keeper) current(now time.Time) *Rollout {
	r := k.now.Load()
	if r.lapsed(now) {
		return r.after()
	}
	return r
}

// settle replaces a rollout whose lease has lapsed. The caller holds the lock.
func (k *Keeper) settle(now time.Time) {
	r := k.now.Load()
	if !r.lapsed(now) {
		return
	}
	next := r.after()
	k.put(next) // the saver writes it within writePeriod; until then a restart would find the lease lapsed as well
	k.opts.Logger.Warn("a lease has lapsed: no request gets a shadow", "holder", r.Holder, "percent", r.wanted().Percent, "revision", next.Revision)
}

// put puts the rollout in force and starts the timer of its lease. The caller holds the lock.
func (k *Keeper) put(r *Rollout) {
	k.now.Store(r)
	if k.lapse != nil {
		k.lapse.Stop()
	}
	if !r.Expires.IsZero() && !k.stopped {
		k.lapse = time.AfterFunc(time.Until(r.Expires), k.expire)
	}
}

// expire is the timer's callback.
func (k *Keeper) expire() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.stopped {
		k.settle(time.Now())
	}
}
