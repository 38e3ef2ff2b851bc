// Package power measures the abort rules of a canary on simulated shadows with known error rates: how often they abort a good
// model, and how soon they abort a bad one. The rules are those of [gate.Policy], which also judge live canaries.
package power

import (
	"strconv"

	"github.com/greenlight-ml/greenlight/pkg/gate"
)

// Kind is the way in which a shadow fails.
type Kind int

// The kinds.
const (
	// Mismatch is a shadow whose answer differs from the baseline.
	Mismatch Kind = iota
	// Failure is a shadow without an answer, or with a late one.
	Failure

	kindEnd
)

// allowed returns the rate of this kind that the policy's tests allow.
func (k Kind) allowed(p gate.Policy) float64 {
	if k == Mismatch {
		return 1 - p.SLO.MatchRate
	}
	return p.Abort.ErrorRate
}

// counts returns the counts of n shadows with the given number of failures, and a latency within all limits.
func (k Kind) counts(p gate.Policy, n, wrong int) gate.PhaseCounts {
	c := gate.PhaseCounts{Matches: uint64(n - wrong), P95MS: p.SLO.P95MS / 2}
	if k == Mismatch {
		c.Mismatches = uint64(wrong)
	} else {
		c.Errors = uint64(wrong)
	}
	return c
}

// Truth describes the shadows of a row: they fail independently, at the same rate.
type Truth struct {
	Kind Kind
	// Rate is the share of shadows that fail, in (0,1).
	Rate float64
	// Target is the requirement on the rules for this truth.
	Target *Target
	// Limit is the value that Target is judged against: a share for [FewAlarms], a number of shadows for [SoonAborted].
	Limit float64
}

// Target is a kind of requirement on the rules: a rule of a scorecard, named after the truth, and the value of the row that it
// judges.
type Target struct {
	gate.Rule
	observe func(Row) gate.Observation
}

// The targets.
var (
	// Shown requires nothing.
	Shown *Target
	// FewAlarms requires that at most the share Limit of the runs is aborted.
	FewAlarms = &Target{
		gate.Rule{Name: "aborted at a %s", Op: gate.AtMost, Unit: gate.Ratio, What: "share of runs that are aborted although the shadow is within the limits of the tests"},
		func(r Row) gate.Observation { return gate.Rate(uint64(r.Aborted), uint64(r.Runs)) },
	}
	// FewTestAlarms requires the same, but counts only aborts by the tests.
	FewTestAlarms = &Target{
		gate.Rule{Name: "aborted by a test at an %s", Op: gate.AtMost, Unit: gate.Ratio, What: "share of runs that a test aborts although the shadow is within the limits of the tests"},
		func(r Row) gate.Observation { return gate.Rate(uint64(r.ByTest), uint64(r.Runs)) },
	}
	// SoonAborted requires that half of the runs are aborted within fewer than Limit shadows.
	SoonAborted = &Target{
		gate.Rule{Name: "median shadows to abort, %s", Op: gate.Below, Unit: gate.Count, What: "number of shadows within which half of the runs are aborted"},
		func(r Row) gate.Observation {
			if r.Median == 0 {
				return gate.Missing("fewer than half of the runs were aborted: too few shadows, or an insensitive rule")
			}
			return gate.Observation{Value: float64(r.Median), N: uint64(r.Runs), Bounds: r.Bounds}
		},
	}
)

// Truths returns the rows: at the limit that the tests allow, at the SLO, and beyond.
//
// At an error rate of 2 %, only aborts by the tests count as alarms. 2 % is also the threshold: a run at exactly that rate is
// above it half of the time, and has missed the SLO of 1 % by far.
func Truths() []Truth {
	return []Truth{
		{Mismatch, 0.05, FewAlarms, 0.01},
		{Mismatch, 0.10, SoonAborted, 250},
		{Mismatch, 0.15, SoonAborted, 100},
		{Failure, 0.01, Shown, 0},
		{Failure, 0.02, FewTestAlarms, 0.01},
		{Failure, 0.05, SoonAborted, 450},
	}
}

// String describes the truth: "match rate of 95 %".
func (t Truth) String() string {
	if t.Kind == Mismatch {
		return "match rate of " + percent(1-t.Rate)
	}
	return "error rate of " + percent(t.Rate)
}

func percent(share float64) string {
	return strconv.FormatFloat(100*share, 'g', 6, 64) + " %"
}

// minRuns is the minimum number of runs to judge a target: fewer cannot distinguish 1 % from 0.
const minRuns = 500
