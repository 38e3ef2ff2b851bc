// Package decide chooses between the baseline's score and the score of a model behind a gate.
//
// A decision is one of the two scores, bit for bit, never a blend or a clamp: that would be a third policy, which nobody has
// evaluated. The model's score is chosen only if every check holds. The checks have a fixed order, and the first that fails is
// the reason. The pattern is run-time assurance, as in ASTM F3269: a function without assurance, a monitor, a switch, and a
// trusted fallback.
package decide

import (
	"math"
	"time"
)

// Reason is why the baseline decided. The set is closed. The values equal the contract's FallbackReason, in the order of the
// checks.
type Reason uint8

const (
	// None means that the model decided.
	None Reason = iota

	// Off means that no gate is set.
	Off
	// LeaseLapsed means that the gate's lease has expired.
	LeaseLapsed
	// Killed means that the gate was killed.
	Killed
	// QualityAlarm means that the model's quality is worse.
	QualityAlarm
	// DriftAlarm means that the inputs have drifted.
	DriftAlarm
	// BudgetSpent means that the model has used up its budget of changed decisions.
	BudgetSpent

	// NotSelected means that the model may not decide this request.
	NotSelected
	// ModelChanged means that the model that answers is not the gate's.
	ModelChanged
	// FeaturesStale means that the features are older than [MaxAge].
	FeaturesStale
	// OutOfDomain means that a feature is outside its range in the training data.
	OutOfDomain

	// BreakerOpen and the next six name how the shadow ended without an answer in time.
	BreakerOpen
	// Shed means that executor was too busy for the shadow.
	Shed
	// Unavailable means that the model could not be reached.
	Unavailable
	// Deadline means that the model did not answer in time.
	Deadline
	// Rejected means that the model cannot score the state.
	Rejected
	// Internal is any other failure of the model.
	Internal
	// Canceled means that the caller has left or executor is stopping.
	Canceled

	// InvalidScore means that the score is not a number in [0,1] or is outside the gate's range.
	InvalidScore
	// Disagreement means that the score differs from the baseline by more than the cap.
	Disagreement

	reasonEnd
)

var names = [reasonEnd]string{
	None: "", Off: "off", LeaseLapsed: "lease_lapsed", Killed: "killed", QualityAlarm: "quality_alarm", DriftAlarm: "drift_alarm",
	BudgetSpent: "budget_spent", NotSelected: "not_selected", ModelChanged: "model_changed", FeaturesStale: "features_stale",
	OutOfDomain: "out_of_domain", BreakerOpen: "breaker_open", Shed: "shed", Unavailable: "unavailable", Deadline: "deadline",
	Rejected: "rejected", Internal: "internal", Canceled: "canceled", InvalidScore: "invalid_score", Disagreement: "disagreement",
}

// Reasons lists all reasons but [None], in the order of the checks.
func Reasons() []Reason {
	all := make([]Reason, 0, reasonEnd-1)
	for r := Off; r < reasonEnd; r++ {
		all = append(all, r)
	}
	return all
}

// ParseReason returns the reason with that name and reports whether it exists. The empty name is [None].
func ParseReason(name string) (Reason, bool) {
	for r, n := range names {
		if n == name {
			return Reason(r), true
		}
	}
	return None, false
}

// String returns the reason's name, for example "lease_lapsed"; empty for [None].
func (r Reason) String() string {
	if r >= reasonEnd {
		return "unknown"
	}
	return names[r]
}

// OfState reports whether the reason depends only on the gate's state, and so applies to every request.
func (r Reason) OfState() bool { return r >= Off && r <= BudgetSpent }

const (
	// MaxAge is the maximum age of the features if the model is to decide.
	MaxAge = 2 * time.Minute
	// Changed is the difference from the baseline above which a decision by the model counts as changed.
	Changed = 0.05
)

// State is the state of the gate when a decision is made.
type State struct {
	// Gated is set while a gate is set, and LeaseLapsed once its lease has lapsed.
	Gated, LeaseLapsed bool
	// Killed, QualityAlarm, DriftAlarm and BudgetSpent are the latches.
	Killed, QualityAlarm, DriftAlarm, BudgetSpent bool
	Limits
}

// Limits are the bounds of a gate.
type Limits struct {
	// Model is the digest of the model that may decide.
	Model string
	// Disagreement is the largest |model - baseline|, in (0,1].
	Disagreement float64
	// Low and High are the lowest and highest scores that may decide, in [0,1].
	Low, High float64
}

// Request is what is known about a request before the model has answered.
type Request struct {
	// Baseline is the baseline's score.
	Baseline float64
	// Selected reports whether the model may decide this request.
	Selected bool
	// Model is the digest of the model that will be asked.
	Model string
	// Age is the age of the features, 0 if unknown.
	Age time.Duration
	// OutOfDomain reports whether a feature is outside the range of the training data.
	OutOfDomain bool
}

// Advice is the model's answer.
type Advice struct {
	// Failure is why there is no usable answer: one of [BreakerOpen] to [InvalidScore]. [None] if there is a score.
	Failure Reason
	Score   float64
	// Model is the digest of the model that answered.
	Model string
}

// Decision is a decision and who made it.
type Decision struct {
	// Score is the baseline's, or the model's if Reason is [None].
	Score  float64
	Reason Reason
}

// ByModel reports whether the model decided.
func (d Decision) ByModel() bool { return d.Reason == None }

// Refusal returns why the model is not asked; [None] if it is.
func Refusal(s State, r Request) Reason {
	switch {
	case !s.Gated:
		return Off
	case s.LeaseLapsed:
		return LeaseLapsed
	case s.Killed:
		return Killed
	case s.QualityAlarm:
		return QualityAlarm
	case s.DriftAlarm:
		return DriftAlarm
	case s.BudgetSpent:
		return BudgetSpent
	case !r.Selected:
		return NotSelected
	case r.Model != s.Model:
		return ModelChanged
	case r.Age > MaxAge:
		return FeaturesStale
	case r.OutOfDomain:
		return OutOfDomain
	}
	return None
}

// Decide returns the decision. The baseline decides unless every check holds.
func Decide(s State, r Request, a Advice) Decision {
	if reason := reasonOf(s, r, a); reason != None {
		return Decision{Score: r.Baseline, Reason: reason}
	}
	return Decision{Score: a.Score}
}

func reasonOf(s State, r Request, a Advice) Reason {
	if a.Failure == None && a.Model != s.Model {
		r.Model = a.Model // ml-engine swapped its model while it was asked
	}
	if reason := Refusal(s, r); reason != None {
		return reason
	}
	switch {
	case a.Failure != None:
		return a.Failure
	case !(a.Score >= 0 && a.Score <= 1 && a.Score >= s.Low && a.Score <= s.High): // NaN too
		return InvalidScore
	case !(math.Abs(a.Score-r.Baseline) <= s.Disagreement):
		return Disagreement
	}
	return None
}

// Range is the range of a feature in the training data, both ends included.
type Range struct{ Low, High float64 }

// Outside reports whether one of the values is outside its range. NaN is outside every range.
func Outside(values []float64, domain []Range) bool {
	for i, x := range values {
		if !(x >= domain[i].Low && x <= domain[i].High) {
			return true
		}
	}
	return false
}
