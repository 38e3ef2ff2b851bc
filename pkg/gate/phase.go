package gate

import (
	"fmt"
	"math"

	"github.com/greenlight-ml/greenlight/pkg/stats"
)

// Names of the rules of a phase.
const (
	PhaseMatch  = "match rate"
	PhaseErrors = "error rate"
	PhaseP95    = "p95 latency"
)

// PhaseCounts is what was seen of a phase of a canary: all that its verdict is computed from.
type PhaseCounts struct {
	// Matches and Mismatches are the comparisons, Errors the shadows that failed or came too late.
	Matches    uint64 `json:"matches"`
	Mismatches uint64 `json:"mismatches"`
	Errors     uint64 `json:"errors"`
	// P95MS is the time within which 95 % of the Tried shadows ended, in milliseconds; NaN without any.
	P95MS float64 `json:"-"`
	// Missing, if not empty, says why nothing is known ("prometheus: no such series", "series is frozen").
	Missing string `json:"missing,omitempty"`
}

// Comparisons are the shadows that answered.
func (c PhaseCounts) Comparisons() uint64 { return c.Matches + c.Mismatches }

// Tried are the shadows that answered or failed.
func (c PhaseCounts) Tried() uint64 { return c.Comparisons() + c.Errors }

// PhaseRules are the SLOs of a phase. All of them take the policy's floor of comparisons.
func (p Policy) PhaseRules() []Rule {
	return []Rule{
		{
			Name: PhaseMatch, Op: AtLeast, Threshold: p.SLO.MatchRate, Unit: Ratio, MinSamples: p.MinComparisons,
			What: "share of comparisons where shadow and baseline are within 0.05 of each other",
		},
		{
			Name: PhaseErrors, Op: Below, Threshold: p.SLO.ErrorRate, Unit: Ratio, MinSamples: p.MinComparisons,
			What: "share of shadows that failed or came too late",
		},
		{
			Name: PhaseP95, Op: Below, Threshold: p.SLO.P95MS, Unit: Millis, MinSamples: p.MinComparisons,
			What: "time within which 95 % of the shadows ended, those that were given up included",
		},
	}
}

// JudgePhase is the scorecard of a phase by the policy's SLOs.
func (p Policy) JudgePhase(c PhaseCounts) Scorecard {
	seen := map[string]Observation{
		PhaseMatch:  Rate(c.Matches, c.Comparisons()),
		PhaseErrors: Rate(c.Errors, c.Tried()),
		PhaseP95:    Measured(c.P95MS, c.Tried()),
	}
	if c.Tried() == 0 {
		seen[PhaseP95] = Observation{}
	}
	if c.Missing != "" {
		for name := range seen {
			seen[name] = Missing(c.Missing)
		}
	}
	return Judge(p.PhaseRules(), seen)
}

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

// Aborts says why the run must end at once; empty when it need not. A threshold takes the floor of comparisons before it
// counts; a test counts at any time. What is missing aborts nothing: it is held.
func (p Policy) Aborts(c PhaseCounts) []string {
	if c.Missing != "" {
		return nil
	}
	var reasons []string
	add := func(stop bool, format string, args ...any) {
		if stop {
			reasons = append(reasons, fmt.Sprintf(format, args...))
		}
	}
	tried, compared := c.Tried(), c.Comparisons()
	errorRate, matchRate := float64(c.Errors)/float64(tried), float64(c.Matches)/float64(compared)
	add(tried >= p.MinComparisons && c.P95MS > p.Abort.P95MS, "p95 of %.1f ms is above %v ms (%d shadows)", c.P95MS, p.Abort.P95MS, tried)
	add(tried >= p.MinComparisons && errorRate > p.Abort.ErrorRate, "error rate of %.2f %% is above %v %% (%d of %d shadows)",
		100*errorRate, 100*p.Abort.ErrorRate, c.Errors, tried)
	add(compared >= p.MinComparisons && matchRate < p.Abort.MatchRate, "match rate of %.2f %% is below %v %% (%d of %d comparisons)",
		100*matchRate, 100*p.Abort.MatchRate, c.Matches, compared)
	e := p.Test(c)
	add(e.Errors >= 1/p.Alpha, "errors: e-value %.3g is at least %.0f, against a rate of at most %v %% (%d of %d shadows)",
		e.Errors, 1/p.Alpha, 100*p.Abort.ErrorRate, c.Errors, tried)
	add(e.Match >= 1/p.Alpha, "mismatches: e-value %.3g is at least %.0f, against a match rate of at least %v %% (%d of %d comparisons)",
		e.Match, 1/p.Alpha, 100*p.SLO.MatchRate, c.Matches, compared)
	return reasons
}

// HistogramQuantile is the q-quantile, q in (0,1), of observations that were counted in buckets with the given upper
// edges, ascending, and one more bucket for what lies above the last. Within a bucket it goes linearly from edge to edge,
// and above the last edge it is that edge, as Prometheus' histogram_quantile has it, so that both judge alike: a quantile
// is on the true side of any threshold that is an edge. It is NaN without observations.
func HistogramQuantile(q float64, edges []float64, counts []uint64) float64 {
	total := uint64(0)
	for _, n := range counts {
		total += n
	}
	if total == 0 || len(counts) != len(edges)+1 {
		return math.NaN()
	}
	rank, below := q*float64(total), 0.0
	for i, edge := range edges {
		n := float64(counts[i])
		if below+n >= rank && n > 0 {
			from := 0.0
			if i > 0 {
				from = edges[i-1]
			}
			return from + (edge-from)*(rank-below)/n
		}
		below += n
	}
	return edges[len(edges)-1]
}
