package gate

import (
	"fmt"

	"github.com/greenlight-ml/greenlight/pkg/text"
)

// Op is how a value is compared with its threshold.
type Op string

// The comparisons a rule can ask for.
const (
	AtLeast Op = ">="
	Above   Op = ">"
	AtMost  Op = "<="
	Below   Op = "<"
)

// holds reports whether "value op threshold" is true, and whether op is a known comparison.
func (op Op) holds(value, threshold float64) (holds, known bool) {
	switch op {
	case AtLeast:
		return value >= threshold, true
	case Above:
		return value > threshold, true
	case AtMost:
		return value <= threshold, true
	case Below:
		return value < threshold, true
	default:
		return false, false
	}
}

// Rule is one target: a name, a comparison and how many samples are needed to judge it.
type Rule struct {
	// Name identifies the rule in tables, in evidence and in [Judge].
	Name string `json:"name"`
	// What describes in plain words what is measured.
	What string `json:"what"`
	// Op and Threshold are the target: the value passes if "value Op Threshold" is true.
	Op        Op      `json:"op"`
	Threshold float64 `json:"threshold"`
	// Unit is the unit of the threshold and the value.
	Unit Unit `json:"unit"`
	// MinSamples is how many samples are needed; 0 means 1, because no data is never a pass.
	MinSamples uint64 `json:"min_samples"`
	// Miss is the verdict for a missed target: [Fail] (the default), or [Inconclusive] for a rule about the evidence
	// behind other figures.
	Miss Verdict `json:"miss,omitempty"`
}

// Target formats the rule's target: ">= 0.62", "< 80 ms".
func (r Rule) Target() string { return string(r.Op) + " " + r.Unit.exact(r.Threshold) }

// Check judges one observation by one rule:
//
//   - a rule that cannot be judged (unknown Op, threshold not a number) is ERROR;
//   - a value that is missing, NaN or infinite is ERROR, with the reason;
//   - fewer samples than MinSamples is INCONCLUSIVE, with both counts in the reason;
//   - otherwise PASS, or FAIL, or the rule's Miss.
func Check(rule Rule, seen Observation) Result {
	result := Result{
		Name: rule.Name, Op: rule.Op, Unit: rule.Unit, N: seen.N, MinSamples: max(1, rule.MinSamples), Verdict: Error, Miss: rule.Miss,
	}
	if rule.Miss != "" && rule.Miss != Fail && rule.Miss != Inconclusive {
		result.Reason = fmt.Sprintf("rule: %q is not a verdict of a missed target", rule.Miss)
		return result
	}
	if !finite(rule.Threshold) {
		result.Reason = fmt.Sprintf("rule: threshold is %v", rule.Threshold)
		return result
	}
	result.Threshold = rule.Threshold
	holds, known := rule.Op.holds(seen.Value, rule.Threshold)
	switch {
	case !known:
		result.Reason = fmt.Sprintf("rule: unknown comparison %q", string(rule.Op))
		return result
	case seen.Missing != "":
		result.Reason = "missing: " + seen.Missing
		return result
	case !finite(seen.Value):
		result.Reason = fmt.Sprintf("value is %v", seen.Value)
		return result
	}
	if seen.N > 0 {
		value := seen.Value
		result.Value = &value
		if b := seen.Bounds; b != nil && finite(b.Low) && finite(b.High) {
			bounds := *b
			result.Bounds = &bounds
		}
	}
	switch {
	case seen.N < result.MinSamples:
		result.Verdict = Inconclusive
		noun := "samples"
		if seen.N == 1 {
			noun = "sample"
		}
		result.Reason = fmt.Sprintf("%s %s, %s needed", text.Grouped(seen.N), noun, text.Grouped(result.MinSamples))
	case holds:
		result.Verdict = Pass
	default:
		result.Verdict = Fail
		if rule.Miss == Inconclusive {
			result.Verdict = Inconclusive
		}
		result.Reason = fmt.Sprintf("%s is not %s", result.number(), result.Target())
	}
	return result
}
