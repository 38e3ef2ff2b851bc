package promote

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/shadow"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/canary"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/driftview"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

// Recheck returns the parts of a run that do not follow from its own counts, times and policy: a verdict, a rate, a decision,
// or whether it counts for a promotion. A phase without counts from the last poll cannot be judged again, and does not pass.
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
			continue // without counts, or reported by contradictions
		}
		name := fmt.Sprintf("phase %v %%", p.Percent)
		missing := slices.ContainsFunc(p.Verdicts, func(v gate.Result) bool { return v.Verdict == gate.Error })
		add(!missing && p.Decision != canary.Passed && !slices.EqualFunc(r.Policy.JudgePhase(counts).Results, p.Verdicts, same),
			"%s has verdicts that do not follow from its counts", name)
		add(!ratio(p.MatchRate, counts.Matches, counts.Comparisons()), "%s has a match rate that does not follow from its counts", name)
		add(!ratio(p.ErrorRate, counts.Errors, counts.Tried()), "%s has an error rate that does not follow from its counts", name)
		add(!ratio(p.Coverage, counts.Comparisons(), counts.Sampled()), "%s has a coverage that does not follow from its counts", name)
		for _, poll := range p.Samples {
			c := gate.PhaseCounts{Matches: poll.Matches, Mismatches: poll.Comparisons - poll.Matches, Errors: poll.Errors, Unseen: poll.Unseen, P95MS: math.NaN()}
			if poll.P95MS != nil {
				c.P95MS = *poll.P95MS
			}
			verdict := r.Policy.JudgePhase(c).Verdict()
			add(poll.Verdict != gate.Error && poll.Verdict != verdict, "%s says %s at %s, but by its counts it was %s", name, poll.Verdict, minute(poll.Time), verdict)
		}
	}
	for i := 1; i < len(r.Phases); i++ {
		before, p := &r.Phases[i-1], &r.Phases[i]
		add(p.Index > before.Index && before.Decision != canary.Passed, "phase %v %% is %s, but phase %v %% was begun after it", before.Percent, before.Decision, p.Percent)
	}
	if n := len(r.Phases); n > 0 && r.Aborted {
		last := r.Phases[n-1].Decision
		add((last == canary.Aborted || last == canary.Stopped) && last != r.Decision, "it is %s, but its last phase is %s", r.Decision, last)
	}
	add(r.Aborted != (r.Decision == canary.Aborted || r.Decision == canary.Stopped), "it says aborted %v, but it is %s", r.Aborted, r.Decision)
	least := r.LeastSource(source)
	add(least != source, "it says that its requests are %s, but by their sources they are %s", source, least)
	eligible, why := r.Eligible(source)
	add(eligible != r.PromoteEligible, "it says promote_eligible %v, but it is %v: %s", r.PromoteEligible, eligible, why)
	return found
}

// recheckFleet returns what contradicts the counts of the executors of a group.
func recheckFleet(f *canary.RecordFleet, p *canary.Phase) []string {
	switch {
	case f == nil && p.Fleet == nil, p.Fleet == nil && p.Decision != canary.Passed:
		return nil
	case f == nil || p.Fleet == nil:
		return []string{"it has the executors' counts of a group in only one of two places"}
	}
	var found []string
	add := func(wrong bool, format string, args ...any) {
		if wrong {
			found = append(found, fmt.Sprintf(format, args...))
		}
	}
	sum := fleet.Sum{}
	seen := map[string]bool{}
	for _, e := range p.Fleet.Executors {
		add(seen[e.Executor], "executor %s counts twice", e.Executor)
		seen[e.Executor] = true
		c := fleet.Counts{Requests: e.Requests, Outcomes: e.Outcomes, Sources: e.Sources}
		if e.Latency != nil {
			c.Latency = *e.Latency
		}
		sum.Add(e.Executor, c)
	}
	want := f.Needed(p.Fleet.Present)
	add(p.Decision == canary.Passed && len(p.Fleet.Executors) < want, "%d executors have counts, of %d that were present: want %d", len(p.Fleet.Executors), p.Fleet.Present, want)
	add(sum.Requests != p.Requests, "its executors have %d requests, but it has %d", sum.Requests, p.Requests)
	for _, o := range shadow.Outcomes() {
		add(sum.Of(o) != p.Outcomes[o.String()], "its executors have %d with outcome %s, but it has %d", sum.Of(o), o, p.Outcomes[o.String()])
	}
	add(!maps.Equal(sum.Sources, p.Sources), "the sources of its executors differ from its own")
	if h := p.Latency; h != nil {
		add(sum.LatencyMissing != "" || !slices.Equal(sum.Latency.Counts, h.Counts) || !slices.Equal(sum.Latency.Edges, h.Edges), "the latencies of its executors differ from its own")
	}
	return found
}

// ratio reports whether v is nil or k/n.
func ratio(v *float64, k, n uint64) bool {
	return v == nil || n > 0 && driftview.Agree(*v, float64(k)/float64(n))
}
