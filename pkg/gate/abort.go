package gate

import (
	"fmt"

	"github.com/greenlight-ml/greenlight/pkg/stats"
)

// Evidence holds the e-values of the tests of a phase: see [stats.EValue]. A test rejects at 1/alpha.
type Evidence struct {
	// Match tests for a share of mismatches above 1 - SLO.MatchRate, Errors for an error rate above Abort.ErrorRate.
	Match  float64 `json:"match_e"`
	Errors float64 `json:"error_e"`
}

// Test computes the e-values.
func (p Policy) Test(c PhaseCounts) Evidence {
	return Evidence{
		Match:  stats.EValue(c.Mismatches, c.Comparisons(), 1-p.SLO.MatchRate),
		Errors: stats.EValue(c.Errors, c.Tried(), p.Abort.ErrorRate),
	}
}

// Aborts returns the reasons to end the run immediately, by threshold or by test; it is empty if there are none.
func (p Policy) Aborts(c PhaseCounts) []string {
	return append(p.AbortsByThreshold(c), p.AbortsByTest(c)...)
}

// AbortsByThreshold returns the Abort limits that are crossed. A threshold applies only above the floor of comparisons:
// a few samples may cross it by chance. Missing data does not abort; it holds the phase.
func (p Policy) AbortsByThreshold(c PhaseCounts) []string {
	if c.Missing != "" {
		return nil
	}
	var all reasons
	tried, compared := c.Tried(), c.Comparisons()
	errorRate, matchRate := float64(c.Errors)/float64(tried), float64(c.Matches)/float64(compared)
	all.add(tried >= p.MinComparisons && c.P95Missing == "" && finite(c.P95MS) && c.P95MS > p.Abort.P95MS, "p95 of %s is above %s (%d shadows)",
		Millis.against(c.P95MS, p.Abort.P95MS), Millis.exact(p.Abort.P95MS), tried)
	all.add(tried >= p.MinComparisons && errorRate > p.Abort.ErrorRate, "error rate of %s is above %s (%d of %d shadows)",
		Ratio.against(errorRate, p.Abort.ErrorRate), Ratio.exact(p.Abort.ErrorRate), c.Errors, tried)
	all.add(!p.Improves() && compared >= p.MinComparisons && matchRate < p.Abort.MatchRate, "match rate of %s is below %s (%d of %d comparisons)",
		Ratio.against(matchRate, p.Abort.MatchRate), Ratio.exact(p.Abort.MatchRate), c.Matches, compared)
	sampled := c.Sampled()
	coverage := float64(compared) / float64(sampled)
	all.add(sampled >= p.MinComparisons && coverage < p.Abort.Coverage, "coverage of %s is below %s (%d comparisons of %d sampled shadows)",
		Ratio.against(coverage, p.Abort.Coverage), Ratio.exact(p.Abort.Coverage), compared, sampled)
	return all
}

// AbortsByTest returns the tests that reject, valid for any number of samples and any number of checks. In a phase
// within both limits, each rejects by chance in at most Alpha of all phases, provided that no part of the phase exceeds
// its limit: bursts of failures are rejected sooner than their average rate would be.
func (p Policy) AbortsByTest(c PhaseCounts) []string {
	if c.Missing != "" {
		return nil
	}
	var all reasons
	e, enough := p.Test(c), 1/p.Alpha
	all.add(e.Errors >= enough, "errors: e-value %.3g is at least %.4g, against a rate of at most %s (%d of %d shadows, so at least %s)",
		e.Errors, enough, Ratio.exact(p.Abort.ErrorRate), c.Errors, c.Tried(), p.least(c.Errors, c.Tried()))
	all.add(!p.Improves() && e.Match >= enough, "mismatches: e-value %.3g is at least %.4g, against a match rate of at least %s (%d of %d comparisons, so mismatches of at least %s)",
		e.Match, enough, Ratio.exact(p.SLO.MatchRate), c.Matches, c.Comparisons(), p.least(c.Mismatches, c.Comparisons()))
	return all
}

// least formats the smallest rate that the test does not reject.
func (p Policy) least(failures, trials uint64) string {
	return Ratio.Format(stats.AnytimeLower(failures, trials, p.Alpha))
}

// reasons collects the reasons whose condition is true.
type reasons []string

func (r *reasons) add(holds bool, format string, args ...any) {
	if holds {
		*r = append(*r, fmt.Sprintf(format, args...))
	}
}
