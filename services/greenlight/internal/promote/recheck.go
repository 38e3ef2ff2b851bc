package promote

import (
	"fmt"
	"slices"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/canary"
)

// Recheck says what of a run does not follow from its own counts, times and policy, whatever it says of itself: a verdict,
// a rate, a decision, whether it counts for a promotion. A phase whose counts were missing at the last look cannot be
// judged again, and does not pass.
func Recheck(r *canary.Record, source evidence.Source) []string {
	found := contradictions(r)
	add := func(wrong bool, format string, args ...any) {
		if wrong {
			found = append(found, fmt.Sprintf(format, args...))
		}
	}
	for i := range r.Phases {
		p := &r.Phases[i]
		counts, err := countsOf(p)
		if err != nil || len(p.Verdicts) == 0 {
			continue // nothing was seen of it, or contradictions has it
		}
		name := fmt.Sprintf("phase %v %%", p.Percent)
		missing := slices.ContainsFunc(p.Verdicts, func(v gate.Result) bool { return v.Verdict == gate.Error })
		add(!missing && p.Decision != canary.Passed && !slices.EqualFunc(r.Policy.JudgePhase(counts).Results, p.Verdicts, same),
			"%s has verdicts that do not follow from its counts", name)
		add(!ratio(p.MatchRate, counts.Matches, counts.Comparisons()), "%s has a match rate that does not follow from its counts", name)
		add(!ratio(p.ErrorRate, counts.Errors, counts.Tried()), "%s has an error rate that does not follow from its counts", name)
	}
	add(r.Aborted != (r.Decision == canary.Aborted || r.Decision == canary.Stopped), "it says aborted %v, and it is %s", r.Aborted, r.Decision)
	eligible, why := r.Eligible(source)
	add(eligible != r.PromoteEligible, "it says promote_eligible %v, and it is %v: %s", r.PromoteEligible, eligible, why)
	return found
}

// ratio says whether v is k of n; nil is no statement.
func ratio(v *float64, k, n uint64) bool {
	return v == nil || n > 0 && agree(*v, float64(k)/float64(n))
}
