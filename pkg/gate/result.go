package gate

import "fmt"

// Result is one judged rule. It has everything needed to judge again: value, op, threshold, n and min_samples.
type Result struct {
	Name    string  `json:"name"`
	Verdict Verdict `json:"verdict"`
	// Value is nil (null) if nothing was measured or it is not a number.
	Value     *float64 `json:"value"`
	Op        Op       `json:"op"`
	Threshold float64  `json:"threshold"`
	Unit      Unit     `json:"unit"`
	// N is the number of samples, MinSamples the number required.
	N          uint64 `json:"n"`
	MinSamples uint64 `json:"min_samples"`
	// Miss is the rule's verdict for a missed target; empty means FAIL.
	Miss Verdict `json:"miss,omitempty"`
	// Bounds is an interval around Value for display; it never decides.
	Bounds *Bounds `json:"bounds,omitempty"`
	// Reason is the reason for a verdict other than PASS; empty with PASS.
	Reason string `json:"reason"`
}

// Achieved formats the value with its bounds, if any: "97.3 % (96.1 % to 98.2 %)". Without a value it returns "-".
func (r Result) Achieved() string {
	text := r.number()
	if r.Value != nil && r.Bounds != nil {
		text += fmt.Sprintf(" (%s to %s)", r.Unit.Format(r.Bounds.Low), r.Unit.Format(r.Bounds.High))
	}
	return text
}

// number formats the value alone, with enough decimals to stay on its side of the threshold: 94.96 % against >= 95 %
// must not be shown as a failing 95.0 %.
func (r Result) number() string {
	if r.Value == nil {
		return "-"
	}
	return r.Unit.against(*r.Value, r.Threshold)
}

// Target formats the result's target; "-" without one.
func (r Result) Target() string {
	if r.Op == "" {
		return "-"
	}
	return Rule{Op: r.Op, Threshold: r.Threshold, Unit: r.Unit}.Target()
}
