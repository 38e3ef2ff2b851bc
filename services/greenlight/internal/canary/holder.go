package canary

import (
	"context"
	"time"

	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

// holder holds the share of the executors under control: with [leases] if the executors are called directly, or with the
// record of a group.
type holder interface {
	// renewals is the number of renewals per length of a lease.
	renewals() int
	// begin starts an attempt, with nothing confirmed.
	begin()
	// renew sets the share or renews it. Each error is a [*takenError], a [*retryError], or the error of a call.
	renew(ctx context.Context, percent float64, what string) []error
	// confirmed reports whether the share has been confirmed since begin.
	confirmed() bool
	// confirmers describes which executors have confirmed the share; empty means all.
	confirmers() string
	// unheld returns why the share may no longer be in force.
	unheld() []error
	// check returns a [*retryError] if a report is from another process than the one that confirmed the share.
	check(reports []fleet.Counters) error
	// count adds the newest counts to a phase.
	count(span *fleet.Span, all []fleet.Counters) error
	// counted returns the counts of each executor that the record keeps; nil if it keeps none.
	counted(span *fleet.Span) *PhaseFleet
	// unsampled is the fraction of requests that may have no shadow in a phase of 100 %, in [0,1].
	unsampled() float64
	// release sets 0 % and reads it back, unless somebody else holds the share. The timeout is for each call.
	release(ctx context.Context, timeout time.Duration, why string) error
}
