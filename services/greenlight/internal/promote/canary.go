package promote

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/oip"
	"github.com/greenlight-ml/greenlight/pkg/shadow"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/canary"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/driftview"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

// runPattern matches the files of canary runs. Dry runs have another name, and do not count.
const runPattern = "canary_run_*.json"

// sourceUnknown is the reason of a phase whose requests may not be live.
const sourceUnknown = "the executors did not say whether its requests were live: run the canary again with executors that do"

// full is the percent of all requests.
const full = 100

// run is a live run of a canary of the model.
type run struct {
	*file

	canary.Record

	// contradictions are the parts of the record that do not follow from its counts and times.
	contradictions []string
}

// runRecord is canary_run_<time>.json.
type runRecord struct {
	evidence.Header
	canary.Record
}

// runs reads the live runs of the model, newest first. other has one sentence for each run that is not live, or that used a
// model server. An unreadable file is an error, because it might be the newest run.
func (j *judgment) runs() (live []*run, other []string, err error) {
	names, err := fs.Glob(os.DirFS(j.folder), runPattern)
	if err != nil {
		return nil, nil, err
	}
	for _, name := range names {
		f, err := j.read(name, "greenlight canary start")
		if err != nil {
			return nil, nil, err
		}
		m := f.header.Model
		if m != nil && oip.Unpinned(m.Digest) {
			other = append(other, fmt.Sprintf("%s is of %s of a model server: %s", name, m.Version, oip.Unpromotable))
		}
		if m == nil || m.Digest != j.digest {
			continue
		}
		var r runRecord
		if err := f.decode(&r); err != nil {
			return nil, nil, err
		}
		switch {
		case r.Source != evidence.Live:
			other = append(other, fmt.Sprintf("%s "+liveIsRequired, name, r.Source))
		case r.DryRun:
			other = append(other, name+" is a dry run: no executor in production was touched")
		default:
			found := contradictions(&r.Record)
			if least := r.LeastSource(evidence.Live); least != evidence.Live {
				found = append(found, fmt.Sprintf("it says that its requests are live, but by their sources they are %s", least))
			}
			live = append(live, &run{f, r.Record, found})
		}
	}
	slices.SortFunc(live, func(a, b *run) int { return b.StartTime.Compare(a.StartTime) })
	return live, other, nil
}

// soaks reports whether the run is a soak: a single phase of 100 %.
func (r *run) soaks() bool { return slices.Equal(r.Policy.Phases, []float64{full}) }

// canary judges whether the newest live run with several phases passed them all, and by which policy.
func (j *judgment) canary(live []*run, other []string, err error) (phases, policy Row) {
	rules := [2]gate.Rule{
		{
			Name: CanaryPhases, Op: gate.AtLeast, Threshold: float64(len(j.policy.Phases)), Unit: gate.Count,
			MinSamples: j.policy.MinComparisons * uint64(len(j.policy.Phases)),
		},
		{Name: CanaryPolicy, Op: gate.AtMost, Threshold: 0, Unit: gate.Count},
	}
	climbing := j.climbing(live)
	if err == nil && climbing == nil {
		err = errors.New("no live canary run of this model; start one with greenlight canary start")
	}
	if err != nil {
		phases, policy = missing(rules[0], err.Error()), missing(rules[1], err.Error())
		phases.dismiss(other)
		return phases, policy
	}
	passed, compared, why := j.passed(climbing)
	phases = newRow(gate.Check(rules[0], gate.Measured(float64(passed), compared)), climbing.file)
	phases.Note = fmt.Sprintf("run %s of %s", climbing.ID, minute(climbing.StartTime))
	for _, what := range why {
		phases.worsen(gate.Inconclusive, "%s", what) // missing phases are judged already
	}
	for _, what := range climbing.contradictions {
		phases.worsen(gate.Error, "%s: %s", climbing.Path, what)
	}
	if newest := live[0]; newest != climbing && newest.Decision != canary.Passed {
		phases.Evidence = append(phases.Evidence, newest.Input)
		phases.ended(newest)
	}
	phases.ended(climbing)
	if climbing.Confirmation == "" {
		phases.worsen(gate.Fail, "%s was not confirmed", climbing.Path)
	}
	laxer := climbing.Policy.Laxer(j.policy)
	policy = problems(CanaryPolicy, laxer, len(climbing.Policy.Phases), climbing.file)
	if len(laxer) > 0 {
		policy.Reason = "laxer than the policy in force: " + policy.Reason
	}
	return phases, policy
}

