// Package power measures the abort rules of a canary on simulated shadows with known error rates: how often they abort a good
// model, and how soon they abort a bad one. The rules are those of [gate.Policy], which also judge a live canary.
package power

import (
	"fmt"
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
	Target Target
	// Limit is the value that Target is judged against: a share for [FewAlarms], a number of shadows for [SoonAborted].
	Limit float64
}

// Target is a kind of requirement on the rules.
type Target int

// The targets.
const (
	// Shown requires nothing.
	Shown Target = iota
	// FewAlarms requires that at most the share Limit of the runs is aborted.
	FewAlarms
	// FewTestAlarms requires the same of the tests alone.
	FewTestAlarms
	// SoonAborted requires that half of the runs are aborted in fewer than Limit shadows.
	SoonAborted
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

// rule returns the target as a rule of a scorecard; false if there is none.
func (t Truth) rule() (gate.Rule, bool) {
	rule := gate.Rule{Threshold: t.Limit, MinSamples: minRuns}
	switch t.Target {
	case FewAlarms:
		rule.Name, rule.Op, rule.Unit = fmt.Sprintf("aborted at a %s", t), gate.AtMost, gate.Ratio
		rule.What = "share of runs that are aborted although the shadow is what the tests allow"
	case FewTestAlarms:
		rule.Name, rule.Op, rule.Unit = fmt.Sprintf("aborted by a test at an %s", t), gate.AtMost, gate.Ratio
		rule.What = "share of runs that a test aborts although the shadow is what the tests allow"
	case SoonAborted:
		rule.Name, rule.Op, rule.Unit = fmt.Sprintf("median shadows to abort, %s", t), gate.Below, gate.Count
		rule.What = "number of shadows within which half of the runs are aborted"
	default:
		return rule, false
	}
	return rule, true
}

// minRuns is the fewest runs that can judge a target: fewer cannot distinguish 1 % from 0.
const minRuns = 500
