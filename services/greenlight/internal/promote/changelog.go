package promote

import (
	"fmt"
	"strings"

	"github.com/greenlight-ml/greenlight/pkg/gate"
)

// Canary compares the model with the baseline while all requests were shadowed, in the judged canary.
type Canary struct {
	Run         string `json:"run"`
	Comparisons uint64 `json:"comparisons"`
	// MatchRate and ErrorRate are in [0,1], P95MS in milliseconds.
	MatchRate float64 `json:"match_rate"`
	ErrorRate float64 `json:"error_rate"`
	P95MS     float64 `json:"p95_ms"`
}

// Changelog returns the entry for the release in CHANGELOG.md.
func (c *Check) Changelog() string {
	m := c.manifest
	var out strings.Builder
	fmt.Fprintf(&out, "- [FEATURE] Model %s (%s, %s on schema %s, digest %s; tried as %s): ", c.To, c.Name, m.Family, m.Schema, short(c.Digest), c.From)
	fmt.Fprintf(&out, "AUC %s and P@20 %s out of time", c.figure(gate.AUC), c.figure(gate.PrecisionAt20))
	if r := c.row(gate.AUC); r != nil {
		fmt.Fprintf(&out, " on %d rows", r.N)
	}
	if k := c.Canary; k != nil {
		fmt.Fprintf(&out, "; compared with the baseline on all requests: match rate %s of %d comparisons, error rate %s, p95 %s",
			gate.Ratio.Format(k.MatchRate), k.Comparisons, gate.Ratio.Format(k.ErrorRate), gate.Millis.Format(k.P95MS))
	}
	if c.Policy.Promotion.Soak > 0 {
		fmt.Fprintf(&out, "; soaked for %s", c.figure(Soak))
	}
	fmt.Fprintf(&out, "; PSI %s overall", c.figure(PSIOverall))
	if r := c.row(PSIFeature); r != nil {
		fmt.Fprintf(&out, ", %s in the feature that moved most", r.Achieved())
	}
	return out.String() + "."
}

func (c *Check) row(name string) *Row {
	for i := range c.Blockers {
		if c.Blockers[i].Name == name {
			return &c.Blockers[i]
		}
	}
	return nil
}

// figure formats the value of a blocker, without its bounds.
func (c *Check) figure(name string) string {
	r := c.row(name)
	if r == nil || r.Value == nil {
		return "-"
	}
	return r.Unit.Format(*r.Value)
}
