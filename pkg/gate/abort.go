package gate

import (
	"fmt"

	"github.com/greenlight-ml/greenlight/pkg/stats"
)

// Evidence is the wealth of the tests of a phase: see [stats.EValue]. A test rejects at 1/alpha.
type Evidence struct {
	// Match is against a share of mismatches of at most 1 - SLO.MatchRate, Errors against an error rate of at most
	// Abort.ErrorRate.
	Match  float64 `json:"match_e"`
	Errors float64 `json:"error_e"`
}

// Test computes the wealth.
func (p Policy) Test(c PhaseCounts) Evidence {
	return Evidence{
		Match:  stats.EValue(c.Mismatches, c.Comparisons(), 1-p.SLO.MatchRate),
		Errors: stats.EValue(c.Errors, c.Tried(), p.Abort.ErrorRate),
	}
}

// Aborts says why the run must end at once, by a threshold or by a test; empty when it need not.
func (p Policy) Aborts(c PhaseCounts) []string {
	return append(p.AbortsByThreshold(c), p.AbortsByTest(c)...)
}

// AbortsByThreshold says which limits of Abort are crossed. A threshold takes the floor of comparisons before it counts:
// a few samples are on the wrong side of it by chance. What is missing aborts nothing: it is held.
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
	all.add(compared >= p.MinComparisons && matchRate < p.Abort.MatchRate, "match rate of %s is below %s (%d of %d comparisons)",
		Ratio.against(matchRate, p.Abort.MatchRate), Ratio.exact(p.Abort.MatchRate), c.Matches, compared)
	sampled := c.Sampled()
	coverage := float64(compared) / float64(sampled)
	all.add(sampled >= p.MinComparisons && coverage < p.Abort.Coverage, "coverage of %s is below %s (%d comparisons of %d sampled shadows)",
		Ratio.against(coverage, p.Abort.Coverage), Ratio.exact(p.Abort.Coverage), compared, sampled)
	return all
}

// AbortsByTest says which tests reject, on however few samples and however often they are looked at. In a phase that is
// within both limits, each does so by chance in at most Alpha of all phases, provided that no stretch of it is worse than
// its limit: failures that come in bursts are rejected sooner than their rate over the whole phase would be.
func (p Policy) AbortsByTest(c PhaseCounts) []string {
	if c.Missing != "" {
		return nil
	}
	var all reasons
	e, enough := p.Test(c), 1/p.Alpha
	all.add(e.Errors >= enough, "errors: e-value %.3g is at least %.4g, against a rate of at most %s (%d of %d shadows, so at least %s)",
		e.Errors, enough, Ratio.exact(p.Abort.ErrorRate), c.Errors, c.Tried(), p.least(c.Errors, c.Tried()))
	all.add(e.Match >= enough, "mismatches: e-value %.3g is at least %.4g, against a match rate of at least %s (%d of %d comparisons, so mismatches of at least %s)",
		e.Match, enough, Ratio.exact(p.SLO.MatchRate), c.Matches, c.Comparisons(), p.least(c.Mismatches, c.Comparisons()))
	return all
}

// least is the smallest rate that the test does not reject, for people.
func (p Policy) least(failures, trials uint64) string {
	return Ratio.Format(stats.AnytimeLower(failures, trials, p.Alpha))
}

// reasons grow by those that hold.
type reasons []string

func (r *reasons) add(holds bool, format string, args ...any) {
	if holds {
		*r = append(*r, fmt.Sprintf(format, args...))
	}
}
