package canaryview

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/plots"
	"github.com/greenlight-ml/greenlight/pkg/stats"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/canary"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/quality"
)

// Figure draws a run over time, as SVG.
func Figure(r *canary.Record, model string) ([]byte, error) {
	var phases []plots.CanaryPhase
	at := func(t time.Time) float64 { return t.Sub(r.StartTime).Seconds() }
	for _, p := range r.Phases {
		phase := plots.CanaryPhase{
			Percent: p.Percent, Begin: at(p.StartTime), End: at(p.EndTime), Passed: p.Decision == canary.Passed, Decision: string(p.Decision),
		}
		// If the controller was killed, the attempt ends when another controller resumes the run, which may be a day later.
		if n := len(p.Samples); p.Decision == canary.Interrupted && n > 0 {
			phase.End = min(phase.End, at(p.Samples[n-1].Time))
		} else if p.Decision == canary.Interrupted {
			phase.End = phase.Begin
		}
		for _, s := range p.Samples {
			phase.Samples = append(phase.Samples, sampleOf(at(s.Time), s))
		}
		phases = append(phases, phase)
	}
	var out bytes.Buffer
	err := plots.Canary(&out, title(r, model), subtitle(r), phases, limits(r.Policy, r.Policy.SLO), limits(r.Policy, r.Policy.Abort))
	return out.Bytes(), err
}

func limits(p gate.Policy, l gate.Limits) plots.CanaryLimits {
	if p.Improves() {
		l.MatchRate = math.NaN()
	}
	return plots.CanaryLimits{P95MS: l.P95MS, MatchRate: l.MatchRate, ErrorRate: l.ErrorRate}
}

func sampleOf(seconds float64, s canary.Sample) plots.CanarySample {
	match, errors, _ := s.Rates()
	l := plots.CanarySample{Seconds: seconds, P95MS: orNaN(s.P95MS), MatchRate: orNaN(match), MatchLow: math.NaN(), MatchHigh: math.NaN(), ErrorRate: orNaN(errors)}
	if match != nil {
		l.MatchLow, l.MatchHigh = stats.Wilson(s.Matches, s.Comparisons, stats.Z95)
	}
	return l
}

func orNaN(v *float64) float64 {
	if v == nil {
		return math.NaN()
	}
	return *v
}

// title names the model, the baseline and the decision.
func title(r *canary.Record, model string) string {
	kind := ""
	if r.DryRun {
		kind = "dry run of "
	}
	return fmt.Sprintf("%s%s against %s: %s", kind, model, r.BaselineVersion, r.Decision)
}

func subtitle(r *canary.Record) string {
	return fmt.Sprintf("%s, run %s; counts start at 0 in each phase; bands are 95 %% Wilson intervals", r.StartTime.UTC().Format("2006-01-02 15:04 UTC"), r.ID)
}

// Write writes the record of a run as name.json, its plot as name.svg and its table as name.md, and the records of its live
// quality as quality_<time>.json. git is the revision of the program.
func Write(store *evidence.Store, run *canary.Run, r *canary.Record, name, git string) error {
	inputs, err := run.Inputs()
	if err != nil {
		return err
	}
	m := run.Plan.Model
	header := evidence.Header{Schema: canary.RunSchema, Source: r.LeastSource(run.Plan.Source), Inputs: inputs, Model: &m, Git: git}
	if records := run.QualityRecords(); r.QualityPlan != nil && len(records) > 0 {
		report, err := quality.LiveReport(*r.QualityPlan, records, m.Version, r.BaselineVersion)
		if err != nil {
			return err
		}
		h := evidence.Header{Source: evidence.Sources{run.Plan.Source: 1}.Least(quality.SourceOf(records)), Model: &m, Git: git}
		if r.QualityRecords, err = report.Write(store, h, r.EndTime); err != nil {
			return err
		}
	}
	figure, err := Figure(r, m.Version)
	if err != nil {
		return err
	}
	return errors.Join(store.WriteJSON(name+".json", header, r), store.WriteFile(name+".svg", figure), store.WriteFile(name+".md", Markdown(r, m.Version)))
}
