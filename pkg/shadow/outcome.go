package shadow

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// Outcome is how the shadow of one request ended. The set is closed. Metric labels, log fields and report keys use the
// same names. The values are those of the contract's ShadowOutcome.
type Outcome uint8

// The outcomes. See the comments of executorv1.ShadowOutcome.
const (
	Match        = Outcome(executorv1.ShadowOutcome_SHADOW_OUTCOME_MATCH)
	Mismatch     = Outcome(executorv1.ShadowOutcome_SHADOW_OUTCOME_MISMATCH)
	Deadline     = Outcome(executorv1.ShadowOutcome_SHADOW_OUTCOME_DEADLINE)
	BreakerOpen  = Outcome(executorv1.ShadowOutcome_SHADOW_OUTCOME_BREAKER_OPEN)
	Shed         = Outcome(executorv1.ShadowOutcome_SHADOW_OUTCOME_SHED)
	Unavailable  = Outcome(executorv1.ShadowOutcome_SHADOW_OUTCOME_UNAVAILABLE)
	InvalidScore = Outcome(executorv1.ShadowOutcome_SHADOW_OUTCOME_INVALID_SCORE)
	Rejected     = Outcome(executorv1.ShadowOutcome_SHADOW_OUTCOME_REJECTED)
	Internal     = Outcome(executorv1.ShadowOutcome_SHADOW_OUTCOME_INTERNAL)
	Canceled     = Outcome(executorv1.ShadowOutcome_SHADOW_OUTCOME_CANCELED)
	NotSampled   = Outcome(executorv1.ShadowOutcome_SHADOW_OUTCOME_NOT_SAMPLED)

	// outcomeEnd is one past the last outcome. Arrays indexed by Outcome have this length; entry 0 is unused.
	outcomeEnd = NotSampled + 1
)

var outcomeNames = [outcomeEnd]string{
	Match: "match", Mismatch: "mismatch", Deadline: "deadline", BreakerOpen: "breaker_open", Shed: "shed",
	Unavailable: "unavailable", InvalidScore: "invalid_score", Rejected: "rejected", Internal: "internal",
	Canceled: "canceled", NotSampled: "not_sampled",
}

// Outcomes lists all outcomes in the order of the contract.
func Outcomes() []Outcome {
	all := make([]Outcome, 0, outcomeEnd-1)
	for o := Match; o < outcomeEnd; o++ {
		all = append(all, o)
	}
	return all
}

// String returns the outcome's name, for example "breaker_open".
func (o Outcome) String() string {
	if o == 0 || o >= outcomeEnd {
		return "unknown"
	}
	return outcomeNames[o]
}

// Compared reports whether the shadow answered and was compared with the baseline.
func (o Outcome) Compared() bool { return o == Match || o == Mismatch }

// Failed reports whether the shadow was tried and failed. A shadow that was deliberately not sent (not_sampled, shed,
// breaker_open) or that its caller canceled did not fail.
func (o Outcome) Failed() bool {
	switch o {
	case Deadline, Unavailable, InvalidScore, Rejected, Internal:
		return true
	default:
		return false
	}
}

// trips reports whether the breaker counts the outcome as a failure of ml-engine. A rejected state is a schema mismatch,
// which does not go away by waiting. So it never opens the breaker and has a separate alert.
func (o Outcome) trips() bool { return o.Failed() && o != Rejected }

// OutcomeOf classifies the error of a call to ml-engine. It is the only function that does.
func OutcomeOf(err error) Outcome {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return Deadline
	case errors.Is(err, context.Canceled):
		return Canceled
	}
	switch status.Code(err) {
	case codes.DeadlineExceeded:
		return Deadline
	case codes.Canceled:
		return Canceled
	case codes.InvalidArgument, codes.FailedPrecondition, codes.OutOfRange, codes.NotFound:
		return Rejected
	case codes.Unavailable, codes.ResourceExhausted, codes.PermissionDenied, codes.Unauthenticated:
		return Unavailable
	default:
		return Internal
	}
}
