// Package power measures the rules by which a canary is aborted, on simulated shadows of which the truth is known:
// how often they abort for nothing, and how soon they abort for something. The rules are those of [gate.Policy], by which
// a live canary is judged too.
package power

import (
	"fmt"
	"strconv"

	"github.com/greenlight-ml/greenlight/pkg/gate"
)

// Kind is how a shadow goes wrong.
type Kind int

// The kinds.
const (
	// Mismatch is a shadow that answered something else than the baseline.
	Mismatch Kind = iota
	// Failure is a shadow that did not answer, or too late.
	Failure

	kindEnd
)

// allowed is the rate of this kind that the policy's tests allow.
func (k Kind) allowed(p gate.Policy) float64 {
	if k == Mismatch {
		return 1 - p.SLO.MatchRate
	}
	return p.Abort.ErrorRate
}

// counts are those of n shadows of which so many went wrong, with a latency that nobody minds.
func (k Kind) counts(p gate.Policy, n, wrong int) gate.PhaseCounts {
	c := gate.PhaseCounts{Matches: uint64(n - wrong), P95MS: p.SLO.P95MS / 2}
	if k == Mismatch {
		c.Mismatches = uint64(wrong)
	} else {
		c.Errors = uint64(wrong)
	}
	return c
}

// Truth is how the shadows of a row are: each goes wrong by itself, at the same rate.
type Truth struct {
	Kind Kind
	// Rate is the share of shadows that go wrong, in (0,1).
	Rate float64
	// Target is what is asked of the rules for this truth.
	Target Target
	// Limit is the value that Target is judged against: a share for [FewAlarms], a number of shadows for [SoonAborted].
	Limit float64
}

// Target is what can be asked of the rules.
type Target int

// The targets.
const (
	// Shown asks nothing.
	Shown Target = iota
	// FewAlarms asks that at most so large a share of the runs is aborted.
	FewAlarms
	// FewTestAlarms asks the same of the tests alone.
	FewTestAlarms
	// SoonAborted asks that half of the runs are aborted in fewer than so many shadows.
	SoonAborted
)

// Truths are the rows: on the edge of what the tests allow, at the SLO, and beyond.
//
// The thresholds have no part in the alarms at an error rate of 2 %, which is the threshold itself: a run at exactly that
// rate is above it half of the time, and one that is stopped for it has missed the SLO of 1 % by far.
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

// String is the truth for people: "match rate of 95 %".
func (t Truth) String() string {
	if t.Kind == Mismatch {
		return "match rate of " + percent(1-t.Rate)
	}
	return "error rate of " + percent(t.Rate)
}

func percent(share float64) string {
	return strconv.FormatFloat(100*share, 'g', 6, 64) + " %"
}

// rule is the target as a rule of a scorecard; false when nothing is asked.
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

// minRuns is how many runs it takes to judge a target: fewer cannot tell 1 % from none.
const minRuns = 500
