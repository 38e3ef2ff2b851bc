// Package rollout holds the percentage of requests that get a shadow, who set it, and for how long.
//
// A percentage under a lease is in force until the lease lapses. From that instant on no request gets a shadow, even if
// nobody has noticed the lapse yet, since every request compares its own arrival with it. The comparison is by the
// monotonic clock: setting the clock of the machine changes no lease.
//
// After a restart a percentage under a lease is not in force: the clock cannot tell how long the executor was away. It is
// 0 % until the holder renews the lease, and lapses if the holder does not.
package rollout

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/shadow"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// Rollout is a percentage of requests that get a shadow. It is immutable: a change makes another one.
type Rollout struct {
	// Percent is the percentage of requests that get a shadow, in [0,100].
	Percent float64
	Mode    executorv1.RolloutMode
	// Revision rises with every change, from 1 to [maxRevision].
	Revision uint64
	// Holder owns the lease, Expires is when it lapses, Lease how long it was when it was given. All are zero without one.
	Holder  string
	Expires time.Time
	Lease   time.Duration
	// By is who set it, From the address of the call, Reason what the caller said, and Time is when.
	By, From, Reason string
	Time             time.Time
	// Ended is the holder whose lease was ended by an abort, until the next change.
	Ended string
	// Awaited is what the holder's renewal brings back into force after a restart; nil otherwise.
	Awaited *Rollout

	sampler *shadow.Sampler
}

// Who set a rollout when it was no call.
const byExecutor = "executor"

// maxRevision is the largest revision: 2^53, up to which every reader of JSON is exact. A file may have half of it, so that no
// number of changes gets there, or wraps to 0.
const maxRevision = 1 << 53

// awaiting is the rollout after a restart under a lease: 0 % until the holder renews it.
func (r *Rollout) awaiting() *Rollout {
	a := *r
	a.Percent, a.Mode, a.Awaited = 0, executorv1.RolloutMode_ROLLOUT_MODE_OFF, r
	return &a
}

// wanted is the rollout as it was set.
func (r *Rollout) wanted() *Rollout {
	if r.Awaited != nil {
		return r.Awaited
	}
	return r
}

// lapsed reports whether the lease has lapsed at the time.
func (r *Rollout) lapsed(at time.Time) bool { return !r.Expires.IsZero() && !at.Before(r.Expires) }

// left is how long the lease is good from now on; 0 without one.
func (r *Rollout) left(now time.Time) time.Duration {
	if r.Expires.IsZero() {
		return 0
	}
	return max(0, r.Expires.Sub(now))
}

// after is the rollout once its lease has lapsed.
func (r *Rollout) after() *Rollout {
	return &Rollout{
		Mode: executorv1.RolloutMode_ROLLOUT_MODE_OFF, Revision: r.Revision + 1, By: byExecutor, Time: r.Expires,
		Reason: fmt.Sprintf("the lease of %s was not renewed for %s", r.Holder, r.Lease),
	}
}

// proto is the rollout as the contract words it.
func (r *Rollout) proto() *executorv1.Rollout {
	p := &executorv1.Rollout{
		Percent: r.Percent, Mode: r.Mode, Revision: r.Revision, Holder: r.Holder,
		SetBy: r.By, SetFrom: r.From, Reason: r.Reason, SetTime: timestamppb.New(r.Time), AwaitingRenewal: r.Awaited != nil,
	}
	if !r.Expires.IsZero() {
		p.LeaseExpireTime = timestamppb.New(r.Expires)
	}
	return p
}
