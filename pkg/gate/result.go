package gate

import "fmt"

// Result is one judged rule. It holds all that is needed to judge again: value, op, threshold, n and min_samples.
type Result struct {
	Name    string  `json:"name"`
	Verdict Verdict `json:"verdict"`
	// Value is nil (null) when nothing was measured or it is not a number.
	Value     *float64 `json:"value"`
	Op        Op       `json:"op"`
	Threshold float64  `json:"threshold"`
	Unit      Unit     `json:"unit"`
	// N is the number of samples, MinSamples how many it takes.
	N          uint64 `json:"n"`
	MinSamples uint64 `json:"min_samples"`
	// Miss is what the rule says of a missed target; empty is FAIL.
	Miss Verdict `json:"miss,omitempty"`
	// Bounds is an interval around Value, for display; it never decides.
	Bounds *Bounds `json:"bounds,omitempty"`
	// Reason says why the verdict is not PASS; empty with PASS.
	Reason string `json:"reason"`
}

// Achieved is the value for people, with its bounds where there are any: "97.3 % (96.1 % to 98.2 %)". Without a value it
// is "-".
func (r Result) Achieved() string {
	text := r.number()
	if r.Value != nil && r.Bounds != nil {
		text += fmt.Sprintf(" (%s to %s)", r.Unit.Format(r.Bounds.Low), r.Unit.Format(r.Bounds.High))
	}
	return text
}

// number is the value alone. It takes as many decimals as it needs to stay on its own side of the threshold: 94.96 %
// against >= 95 % must not be shown as a failing 95.0 %.
func (r Result) number() string {
	if r.Value == nil {
		return "-"
	}
	return r.Unit.against(*r.Value, r.Threshold)
}

// target is the result's target for people.
func (r Result) target() string {
	return Rule{Op: r.Op, Threshold: r.Threshold, Unit: r.Unit}.Target()
}
