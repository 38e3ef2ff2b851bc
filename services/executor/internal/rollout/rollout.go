// Package rollout holds the percentage of requests that get a shadow, who set it, and for how long.
//
// A percentage under a lease is in force until the lease lapses. From then on no request gets a shadow: every request
// compares its own arrival with the expiry, so this does not depend on a timer. The comparison uses the monotonic clock, so
// setting the machine's clock does not change a lease.
//
// After a restart a percentage under a lease is not in force, since the clock cannot tell how long the executor was down.
// It is 0 % until the holder renews the lease or the lease lapses.
//
// A rollout of mode GATED sets a gate, see [github.com/greenlight-ml/greenlight/services/executor/internal/gate]. It is always
// under a lease.
package rollout

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/outcome"
	"github.com/greenlight-ml/greenlight/pkg/shadow"
	"github.com/greenlight-ml/greenlight/pkg/shadow/wire"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/executor/internal/gate"
)

// Rollout is a percentage of requests that get a shadow. It is immutable: a change makes a new one.
type Rollout struct {
	// Percent is the percentage of requests that get a shadow, Decides the percentage that the model may decide, both in [0,100].
	Percent, Decides float64
	Mode             executorv1.RolloutMode
	// Revision increases with every change, from 1 to [maxRevision].
	Revision uint64
	// Holder owns the lease, Expires is when it lapses, Lease is its full length. All are zero without a lease.
	Holder  string
	Expires time.Time
	Lease   time.Duration
	// By is who set it, From the address of the call, Reason the caller's reason, and Time the time of the call.
	By, From, Reason string
	Time             time.Time
	// Ended is the holder whose lease was ended by an abort or a demotion, until the next change.
	Ended string
	// Awaited is the rollout that a renewal by the holder restores after a restart; nil otherwise.
	Awaited *Rollout
	// Plan defines the verdict on the model's quality; the zero Plan means none. It survives an abort and a lapse.
	Plan outcome.Plan
	// Gate defines what the model may decide; nil unless a gate is set. It survives a lapse and a demotion.
	Gate *gate.Terms
	// Record is the revision of the group's record that executor obeys, 0 if none. Demoted is the revision of the last record whose
	// gate was demoted.
	Record, Demoted uint64

	// sampler selects the requests that get a shadow, decides the requests that the model may decide.
	sampler, decides *shadow.Sampler
}

// sample makes the samplers of the percentages.
func (r *Rollout) sample(salt string) (err error) {
	if r.sampler, err = shadow.NewSampler(salt, r.Percent); err == nil {
		r.decides, err = shadow.NewSampler(salt, r.Decides)
	}
	return err
}

// percent returns the percentage for the contract: in mode GATED the percentage of requests that the model may decide.
func (r *Rollout) percent() float64 {
	if r.Mode == gated {
		return r.Decides
	}
	return r.Percent
}

// The modes.
const (
	off     = executorv1.RolloutMode_ROLLOUT_MODE_OFF
	observe = executorv1.RolloutMode_ROLLOUT_MODE_OBSERVE_ONLY
	gated   = executorv1.RolloutMode_ROLLOUT_MODE_GATED
)

// byExecutor is who set a rollout that no call has set.
const byExecutor = "executor"

// maxRevision is the largest revision: 2^53, up to which JSON numbers are exact. A file may have up to half of it, so that
// changes never reach the limit.
const maxRevision = 1 << 53

// proto returns the rollout as a message.
func (r *Rollout) proto() *executorv1.Rollout {
	p := &executorv1.Rollout{
		Percent: r.percent(), Mode: r.Mode, Revision: r.Revision, Holder: r.Holder,
		SetBy: r.By, SetFrom: r.From, Reason: r.Reason, SetTime: timestamppb.New(r.Time), AwaitingRenewal: r.Awaited != nil,
		Plan: wire.Plan(r.Plan), Gate: r.Gate.Proto(),
	}
	if !r.Expires.IsZero() {
		p.LeaseExpireTime = timestamppb.New(r.Expires)
	}
	return p
}
