package canary

import (
	"context"
	"time"

	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

// holder holds the share of the executors under control: [leases] of executors that are called, or the record of a group.
type holder interface {
	// renewals is how often the share is renewed within the length of a lease.
	renewals() int
	// begin begins an attempt: nothing is confirmed.
	begin()
	// renew sets the share or renews it. Its errors are a [*takenError], a [*retryError], or those of calls.
	renew(ctx context.Context, percent float64, what string) []error
	// confirmed reports whether the share is in force since begin.
	confirmed() bool
	// confirmers names who has confirmed it; empty for all.
	confirmers() string
	// unheld returns why the share may not be in force any more.
	unheld() []error
	// check returns a [*retryError] if a report is not of the process that has confirmed the share.
	check(reports []fleet.Counters) error
	// count takes the newest counts of a phase.
	count(span *fleet.Span, all []fleet.Counters) error
	// counted returns what is kept of each executor; nil for nothing.
	counted(span *fleet.Span) *PhaseFleet
	// unsampled is which part of the requests of a phase of 100 % may be without a shadow, in [0,1].
	unsampled() float64
	// release sets 0 % and reads it back, unless somebody else has the share. Every call has the timeout.
	release(ctx context.Context, timeout time.Duration, why string) error
}
