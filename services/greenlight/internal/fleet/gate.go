package fleet

import (
	"fmt"
	"strings"

	"github.com/greenlight-ml/greenlight/pkg/decide"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// Decisions counts decisions: the baseline's by the gate's reason, the model's under [ByModel]. Nil means unknown.
type Decisions map[string]uint64

// ByModel is the key of the model's decisions.
const ByModel = "model"

// DecisionsOf returns the decisions of an executor since it started; nil if it does not count them.
func DecisionsOf(g *executorv1.GateStatus) Decisions {
	var d Decisions
	for _, c := range g.GetDecisions() {
		if d == nil {
			d = Decisions{}
		}
		key := decide.Reason(c.GetFallbackReason()).String()
		if c.GetDecidedBy() == executorv1.Decider_DECIDER_MODEL {
			key = ByModel
		}
		if c.GetCount() > 0 {
			d[key] += c.GetCount()
		}
	}
	return d
}

// Gated reports whether a gate was set for any of the decisions.
func (d Decisions) Gated() bool {
	for key, n := range d {
		if key != decide.Off.String() && n > 0 {
			return true
		}
	}
	return false
}

// String describes who decided: "model 240, baseline 760 (not_selected 750, deadline 10)".
func (d Decisions) String() string {
	baseline := uint64(0)
	var reasons []string
	for _, r := range decide.Reasons() {
		if n := d[r.String()]; n > 0 {
			baseline += n
			reasons = append(reasons, fmt.Sprintf("%s %d", r, n))
		}
	}
	line := fmt.Sprintf("model %d, baseline %d", d[ByModel], baseline)
	if len(reasons) > 0 {
		line += " (" + strings.Join(reasons, ", ") + ")"
	}
	return line
}

// Plus returns the sum; nil adds nothing.
func (d Decisions) Plus(other Decisions) Decisions {
	if other == nil {
		return d
	}
	sum := Decisions{}
	for _, part := range []Decisions{d, other} {
		for key, n := range part {
			sum[key] += n
		}
	}
	return sum
}

// Since returns d minus before; nil if one of them is unknown.
func (d Decisions) Since(before Decisions) Decisions {
	if d == nil || before == nil {
		return nil
	}
	more := Decisions{}
	for key, n := range d {
		more[key] = n - min(n, before[key])
	}
	return more
}