// dismiss adds the number of runs that do not count, and why the newest of them does not.
func (r *Row) dismiss(other []string) {
	switch n := len(other); n {
	case 0:
	case 1:
		r.worsen(gate.Fail, "%s", other[0])
	default:
		r.worsen(gate.Fail, "%s; %d before it do not count either", other[n-1], n-1)
	}
}

// climbing returns the newest run that is not a soak; if the policy in force starts with 100 %, the newest run.
func (j *judgment) climbing(live []*run) *run {
	atOnce := slices.Equal(j.policy.Phases, []float64{full})
	for _, r := range live {
		if atOnce || !r.soaks() {
			return r
		}
	}
	return nil
}

// ended worsens the row if the run did not pass.
func (r *Row) ended(by *run) {
	switch {
	case by.Aborted, by.Decision == canary.Aborted, by.Decision == canary.Stopped:
		r.worsen(gate.Fail, "%s is %s: %s", by.Path, by.Decision, by.Reason)
	case by.Decision != canary.Passed:
		r.worsen(gate.Inconclusive, "%s is %s", by.Path, by.Decision)
	}
}

// passed counts the phases of the policy in force that the run has passed, by its own policy and by the one in force, and
// their comparisons. It also lists the missing phases. The last attempt at a phase decides.
func (j *judgment) passed(r *run) (n int, compared uint64, lacking []string) {
	for _, percent := range j.policy.Phases {
		p := last(r.Phases, percent)
		if p == nil {
			lacking = append(lacking, fmt.Sprintf("%v %%: not begun", percent))
			continue
		}
		counts, err := countsOf(p)
		card := j.policy.JudgePhase(counts)
		switch {
		case err != nil:
			lacking = append(lacking, fmt.Sprintf("%v %%: %v", percent, err))
		case p.Decision != canary.Passed:
			lacking = append(lacking, fmt.Sprintf("%v %%: %s: %s", percent, p.Decision, p.Reason))
		case !card.Verdict().OK():
			lacking = append(lacking, fmt.Sprintf("%v %%: by the policy in force %s: %s", percent, card.Summary(), reasons(card)))
		case p.Sources == nil:
			lacking = append(lacking, fmt.Sprintf("%v %%: %s", percent, sourceUnknown))
		default:
			n, compared = n+1, compared+counts.Comparisons()
			if percent == full { // an exact value, never computed
				j.check.Canary = &Canary{
					Run: r.ID, Comparisons: counts.Comparisons(), P95MS: counts.P95MS,
					MatchRate: float64(counts.Matches) / float64(counts.Comparisons()), ErrorRate: float64(counts.Errors) / float64(counts.Tried()),
				}
			}
		}
	}
	return n, compared, lacking
}

func last(phases []canary.Phase, percent float64) *canary.Phase {
	for i := range slices.Backward(phases) {
		if phases[i].Percent == percent { // shares are exact values, never computed
			return &phases[i]
		}
	}
	return nil
}

func reasons(card gate.Scorecard) string {
	var why []string
	for _, r := range card.Results {
		if r.Reason != "" {
			why = append(why, r.Name+": "+r.Reason)
		}
	}
	return strings.Join(why, "; ")
}

// recheckP95 returns an error if the p95 of a phase does not follow from its histogram. Files of older versions have none.
func recheckP95(p *canary.Phase) error {
	if p.Latency == nil {
		return nil
	}
	tried := fleet.Counts{Requests: p.Requests, Outcomes: p.Outcomes}.Phase().Tried()
	if h := p.Latency; !h.Known() || !slices.IsSorted(h.Edges) {
		return fmt.Errorf("its latency histogram has %d edges, which must ascend, and %d counts", len(h.Edges), len(h.Counts))
	}
	switch p95, missing := canary.P95(*p.Latency, tried); {
	case missing != "":
		return errors.New(missing)
	case p.P95MS == nil || !driftview.Agree(*p.P95MS, p95):
		return fmt.Errorf("its latency histogram gives a p95 of %s", gate.Millis.Format(p95))
	}
	return nil
}

