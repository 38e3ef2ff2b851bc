package promote

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/outcome"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/quality"
)

// qualityPattern matches the files with the records of live quality.
const qualityPattern = "quality_*.json"

// subject is what a verdict on live quality must be about, in addition to the model.
type subject struct {
	plan outcome.Plan
	// baseline is the digest, version the version of the baseline.
	baseline, version string
	// by names the source of the plan.
	by string
}

// subject returns the plan and the baseline of the newest live run with a plan, otherwise those of the model's own evaluation.
// Both were fixed before anything ran.
func (j *judgment) subject(live []*run) (subject, error) {
	for _, r := range live {
		if r.QualityPlan != nil {
			return subject{*r.QualityPlan, r.BaselineDigest, r.BaselineVersion, r.Path}, r.QualityPlan.Validate()
		}
	}
	if j.artifact != nil && j.artifact.Baseline != nil {
		if own, err := experiment.Own(j.artifact); err == nil && own.QualityPlan != nil {
			return subject{own.QualityPlan.Plan, j.artifact.Baseline.Digest(), j.artifact.Baseline.Version, "its own evaluation"}, own.QualityPlan.Validate()
		}
	}
	return subject{}, errors.New("no live canary run of this model has a quality plan; create one with greenlight canary plan, with --quality-cap and --quality-margin if the model has no evaluation against the baseline")
}

// qualityReport is quality_<time>.json.
type qualityReport struct {
	evidence.Header
	quality.Report
}

// verdict is a live quality report and its file.
type verdict struct {
	*file
	*qualityReport
}

// quality judges the live quality by the newest records of the model, the baseline and the plan. It judges the records again,
// and ignores the recorded verdict.
func (j *judgment) quality(live []*run, err error) Row {
	rule := gate.Rule{Name: gate.LiveQuality, Op: gate.AtLeast, Threshold: 0, Unit: gate.Score, MinSamples: 2 * outcome.LeastBlocks}
	if err != nil {
		return missing(rule, err.Error())
	}
	about, err := j.subject(live)
	if err != nil {
		return missing(rule, err.Error())
	}
	rule.Threshold = -about.plan.Margin
	newest, others, err := j.verdicts(about)
	if err != nil {
		return missing(rule, err.Error())
	}
	if newest == nil {
		r := missing(rule, fmt.Sprintf("no %s of this model against %s under the plan %s of %s; a canary writes one at its end, and greenlight quality --executor at any time",
			qualityPattern, about.version, short(about.plan.Digest()), about.by))
		for _, other := range others {
			r.worsen(gate.Error, "%s", other)
		}
		return r
	}
	j.check.files = append(j.check.files, newest.file)
	v := outcome.Judge(about.plan, newest.Records)
	lower := v.Lower
	r := newRow(gate.Result{
		Name: rule.Name, Op: rule.Op, Threshold: rule.Threshold, Unit: rule.Unit, MinSamples: rule.MinSamples, Value: &lower, N: uint64(v.Counted),
		Verdict: v.Verdict.Gate(),
	}, newest.file)
	r.Note = fmt.Sprintf("%s, difference %+.4g to %+.4g by %d labels up to %s; cap %.3g, margin %.3g", v.Verdict, v.Lower, v.Upper, v.Total.Labels[outcome.Matured],
		minute(v.End), about.plan.DisagreementCap, about.plan.Margin)
	switch v.Verdict {
	case outcome.Pass, outcome.Better:
	case outcome.Inconclusive:
		r.Reason = strings.Join(append([]string{quality.SummaryOf(v).Needs()}, v.Reasons...), "; ")
	case outcome.Fail:
		r.Reason = "worse than " + about.version + ": " + strings.Join(v.Reasons, "; ")
	case outcome.Error:
		r.Reason = strings.Join(v.Reasons, "; ")
	}
	for _, problem := range newest.Recheck() {
		r.worsen(gate.Error, "%s %s", newest.Path, problem)
	}
	if least := quality.SourceOf(newest.Records); least != evidence.Live {
		r.worsen(gate.Fail, "%s says that its requests are live, but by their sources they are %s", newest.Path, least)
	}
	within := time.Duration(j.policy.Promotion.SoakWithin)
	switch age := j.now.Sub(v.End); {
	case age < -ahead:
		r.worsen(gate.Error, "its records lie in the future: a clock is wrong")
	case within > 0 && age > within:
		r.worsen(gate.Inconclusive, "stale: its records end at %s, more than %s ago", minute(v.End), j.policy.Promotion.SoakWithin)
	}
	return r
}

// verdicts returns the newest live report about the subject; nil if there is none. others has one sentence for each report of
// the model that does not count.
func (j *judgment) verdicts(about subject) (newest *verdict, others []string, err error) {
	names, err := fs.Glob(os.DirFS(j.folder), qualityPattern)
	if err != nil {
		return nil, nil, err
	}
	for _, name := range names {
		f, err := readFile(j.folder, name, "greenlight quality")
		if err != nil {
			return nil, nil, err // it might be the newest
		}
		if m := f.header.Model; m == nil || m.Digest != j.digest {
			continue
		}
		v := &verdict{f, &qualityReport{}}
		if err := f.as(v.qualityReport, quality.Schema); err != nil {
			return nil, nil, err
		}
		why := ""
		switch of := v.Judgment; {
		case !slices.Contains([]string{quality.Executors, quality.Logged}, v.Scores), f.header.Source != evidence.Live:
			why = fmt.Sprintf("is %s, %s: a promotion requires measurements on running services", f.header.Source, v.Scores)
		case of == nil:
			why = "has no plan"
		case of.Baseline != about.baseline:
			why = fmt.Sprintf("is against another baseline, digest %s", short(of.Baseline))
		case of.PlanDigest != about.plan.Digest():
			why = fmt.Sprintf("has another plan, %s: cap %.3g, margin %.3g", short(of.PlanDigest), of.Plan.DisagreementCap, of.Plan.Margin)
		case newest == nil || of.End.After(newest.Judgment.End) || of.End.Equal(newest.Judgment.End) && v.header.CreatedTime.After(newest.header.CreatedTime):
			newest = v
		}
		if why != "" {
			others = append(others, name+" "+why)
		}
	}
	return newest, others, nil
}
