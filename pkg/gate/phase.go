package gate

import (
	"encoding/json"
	"fmt"
	"math"
)

// Names of the rules of a phase.
const (
	PhaseMatch  = "match rate"
	PhaseErrors = "error rate"
	PhaseP95    = "p95 latency"
	// PhaseCoverage is the share of sampled shadows that could be compared.
	PhaseCoverage = "coverage"
	// LiveQuality is how the model does on actual outcomes, compared with the baseline. It is not an SLO of a phase, since
	// it needs days.
	LiveQuality = "live quality"
)

// PhaseCounts are the observations of a canary phase from which its verdict is computed.
type PhaseCounts struct {
	// Matches and Mismatches are the comparisons; Errors are the shadows that failed or came too late.
	Matches    uint64 `json:"matches"`
	Mismatches uint64 `json:"mismatches"`
	Errors     uint64 `json:"errors"`
	// Unseen are sampled shadows that neither answered nor failed: the breaker was open, the queue was full or
	// executor busy, or the caller gave up. Their results are unknown.
	Unseen uint64 `json:"unseen,omitempty"`
	// P95MS is the time within which 95 % of the Tried shadows ended, in milliseconds; NaN (null in JSON) if there are
	// none.
	P95MS float64 `json:"p95_ms"`
	// Missing, if not empty, is the reason why nothing is known ("prometheus: no such series", "series is frozen").
	// P95Missing is the reason why P95MS is unknown.
	Missing    string `json:"missing,omitempty"`
	P95Missing string `json:"p95_missing,omitempty"`
}

// Comparisons returns the number of shadows that answered.
func (c PhaseCounts) Comparisons() uint64 { return c.Matches + c.Mismatches }

// Tried returns the number of shadows that answered or failed.
func (c PhaseCounts) Tried() uint64 { return c.Comparisons() + c.Errors }

// Sampled returns the number of shadows that ended in any way.
func (c PhaseCounts) Sampled() uint64 { return c.Tried() + c.Unseen }

// phaseCounts has the fields of PhaseCounts without its methods.
type phaseCounts PhaseCounts

// phaseCountsJSON is PhaseCounts with a P95MS that may be null, since JSON has no NaN. The outer key hides the inner
// one.
type phaseCountsJSON struct {
	*phaseCounts
	P95MS *float64 `json:"p95_ms"`
}

// MarshalJSON writes a P95MS that is not a number as null.
func (c PhaseCounts) MarshalJSON() ([]byte, error) {
	out := phaseCountsJSON{phaseCounts: (*phaseCounts)(&c)}
	if finite(c.P95MS) {
		out.P95MS = &c.P95MS
	}
	return json.Marshal(out)
}

// UnmarshalJSON reads a null or absent P95MS as NaN.
func (c *PhaseCounts) UnmarshalJSON(data []byte) error {
	in := phaseCountsJSON{phaseCounts: (*phaseCounts)(c)}
	if err := json.Unmarshal(data, &in); err != nil {
		return err
	}
	c.P95MS = math.NaN()
	if in.P95MS != nil {
		c.P95MS = *in.P95MS
	}
	return nil
}

// PhaseRules returns the SLOs of a phase. All of them use the policy's floor of comparisons. Under [Improvement] the match
// rate is not among them.
func (p Policy) PhaseRules() []Rule {
	var rules []Rule
	if !p.Improves() {
		rules = append(rules, Rule{
			Name: PhaseMatch, Op: AtLeast, Threshold: p.SLO.MatchRate, Unit: Ratio, MinSamples: p.MinComparisons,
			What: fmt.Sprintf("share of comparisons where shadow and baseline are within %v of each other", p.Tolerance()),
		})
	}
	rules = append(rules, []Rule{
		{
			Name: PhaseErrors, Op: Below, Threshold: p.SLO.ErrorRate, Unit: Ratio, MinSamples: p.MinComparisons,
			What: "share of shadows that failed or came too late",
		},
		{
			Name: PhaseP95, Op: Below, Threshold: p.SLO.P95MS, Unit: Millis, MinSamples: p.MinComparisons,
			What: "time within which 95 % of the shadows ended, those that were given up included",
		},
	}...)
	if p.SLO.Coverage > 0 {
		rules = append(rules, Rule{
			Name: PhaseCoverage, Op: AtLeast, Threshold: p.SLO.Coverage, Unit: Ratio, MinSamples: p.MinComparisons,
			What: "share of the sampled shadows that could be compared: an open breaker, shedding and failures hide the others",
		})
	}
	return rules
}

// JudgePhase returns the scorecard of a phase by the policy's SLOs.
func (p Policy) JudgePhase(c PhaseCounts) Scorecard {
	seen := map[string]Observation{
		PhaseErrors: Rate(c.Errors, c.Tried()),
		PhaseP95:    Measured(c.P95MS, c.Tried()),
	}
	if !p.Improves() {
		seen[PhaseMatch] = Rate(c.Matches, c.Comparisons())
	}
	if p.SLO.Coverage > 0 {
		seen[PhaseCoverage] = Rate(c.Comparisons(), c.Sampled())
	}
	switch {
	case c.P95Missing != "":
		seen[PhaseP95] = Missing(c.P95Missing)
	case c.Tried() == 0:
		seen[PhaseP95] = Observation{}
	}
	if c.Missing != "" {
		for name := range seen {
			seen[name] = Missing(c.Missing)
		}
	}
	return Judge(p.PhaseRules(), seen)
}