// countsOf returns the counts behind the verdict of a phase. It returns an error if they contradict each other.
func countsOf(p *canary.Phase) (gate.PhaseCounts, error) {
	counts := fleet.Counts{Requests: p.Requests, Outcomes: p.Outcomes}
	c, ended := counts.Phase(), counts.Ended()
	if p.P95MS != nil {
		c.P95MS = *p.P95MS
	}
	known := 0
	for _, o := range shadow.Outcomes() {
		if _, ok := p.Outcomes[o.String()]; ok {
			known++
		}
	}
	var bySource uint64
	for _, n := range p.Sources {
		bySource += n
	}
	switch {
	case known != len(p.Outcomes):
		return c, errors.New("it has unknown outcomes")
	case !fleet.Accounted(p.Requests, ended):
		return c, fmt.Errorf("it has %d requests, but %d outcomes", p.Requests, ended)
	case p.Sources != nil && !fleet.Accounted(p.Requests, bySource):
		return c, fmt.Errorf("it has %d requests, but its sources add up to %d", p.Requests, bySource)
	}
	return c, nil
}

// contradictions returns the parts of the record that do not follow from its counts and times. It checks only phases that
// PASSED, because nothing else counts.
func contradictions(r *canary.Record) []string {
	var found []string
	add := func(wrong bool, format string, args ...any) {
		if wrong {
			found = append(found, fmt.Sprintf(format, args...))
		}
	}
	if err := r.Policy.Validate(); err != nil {
		return []string{err.Error()}
	}
	for i := range r.Phases {
		p := &r.Phases[i]
		name := fmt.Sprintf("phase %v %%", p.Percent)
		if err := recheckP95(p); err != nil {
			add(true, "%s: %v", name, err)
		}
		for _, what := range recheckFleet(r.Fleet, p) {
			add(true, "%s: %s", name, what)
		}
		if p.Decision != canary.Passed {
			continue
		}
		add(p.Index < 0 || p.Index >= len(r.Policy.Phases) || r.Policy.Phases[max(0, min(p.Index, len(r.Policy.Phases)-1))] != p.Percent,
			"%s is not phase %d of its policy", name, p.Index)
		add(p.StartTime.Before(r.StartTime) || p.EndTime.After(r.EndTime), "%s is not within the run", name)
		took := gate.Duration(p.EndTime.Sub(p.StartTime))
		add(took < r.Policy.PhaseDuration, "%s took %s of %s", name, took, r.Policy.PhaseDuration)
		counts, err := countsOf(p)
		add(err != nil, "%s: %v", name, err)
		card := r.Policy.JudgePhase(counts)
		add(!card.Verdict().OK(), "%s says %s, but by its counts it is %s: %s", name, p.Decision, card.Verdict(), reasons(card))
		if aborts := r.Policy.Aborts(counts); len(aborts) > 0 {
			add(true, "%s says %s, but should have been aborted: %s", name, p.Decision, strings.Join(aborts, "; "))
		}
		add(!slices.EqualFunc(card.Results, p.Verdicts, same), "%s has verdicts that do not follow from its counts", name)
	}
	for _, percent := range r.Policy.Phases {
		p := last(r.Phases, percent)
		add(r.Decision == canary.Passed && (p == nil || p.Decision != canary.Passed), "it says %s without phase %v %%", r.Decision, percent)
	}
	return found
}

// same reports whether two results are equal.
func same(a, b gate.Result) bool {
	if a.Name != b.Name || a.Verdict != b.Verdict || a.N != b.N || a.Op != b.Op || !driftview.Agree(a.Threshold, b.Threshold) {
		return false
	}
	if a.Value == nil || b.Value == nil {
		return a.Value == b.Value
	}
	return driftview.Agree(*a.Value, *b.Value)
}
