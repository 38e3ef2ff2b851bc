package evidencedoc

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/table"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/canary"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/driftfleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/report"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
)

// scorecard shows the headline figures of the newest file of each kind, the open ones first.
func (p *page) scorecard() error {
	p.line("\n## Scorecard")
	for _, rows := range []func() error{p.scoreOffline, p.scoreTests, p.scoreDrift, p.scoreCanary, p.scoreDay} {
		if err := rows(); err != nil {
			return err
		}
	}
	met := map[bool]int{true: 1}
	slices.SortStableFunc(p.scores, func(a, b score) int { return met[a.verdict.OK()] - met[b.verdict.OK()] })
	t := table.New("figure", "target", "achieved", "n", "verdict", "source", "file")
	for _, s := range p.scores {
		t.Row(s.name, s.target, s.achieved, s.n, bold(s.verdict), s.header.Source, p.to(s.file.name))
	}
	p.table(t)
	return nil
}

// score is a row of the scorecard.
type score struct {
	*file

	name, target, achieved string
	n                      uint64
	verdict                gate.Verdict
}

func (p *page) score(f *file, results ...gate.Result) {
	for _, r := range results {
		p.scores = append(p.scores, score{f, r.Name, r.Target(), r.Achieved(), r.N, r.Verdict})
	}
}

func (p *page) scoreOffline() error {
	f, e, err := named[experiment.EvalResult](p.folder, "eval_result.json")
	if f != nil && err == nil {
		p.score(f, experiment.Headline(gate.Scorecard{Results: e.Checks})...)
	}
	return err
}

func (p *page) scoreTests() error {
	f, r, err := named[traffic.SmokeResult](p.folder, "smoke_1k.json")
	if err != nil {
		return err
	}
	if f != nil {
		p.score(f, r.SLO.Results[:min(2, len(r.SLO.Results))]...)
	}
	for _, name := range []string{"shadow_replay.json", "shadow_smoke_1k.json"} { // the longer run comes first
		f, r, err := named[traffic.ShadowResult](p.folder, name)
		if f != nil && err == nil {
			p.score(f, r.SLO.Results...)
		}
		if f != nil || err != nil {
			return err
		}
	}
	return nil
}

func (p *page) scoreDrift() error {
	f, r, err := named[driftfleet.Report](p.folder, "psi_snapshot.json")
	if f == nil || err != nil {
		return err
	}
	if r.Overall == nil {
		p.score(f, gate.Result{Name: "PSI overall", Verdict: r.Verdict})
		return nil
	}
	index := func(name string, r drift.Reading) gate.Result {
		return gate.Result{Name: name, Verdict: r.Verdict, Value: &r.PSI, Op: gate.Below, Threshold: r.Threshold, N: uint64(r.Samples), Reason: r.Reason}
	}
	p.score(f, index("PSI overall", *r.Overall))
	var worst *drift.FeatureReading
	for i := range r.Features {
		if one := &r.Features[i]; one.Role == drift.ModelFeature && (worst == nil || one.PSI > worst.PSI) {
			worst = one
		}
	}
	if worst != nil {
		p.score(f, index("largest feature PSI, "+worst.Feature, worst.Reading))
	}
	return nil
}

// runs returns the canary runs of the folder, newest first.
func (p *page) runs() ([]run, error) {
	var all []run
	for _, f := range p.documents() {
		if f.header.Schema != canary.RunSchema {
			continue
		}
		r, err := as[canary.Record](f)
		if err != nil {
			return nil, err
		}
		all = append(all, run{f, r})
	}
	slices.SortStableFunc(all, func(a, b run) int { return b.StartTime.Compare(a.StartTime) })
	return all, nil
}

// run is a canary run with its file.
type run struct {
	*file
	*canary.Record
}

func (p *page) scoreCanary() error {
	runs, err := p.runs()
	if err != nil || len(runs) == 0 {
		return err
	}
	r := runs[0]
	for _, one := range runs { // prefer a run with several phases to a soak, which has only one
		if len(one.Policy.Phases) > 1 {
			r = one
			break
		}
	}
	passed := map[float64]bool{}
	for i := range r.Phases {
		passed[r.Phases[i].Percent] = r.Phases[i].Decision == canary.Passed
	}
	n := 0
	for _, percent := range r.Policy.Phases {
		if passed[percent] {
			n++
		}
	}
	name, verdict := "canary phases passed", gate.Fail
	if r.DryRun {
		name = "canary phases passed, dry run"
	}
	switch r.Decision {
	case canary.Passed:
		verdict = gate.Pass
	case canary.Running, canary.Interrupted:
		verdict = gate.Inconclusive
	default:
	}
	p.scores = append(p.scores, score{r.file, name, fmt.Sprintf(">= %d", len(r.Policy.Phases)), fmt.Sprintf("%d, %s", n, r.Decision), uint64(len(r.Phases)), verdict})
	return nil
}

// scoreDay scores the newest daily report.
func (p *page) scoreDay() error {
	days := p.match("daily/report_*.json")
	if len(days) == 0 {
		return nil
	}
	newest := slices.MaxFunc(days, func(a, b *file) int { return cmp.Compare(a.name, b.name) })
	s, err := as[report.Summary](newest)
	if err == nil {
		p.scores = append(p.scores, score{newest, "day " + s.Name, "all figures", fmt.Sprintf("%d requests", s.Requests), uint64(s.Samples), s.Verdict})
	}
	return err
}
