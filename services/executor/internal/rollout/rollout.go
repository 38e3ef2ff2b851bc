// Package rollout holds which share of the requests gets a shadow, who said so, and for how long.
//
// A share under a lease is good until the lease lapses: from that instant on no request gets a shadow, whether or not
// anybody has noticed the lapse yet, since every request compares its own arrival with it.
package rollout

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/shadow"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// Rollout is which share of the requests gets a shadow. It is never changed: a change is another one.
type Rollout struct {
	// Percent is the share of the requests that get a shadow, in [0,100].
	Percent float64
	Mode    executorv1.RolloutMode
	// Revision rises with every change, from 1.
	Revision uint64
	// Holder is whose lease it is, Expires when that lapses, Lease how long it was when it was given. All are zero without
	// one.
	Holder  string
	Expires time.Time
	Lease   time.Duration
	// By is who has set it, From the address that the call came from, and Reason what was said; Time is when.
	By, From, Reason string
	Time             time.Time
	// Ended is the holder whose lease was ended by an abort, until the next change.
	Ended string

	sampler *shadow.Sampler
}

// Who set a rollout when it was no call.
const byExecutor = "executor"

// lapsed says whether the lease has lapsed at the time.
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
		SetBy: r.By, SetFrom: r.From, Reason: r.Reason, SetTime: timestamppb.New(r.Time),
	}
	if !r.Expires.IsZero() {
		p.LeaseExpireTime = timestamppb.New(r.Expires)
	}
	return p
}
