// Package rollout holds the percentage of requests that get a shadow, who set it, and for how long.
//
// A percentage under a lease is in force until the lease lapses. From then on no request gets a shadow: every request
// compares its own arrival with the expiry, so no timer has to fire first. The comparison uses the monotonic clock, so
// setting the machine's clock changes no lease.
//
// After a restart a percentage under a lease is not in force, since the clock cannot tell how long the executor was down.
// It is 0 % until the holder renews the lease, which lapses otherwise.
package rollout

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/outcome"
	"github.com/greenlight-ml/greenlight/pkg/shadow"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// Rollout is a percentage of requests that get a shadow. It is immutable: a change makes a new one.
type Rollout struct {
	// Percent is the percentage of requests that get a shadow, in [0,100].
	Percent float64
	Mode    executorv1.RolloutMode
	// Revision increases with every change, from 1 to [maxRevision].
	Revision uint64
	// Holder owns the lease, Expires is when it lapses, Lease is its full length. All are zero without a lease.
	Holder  string
	Expires time.Time
	Lease   time.Duration
	// By is who set it, From the address of the call, Reason the caller's reason, and Time when it was set.
	By, From, Reason string
	Time             time.Time
	// Ended is the holder whose lease an abort ended, until the next change.
	Ended string
	// Awaited is the rollout that a renewal by the holder restores after a restart; nil otherwise.
	Awaited *Rollout
	// Plan is what the verdict on the model's quality is about; the zero Plan is none. An abort and a lapse keep it.
	Plan outcome.Plan

	sampler *shadow.Sampler
}

// byExecutor is who set a rollout that no call has set.
const byExecutor = "executor"

// maxRevision is the largest revision: 2^53, up to which JSON numbers are exact. A file may have up to half of it, so that
// changes never reach the limit.
const maxRevision = 1 << 53

// proto returns the rollout in the contract's form.
func (r *Rollout) proto() *executorv1.Rollout {
	p := &executorv1.Rollout{
		Percent: r.Percent, Mode: r.Mode, Revision: r.Revision, Holder: r.Holder,
		SetBy: r.By, SetFrom: r.From, Reason: r.Reason, SetTime: timestamppb.New(r.Time), AwaitingRenewal: r.Awaited != nil,
		Plan: PlanProto(r.Plan),
	}
	if !r.Expires.IsZero() {
		p.LeaseExpireTime = timestamppb.New(r.Expires)
	}
	return p
}
