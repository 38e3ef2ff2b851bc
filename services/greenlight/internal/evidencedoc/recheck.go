package evidencedoc

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/outcome"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/agent"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/canary"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/driftcompare"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/driftfleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/gatedrill"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/gatekeeper"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/preflight"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/promote"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/quality"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/report"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/retrain"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
)

// Verify verifies the folder with [evidence.Verify]. If all files are unchanged, it judges every verdict again.
func Verify(dir string) (evidence.Report, error) {
	r, err := evidence.Verify(dir)
	if err != nil || !r.OK() {
		return r, err
	}
	f, err := open(dir)
	if err != nil {
		return r, err
	}
	r.Problems, err = f.recheck()
	return r, err
}

// recheck judges every verdict again and returns those that do not follow from their figures.
//
// Every judged figure in a file is judged again from its own value, threshold and number of samples. The recorded verdict must
// not be laxer than the result. In files of the exact schemas it must not be stricter either. A verdict on a list of figures
// must be the worst of them. A file of a known schema is also judged from its counts, and from the files that it was computed
// from, if the folder still has them.
func (f *folder) recheck() ([]evidence.Problem, error) {
	all := []evidence.Problem{}
	for _, one := range f.documents() {
		found, err := f.recheckFile(one)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

func (f *folder) recheckFile(one *file) ([]evidence.Problem, error) {
	c := checker{folder: f, file: one}
	if err := c.figures(one.raw, exact[one.header.Schema]); err != nil {
		return nil, fmt.Errorf("%s: %w", one.name, err)
	}
	if check := checks[one.header.Schema]; check != nil {
		if err := check(&c); err != nil {
			return nil, err
		}
	}
	return c.problems, nil
}

// checker judges one file and collects its problems.
type checker struct {
	*folder

	file     *file
	problems []evidence.Problem
}

func (c *checker) add(wrong bool, format string, args ...any) {
	if wrong {
		c.problems = append(c.problems, evidence.Problem{File: c.file.name, What: fmt.Sprintf(format, args...)})
	}
}

// exact are the schemas whose verdicts depend only on a figure's value, threshold and number of samples.
var exact = map[string]bool{
	experiment.EvalSchema: true, experiment.EvalSchemaV1: true, traffic.SmokeSchema: true, traffic.ShadowSchema: true, experiment.ScorecardSchema: true, canary.RunSchema: true,
	preflight.Schema: true, gatedrill.Schema: true, retrain.ReportSchema: true, retrain.ReportSchemaV2: true, retrain.ReportSchemaV1: true,
}

// checks are the additional checks for each known schema.
var checks = map[string]func(*checker) error{
	experiment.EvalSchema:   (*checker).eval,
	experiment.EvalSchemaV1: (*checker).eval,
	traffic.SmokeSchema:     check(func(c *checker, r *traffic.SmokeResult) { c.slo(r.Judge(), r.SLO) }),
	traffic.ShadowSchema:    check(func(c *checker, r *traffic.ShadowResult) { c.slo(r.Judge(), r.SLO) }),
	driftfleet.Schema:       check((*checker).snapshot),
	driftfleet.SchemaV1:     check((*checker).snapshot),
	driftcompare.Schema:     check((*checker).compare),
	driftcompare.SchemaV1:   check((*checker).compare),
	canary.RunSchema:        check((*checker).canary),
	quality.Schema:          check(func(c *checker, r *quality.Report) { c.all(r.Recheck()) }),
	report.DailySchema:      (*checker).daily,
	report.WeeklySchema:     (*checker).weekly,
	agent.SuggestionSchema:  check((*checker).suggestion),
	retrain.ReportSchema:    check((*checker).retrain),
	retrain.ReportSchemaV2:  check((*checker).retrain),
	retrain.ReportSchemaV1:  check((*checker).retrain),
	promote.CheckSchema:     (*checker).promotion,
	promote.PromotionSchema: (*checker).promotion,
	gatekeeper.PlanSchema:   (*checker).gatePlan,
	gatekeeper.RunSchema:    (*checker).gateRun,
	gatedrill.Schema:        check(func(c *checker, r *gatedrill.Report) { c.all(r.Recheck()) }),
}

// check returns the check of a schema: judge judges the decoded body.
func check[T any](judge func(*checker, *T)) func(*checker) error {
	return func(c *checker) error {
		body, err := as[T](c.file)
		if err == nil {
			judge(c, body)
		}
		return err
	}
}

func (c *checker) eval() error {
	e, err := as[experiment.EvalResult](c.file)
	if err != nil {
		return err
	}
	rules, judge := gate.OfflineJudgment(), (*experiment.OfflineReport).Judge
	if c.file.header.Schema == experiment.EvalSchemaV1 {
		rules, judge = gate.Offline(), (*experiment.OfflineReport).JudgeFigures
	} else if slices.ContainsFunc(e.Checks, func(r gate.Result) bool { return r.Name == gate.TableLeftOut }) {
		rules = gate.TableJudgment() // the report below must be for a table too
	}
	c.same(e.Checks, rules)
	for _, in := range c.file.header.Inputs {
		source := c.current(in)
		if source == nil || !experiment.IsOffline(source.header.Schema) {
			continue
		}
		offline, err := as[experiment.OfflineReport](source)
		if err != nil {
			return err
		}
		if offline.Report == nil {
			c.add(true, "was computed from %s, which has no figures", source.name)
			continue
		}
		c.add(!sameJudgment(judge(offline).Results, e.Checks), "has other figures than %s", source.name)
		if text := c.named["eval_result.txt"]; text != nil {
			c.text(text, fmt.Sprintf("%s: %s", offline.Version, e.Result), e.Checks)
		}
	}
	return nil
}

// slo compares an SLO table with the one that the counts give.
func (c *checker) slo(again, recorded gate.Scorecard) {
	c.add(!sameJudgment(again.Results, recorded.Results), "has an SLO table that does not follow from its counts")
}

func (c *checker) snapshot(r *driftfleet.Report) { c.all(r.Recheck(c.statusOf())) }

// statusOf returns the bands of PSI in the schema of the file.
func (c *checker) statusOf() func(float64) drift.Status {
	switch c.file.header.Schema {
	case driftfleet.SchemaV1, driftcompare.SchemaV1:
		return drift.StatusOfV1
	default:
		return drift.StatusOf
	}
}

func (c *checker) compare(r *driftcompare.Report) {
	c.all(r.Recheck(c.statusOf()))
	c.classifier(r.Classifier)
}

func (c *checker) canary(r *canary.Record) {
	c.all(promote.Recheck(r, c.file.header.Source))
	c.liveQuality(r)
}

// liveQuality judges the live quality of a run again, from the records in the file that the run names.
func (c *checker) liveQuality(r *canary.Record) {
	var records []outcome.Record
	if r.QualityRecords != "" {
		source := c.named[r.QualityRecords]
		if source == nil || source.header.Schema != quality.Schema {
			c.add(true, "was judged from the records in %s, which does not exist", r.QualityRecords)
			return
		}
		of, err := as[quality.Report](source)
		if err != nil {
			c.add(true, "was judged from the records in %s, which cannot be read: %v", r.QualityRecords, err)
			return
		}
		records = of.Records
	}
	c.all(r.RecheckQuality(records))
}

func (c *checker) retrain(r *retrain.Report) {
	rules, judge := gate.OfflineJudgment(), (*experiment.OfflineReport).Judge
	if c.file.header.Schema == retrain.ReportSchemaV1 {
		rules, judge = gate.Offline(), (*experiment.OfflineReport).JudgeFigures
	}
	c.same(r.Checks, rules)
	verdict := gate.Scorecard{Results: r.Checks}.Verdict()
	c.add(r.Result != verdict, "records %s, but its checks give %s", r.Result, verdict)
	c.add(r.Evaluation != nil && r.Evaluation.Report != nil && !sameJudgment(judge(r.Evaluation).Results, r.Checks), "has checks that do not follow from its evaluation")
}

// gatePlan checks that the plan is valid, and that the promotion that it names is for its model.
func (c *checker) gatePlan() error {
	f, err := gatekeeper.ParsePlan(c.file.raw)
	if err != nil {
		c.add(true, "has an invalid plan: %v", err)
		return nil
	}
	if source := c.current(f.Promotion); source != nil {
		promoted, err := as[promote.Record](source)
		if err != nil {
			return err
		}
		c.add(promoted.Digest != f.Model.Digest, "lets %s decide, but %s is for a model with digest %.12s", f.Model, source.name, promoted.Digest)
	}
	return nil
}

// gateRun adds up the decisions of a gate again, and checks the run against its plan and its phrase.
func (c *checker) gateRun() error {
	r, err := as[gatekeeper.Record](c.file)
	if err != nil {
		return err
	}
	var plan *gatekeeper.Plan
	if source := c.current(r.PlanFile); source != nil {
		if plan, err = gatekeeper.ParsePlan(source.raw); err != nil {
			return fmt.Errorf("%s: %w", source.name, err)
		}
	}
	c.all(r.Recheck(c.file.header.Source, plan))
	return nil
}

func (c *checker) suggestion(s *agent.Suggestion) {
	c.add(s.Threshold != drift.CriticalAbove || s.PSI <= s.Threshold || s.PSIMax < s.PSI || s.Hours < 1 || s.Status != drift.Critical,
		"suggests a retraining for a PSI of %v over %d hours; the PSI must be above %v", s.PSI, s.Hours, drift.CriticalAbove)
}

func (c *checker) all(found []string) {
	for _, what := range found {
		c.add(true, "%s", what)
	}
}

// same checks that the figures were judged by the rules, so that edited thresholds are found.
func (c *checker) same(figures []gate.Result, rules []gate.Rule) {
	c.add(!slices.EqualFunc(figures, rules, func(r gate.Result, rule gate.Rule) bool {
		return r.Name == rule.Name && r.Op == rule.Op && r.Threshold == rule.Threshold && r.MinSamples == max(1, rule.MinSamples) && r.Miss == rule.Miss
	}), "was not judged by the rules of its gate")
}

// sameJudgment reports whether two lists of figures agree. It does not compare the reasons: their wording may change
// between versions, and evidence lives longer.
func sameJudgment(a, b []gate.Result) bool {
	return slices.EqualFunc(a, b, func(a, b gate.Result) bool {
		if a.Name != b.Name || a.Verdict != b.Verdict || a.Op != b.Op || a.Threshold != b.Threshold || a.N != b.N || a.MinSamples != b.MinSamples {
			return false
		}
		if a.Value == nil || b.Value == nil {
			return a.Value == b.Value
		}
		return math.Abs(*a.Value-*b.Value) <= 1e-9*max(1, math.Abs(*a.Value))
	})
}

// text checks a file for people. It must contain the title and, for every figure, a line that begins with its name and
// contains its verdict.
func (c *checker) text(text *file, title string, figures []gate.Result) {
	var wrong []string
	if !strings.Contains(string(text.raw), title) {
		wrong = append(wrong, title)
	}
	for _, r := range figures {
		if !slices.ContainsFunc(strings.Split(string(text.raw), "\n"), func(line string) bool {
			return strings.HasPrefix(strings.TrimLeft(line, "| "), r.Name+" ") && slices.Contains(strings.Fields(line), string(r.Verdict))
		}) {
			wrong = append(wrong, fmt.Sprintf("%s %s", r.Name, r.Verdict))
		}
	}
	c.add(len(wrong) > 0, "disagrees with %s, which lacks: %s", text.name, strings.Join(wrong, ", "))
}
