package gate

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// Scorecard is a set of judged rules with one overall verdict. Its JSON is {"verdict", "results"}; the verdict is
// always computed from the results and never read back.
type Scorecard struct {
	Results []Result
}

// Judge checks every rule against the observation with its name. A rule without an observation is ERROR: it was not
// measured. An observation without a rule is ERROR too, because its name is probably misspelt.
func Judge(rules []Rule, seen map[string]Observation) Scorecard {
	card := Scorecard{Results: make([]Result, 0, len(rules))}
	left := maps.Clone(seen)
	for _, rule := range rules {
		observation, ok := seen[rule.Name]
		if !ok {
			observation = Missing("nothing was measured for this rule")
		}
		delete(left, rule.Name)
		card.Results = append(card.Results, Check(rule, observation))
	}
	for _, name := range slices.Sorted(maps.Keys(left)) {
		card.Results = append(card.Results, Result{
			Name: name, Verdict: Error, N: left[name].N, Reason: "measured, but there is no rule of this name",
		})
	}
	return card
}

// Verdict returns the [Worst] of the results. An empty scorecard is ERROR.
func (c Scorecard) Verdict() Verdict {
	verdicts := make([]Verdict, len(c.Results))
	for i, r := range c.Results {
		verdicts[i] = r.Verdict
	}
	return Worst(verdicts...)
}

// Summary formats the overall verdict: "FAIL (6 of 7 pass)".
func (c Scorecard) Summary() string {
	passed := 0
	for _, r := range c.Results {
		if r.Verdict.OK() {
			passed++
		}
	}
	return fmt.Sprintf("%s (%d of %d pass)", c.Verdict(), passed, len(c.Results))
}

// MarshalJSON writes the overall verdict before the results.
func (c Scorecard) MarshalJSON() ([]byte, error) {
	results := c.Results
	if results == nil {
		results = []Result{}
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false) // the caller's encoder can escape, but not unescape
	err := enc.Encode(struct {
		Verdict Verdict  `json:"verdict"`
		Results []Result `json:"results"`
	}{c.Verdict(), results})
	if err != nil {
		return nil, fmt.Errorf("scorecard: %w", err)
	}
	return out.Bytes(), nil
}

// UnmarshalJSON reads the results; the overall verdict follows from them.
func (c *Scorecard) UnmarshalJSON(data []byte) error {
	var read struct {
		Results []Result `json:"results"`
	}
	if err := json.Unmarshal(data, &read); err != nil {
		return fmt.Errorf("scorecard: %w", err)
	}
	c.Results = read.Results
	return nil
}
