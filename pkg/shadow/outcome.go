package shadow

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// Outcome is how the shadow of one request ended. The set is closed; the same word is the metric label, the log field
// and the report key. The values are those of the contract's ShadowOutcome.
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

	// outcomeEnd is one past the last outcome; arrays indexed by Outcome have this length and waste the zeroth entry.
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

// String returns the outcome's word, for example "breaker_open".
func (o Outcome) String() string {
	if o == 0 || o >= outcomeEnd {
		return "unknown"
	}
	return outcomeNames[o]
}

// Compared says whether the shadow answered, so that there is something to compare.
func (o Outcome) Compared() bool { return o == Match || o == Mismatch }

// Failed says whether the shadow was tried and failed. What was never sent on purpose (not_sampled, shed, breaker_open)
// or was given up by the caller (canceled) did not fail.
func (o Outcome) Failed() bool {
	switch o {
	case Deadline, Unavailable, InvalidScore, Rejected, Internal:
		return true
	default:
		return false
	}
}

// trips says whether the breaker counts the outcome as a failure of ml-engine. A rejected state is a defect of the
// schema, which no amount of waiting mends, so it is alerted apart and never opens the breaker.
func (o Outcome) trips() bool { return o.Failed() && o != Rejected }

// OutcomeOf classifies the error of a call to ml-engine. It is the only place that does.
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
