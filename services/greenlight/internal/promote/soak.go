package promote

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/canary"
)

// span is a period in which all requests were shadowed.
type span struct{ from, to time.Time }

// soak judges how long all requests were shadowed and passed. It adds up the passed 100 % phases of all live runs of the model
// that ended within the policy's time. Only whole phases count. Time shared by two runs counts once.
//
// A soak is a canary run with a single phase of 100 % and the policy's length. The last phase of a canary counts too.
func (j *judgment) soak(live []*run, other []string, err error) Row {
	limits := j.policy.Promotion
	rule := gate.Rule{
		Name: Soak, Op: gate.AtLeast, Threshold: time.Duration(limits.Soak).Hours(), Unit: hours, MinSamples: j.policy.MinComparisons,
	}
	if limits.Soak == 0 {
		r := newRow(gate.Result{Name: Soak, Verdict: gate.Pass})
		r.Note = "the policy requires none"
		return r
	}
	if err != nil {
		return missing(rule, err.Error())
	}
	var spans []span
	var files []*file
	var compared uint64
	var refused []string
	var newest time.Time
	for _, r := range live {
		counted := false
		for i := range r.Phases {
			p := &r.Phases[i]
			if p.Percent != full || p.Decision != canary.Passed {
				continue
			}
			counts, why := j.soaked(r, p)
			if why != "" {
				refused = append(refused, fmt.Sprintf("%s does not count: %s", r.Path, why))
				continue
			}
			if p.EndTime.After(newest) {
				newest = p.EndTime
			}
			if j.now.Sub(p.EndTime) > time.Duration(limits.SoakWithin) {
				continue
			}
			spans, compared, counted = append(spans, span{p.StartTime, p.EndTime}), compared+counts.Comparisons(), true
		}
		if counted {
			files = append(files, r.file)
		}
	}
	var row Row
	switch {
	case len(spans) > 0:
		row = newRow(gate.Check(rule, gate.Measured(together(spans).Hours(), compared)), files...)
		refused = append(refused, "the last ended at "+minute(newest))
	case !newest.IsZero():
		row = newRow(gate.Check(rule, gate.Observation{}))
		row.Reason = fmt.Sprintf("stale: the last phase of 100 %% that passed ended at %s, more than %s ago", minute(newest), limits.SoakWithin)
	default:
		row = missing(rule, "no phase of 100 % has passed; a canary with only that phase, for "+limits.Soak.String()+", is a soak")
		row.dismiss(other)
	}
	row.Note = strings.Join(refused, "; ")
	return row
}

// soaked returns the counts of a phase of 100 %, or why it does not count.
func (j *judgment) soaked(r *run, p *canary.Phase) (c gate.PhaseCounts, why string) {
	if len(r.contradictions) > 0 {
		return c, r.contradictions[0]
	}
	if p.EndTime.After(j.now.Add(ahead)) {
		return c, "it lies in the future: a clock is wrong"
	}
	asked := j.policy
	asked.Phases = []float64{full}
	if laxer := r.Policy.Laxer(asked); len(laxer) > 0 {
		return c, "laxer than the policy in force: " + laxer[0]
	}
	c, err := countsOf(p)
	if err != nil {
		return c, err.Error()
	}
	if card := j.policy.JudgePhase(c); !card.Verdict().OK() {
		return c, "by the policy in force " + card.Summary()
	}
	if p.Sources == nil {
		return c, sourceUnknown
	}
	return c, ""
}

// together returns the length of the union of the spans.
func together(spans []span) time.Duration {
	slices.SortFunc(spans, func(a, b span) int { return a.from.Compare(b.from) })
	var sum time.Duration
	var end time.Time
	for _, s := range spans {
		if s.from.Before(end) {
			s.from = end
		}
		if s.to.After(s.from) {
			sum, end = sum+s.to.Sub(s.from), s.to
		}
	}
	return sum
}
