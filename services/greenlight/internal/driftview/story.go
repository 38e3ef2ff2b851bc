package driftview

import (
	"fmt"
	"strings"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/gate"
)

// Story says in a sentence or two what the indices mean together: whether the market has moved, and whether the model
// sees it. It is empty where there are too few rows or days to say.
func (r *Report) Story() string {
	if r.Overall == nil || r.Overall.Noise == nil || r.Rows < r.limits.MinRows || r.Days < r.limits.MinDays {
		return ""
	}
	inputs := r.beyond(func(role drift.Role) bool { return role == drift.RawInput })
	model := r.beyond(func(role drift.Role) bool { return role != drift.RawInput })
	if r.Overall.Verdict == gate.Fail {
		model = append([]string{fmt.Sprintf("overall (%.3f)", r.Overall.PSI)}, model...)
	}
	var story string
	switch {
	case len(inputs) > 0 && len(model) == 0:
		story = fmt.Sprintf("The market has moved, and what the model sees of it has not: raw %s left the reference, while the model's features stay at %.3f overall, none of them beyond its limit and its noise.",
			strings.Join(inputs, ", "), r.Overall.PSI)
	case len(inputs) > 0:
		story = fmt.Sprintf("The market has moved, and the model sees it: raw %s left the reference, and so did %s.", strings.Join(inputs, ", "), strings.Join(model, ", "))
	case len(model) > 0:
		story = fmt.Sprintf("What the model sees is not what it was trained on: %s left the reference.", strings.Join(model, ", "))
	default:
		story = "Nothing is beyond both its limit and what it reaches without drift."
	}
	if !r.sawInputs() {
		story += " No raw inputs came with the vectors: whether the price itself moved is not known here."
	}
	return story
}

// beyond are the features of the roles whose verdict is FAIL, each with its index.
func (r *Report) beyond(of func(drift.Role) bool) []string {
	var names []string
	for _, f := range r.Features {
		if of(f.Role) && f.Verdict == gate.Fail {
			names = append(names, fmt.Sprintf("%s (%.3f)", f.Feature, f.PSI))
		}
	}
	return names
}

// sawInputs says whether the present has a raw input, or the model takes the price itself.
func (r *Report) sawInputs() bool {
	for _, f := range r.Features {
		if f.Role == drift.RawInput || f.Feature == "mid" {
			return true
		}
	}
	return false
}
