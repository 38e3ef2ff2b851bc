// Package quality answers whether a model is at least as good as a baseline on what really happened. It uses the records of
// running executors, the scores in a feature log with the labels of market data, or out-of-time scores.
package quality

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/eval"
	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/outcome"
	"github.com/greenlight-ml/greenlight/pkg/plots"
	"github.com/greenlight-ml/greenlight/pkg/table"
)

// Schema is the evidence schema of quality_<time>.json.
const Schema = "greenlight/quality/v1"

// The kinds of scores of a report.
const (
	Executors = "executors"    // as executors joined them to their labels
	Logged    = "feature_log"  // as an executor logged them
	OutOfTime = "walk_forward" // out of time, by models that were trained for this report
)

// Report is the body of quality_<time>.json. Everything but Scores, Suggested and Precision follows from the records.
type Report struct {
	Scores   string `json:"scores"`
	Model    string `json:"model_version"`
	Baseline string `json:"baseline_version"`
	// Judgment is nil if there was no plan before the scores were known.
	Judgment *outcome.Judgment `json:"judgment"`
	// Suggested is the plan that these rows suggest for future days.
	Suggested *outcome.Plan `json:"suggested_plan"`
	// Figures is nil if no row has matured.
	Figures *outcome.Figures `json:"figures"`
	// Precision is P@20 of both scorers, over the rows with a label.
	Precision *Precision      `json:"precision"`
	Records   outcome.Records `json:"records"`
	// Skipped counts the omitted rows of a log, by reason.
	Skipped map[string]int `json:"skipped,omitempty"`
}

// Precision is P@20 of the baseline and of the policy score, with intervals by bootstrap of whole days.
type Precision struct {
	N        int     `json:"n"`
	Days     int     `json:"days"`
	BaseRate float64 `json:"base_rate"`
	Baseline Top     `json:"baseline"`
	Policy   Top     `json:"policy"`
}

// Top is P@20 of one scorer. Lift is relative to the base rate. Interval is nil with too few days.
type Top struct {
	PrecisionAt20 float64        `json:"precision_at_20"`
	Lift          float64        `json:"lift"`
	Interval      *eval.Interval `json:"interval"`
}

// sample holds matured rows with both scores.
type sample struct {
	baseline, policy []float64
	labels           []bool
	days             []int
}

func (s *sample) add(baseline, policy float64, y bool, day int) {
	s.baseline, s.policy, s.labels, s.days = append(s.baseline, baseline), append(s.policy, policy), append(s.labels, y), append(s.days, day)
}

// precision returns nil if all labels of the rows are equal.
func (s *sample) precision() *Precision {
	p := &Precision{N: len(s.labels), BaseRate: eval.BaseRate(s.labels)}
	for _, one := range []struct {
		scores []float64
		top    *Top
	}{{s.baseline, &p.Baseline}, {s.policy, &p.Policy}} {
		of := eval.Sample{Scores: one.scores, Labels: s.labels, Days: s.days}
		m, err := eval.Measure(of)
		if err != nil {
			return nil
		}
		*one.top = Top{PrecisionAt20: m.PrecisionAt20, Lift: m.Lift}
		if in, err := eval.DefaultBootstrap().Intervals(of); err == nil {
			one.top.Interval, p.Days = &in.PrecisionAt20, in.Days
		}
	}
	return p
}

// Judge fills in what follows from the records. plan is nil if there was none; then the rows are described without a cap.
func (r *Report) Judge(plan *outcome.Plan) error {
	of := outcome.Plan{}
	if plan != nil {
		of, r.Judgment = *plan, outcome.Judge(*plan, r.Records)
	}
	var err error
	r.Figures, err = outcome.Describe(of, r.Records, eval.DefaultBootstrap())
	return err
}

// Recheck judges the records again, and returns what in the report contradicts them.
func (r *Report) Recheck() (problems []string) {
	again := &Report{Records: r.Records}
	var plan *outcome.Plan
	if r.Judgment != nil {
		plan = &r.Judgment.Plan
	}
	if err := again.Judge(plan); err != nil {
		return []string{err.Error()}
	}
	for _, part := range []struct {
		what       string
		have, want any
	}{{"a judgment that does", r.Judgment, again.Judgment}, {"figures that do", r.Figures, again.Figures}} {
		if where := differs(plain(part.have), plain(part.want)); where != "" {
			problems = append(problems, fmt.Sprintf("has %s not follow from its records: %s", part.what, where))
		}
	}
	return problems
}

// plain returns v as decoded from its JSON.
func plain(v any) (p any) {
	raw, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(raw, &p)
	}
	if err != nil {
		return err.Error()
	}
	return p
}

// differs returns the path of the first difference between two values from JSON, or "". Numbers may differ by rounding, and
// the wording of reasons may change between versions.
func differs(have, want any) string {
	switch w := want.(type) {
	case map[string]any:
		h, ok := have.(map[string]any)
		if !ok || len(h) != len(w) {
			return "another form"
		}
		for key, value := range w {
			if key == "reasons" {
				continue
			}
			if where := differs(h[key], value); where != "" {
				return strings.TrimSuffix(key+"."+where, ".")
			}
		}
	case []any:
		h, ok := have.([]any)
		if !ok || len(h) != len(w) {
			return "another length"
		}
		for i, value := range w {
			if where := differs(h[i], value); where != "" {
				return strings.TrimSuffix(fmt.Sprintf("%d.%s", i, where), ".")
			}
		}
	case float64:
		h, ok := have.(float64)
		if !ok || math.Abs(h-w) > 1e-9*max(1, math.Abs(w)) {
			return fmt.Sprintf("%v, want %v", have, w)
		}
	default:
		if have != want {
			return fmt.Sprintf("%v, want %v", have, want)
		}
	}
	return ""
}

// Write writes quality_<time>.json and its figure, and returns the name.
func (r *Report) Write(store *evidence.Store, header evidence.Header, now time.Time) (string, error) {
	return r.WriteAs(store, header, "quality_"+now.UTC().Format("20060102T150405Z"))
}

// WriteAs writes the report and its figure under a name without extension, and returns the name of the report.
func (r *Report) WriteAs(store *evidence.Store, header evidence.Header, stem string) (string, error) {
	header.Schema = Schema
	if r.Judgment != nil && len(r.Judgment.Points) > 0 {
		var svg bytes.Buffer
		title := r.Model + " beside " + r.Baseline
		if header.Source == evidence.Simulated {
			title += " (SIMULATED)"
		}
		if err := plots.Quality(&svg, title, r.Judgment); err != nil {
			return "", err
		}
		if err := store.WriteFile(stem+".svg", svg.Bytes()); err != nil {
			return "", err
		}
	}
	return stem + ".json", store.WriteJSON(stem+".json", header, r)
}

// Pairs returns the verdict and the figures as name-value pairs.
func (r *Report) Pairs() [][2]string {
	var pairs [][2]string
	add := func(name, format string, args ...any) {
		pairs = append(pairs, [2]string{name, fmt.Sprintf(format, args...)})
	}
	if v := r.Judgment; v != nil {
		add("verdict", "%s%s", v.Verdict, meaning[v.Verdict])
		for _, reason := range v.Reasons {
			add("", "%s", reason)
		}
		add("difference", "%+.5f a row; the mean of all blocks so far is between %+.5f and %+.5f, alpha %.3g a side", v.Difference,
			max(v.Streams[0].LastLower, v.Streams[1].LastLower), min(v.Streams[0].LastUpper, v.Streams[1].LastUpper), v.Plan.Alpha)
		add("plan", "cap %.4g, margin %.4g, labels from %s, horizon %v, digest %.12s", v.Plan.DisagreementCap, v.Plan.Margin, v.Plan.LabelSource, v.Plan.Horizon(), v.PlanDigest)
		add("blocks", "%d of %d with requests count, even %d, odd %d, of %v", v.Counted, v.Blocks, v.Streams[0].Blocks, v.Streams[1].Blocks, v.Plan.Width())
		for _, c := range v.Claims {
			add("claim", "%s%s, by the %s blocks up to %s, after %s", c.Verdict, meaning[c.Verdict], c.Stream, c.Time.Format("2006-01-02 15:04"), outcome.Days(c.Time.Sub(v.Start).Hours()/24))
		}
		switch {
		case v.DaysNeeded == nil:
			add("needed", "it never passes at the difference so far; equal scorers pass after %s", outcome.Days(v.LeastDays))
		case *v.DaysNeeded > 0:
			add("needed", "%s more at the difference so far; equal scorers pass after %s", outcome.Days(*v.DaysNeeded), outcome.Days(v.LeastDays))
		}
		add("labels", "%s", counts(&v.Total))
		add("scores", "%.2f %% answered, %.2f %% over the cap", 100*v.Shares.Answered, 100*v.Shares.OverCap)
	}
	if p := r.Suggested; p != nil {
		add("suggested", "--quality-cap %.4g --quality-margin %.4g, from these rows for days to come: a verdict takes at least %s", p.DisagreementCap, p.Margin, outcome.Days(p.LeastDays()))
	}
	return pairs
}

var meaning = map[outcome.Verdict]string{
	outcome.Fail: " (worse)", outcome.Better: " (better, a PASS)", outcome.Pass: " (not worse)",
}

// counts writes the non-zero label counts of a record.
func counts(r *outcome.Record) string {
	var words []string
	for _, l := range outcome.Labels() {
		if n := r.Labels[l]; n > 0 || l == outcome.Matured {
			words = append(words, fmt.Sprintf("%d %v", n, l))
		}
	}
	if r.Lost > 0 {
		words = append(words, fmt.Sprintf("%d lost", r.Lost))
	}
	return strings.Join(words, ", ")
}

// Table writes the verdict, the figures of both scorers and the bounds over time.
func (r *Report) Table(w io.Writer) error {
	if err := table.Pairs(w, r.Pairs()); err != nil {
		return err
	}
	if f := r.Figures; f != nil {
		if _, err := io.WriteString(w, "\n"); err != nil {
			return err
		}
		if err := r.scorers(f).Text(w); err != nil {
			return err
		}
	}
	if r.Judgment == nil || len(r.Judgment.Points) == 0 {
		return nil
	}
	if _, err := io.WriteString(w, "\n"); err != nil {
		return err
	}
	return r.Over(mostDays).Text(w)
}

func (r *Report) scorers(f *outcome.Figures) *table.Table {
	t := table.New("beside the verdict", ">Brier", ">log loss", ">AUC", ">P@20", ">label minus score")
	add := func(name string, s outcome.ScoreFigures, top *Top) {
		auc, precision := "-", "-"
		if s.AUC != nil {
			auc = fmt.Sprintf("%.3f%s", *s.AUC, interval(s.AUCInterval))
		}
		if top != nil {
			precision = fmt.Sprintf("%.3f%s", top.PrecisionAt20, interval(top.Interval))
		}
		t.Row(name, fmt.Sprintf("%.5f", s.Brier), fmt.Sprintf("%.4f", s.LogLoss), auc, precision,
			fmt.Sprintf("%+.4f (%+.3f to %+.3f)", s.Excess, s.ExcessLower, s.ExcessUpper))
	}
	var baseline, policy *Top
	if r.Precision != nil {
		baseline, policy = &r.Precision.Baseline, &r.Precision.Policy
	}
	add(r.Baseline, f.Baseline, baseline)
	add(r.Model, f.Policy, policy)
	t.Below(fmt.Sprintf("%d rows, base rate %.3f\n", f.Rows, f.BaseRate))
	return t
}

func interval(in *eval.Interval) string {
	if in == nil {
		return ""
	}
	return fmt.Sprintf(" (%.3f to %.3f)", in.Low, in.High)
}

// mostDays limits the days in the bounds over time.
const mostDays = 15

// Over returns the bounds over time, at the ends of at most n days, including the last.
func (r *Report) Over(n int) *table.Table {
	t := table.New("until", ">blocks", ">day's mean", ">lower", ">upper", "")
	v := r.Judgment
	type day struct {
		blocks       int
		sum          float64
		lower, upper float64
		last         int64
	}
	most := v.Plan.MaxDifference()
	lower, upper, all := -most, most, []*day{}
	for _, p := range v.Points {
		lower, upper = max(lower, p.Lower), min(upper, p.Upper)
		of := v.Plan.Start(p.Block).Truncate(24 * time.Hour)
		if len(all) == 0 || !v.Plan.Start(all[len(all)-1].last).Truncate(24*time.Hour).Equal(of) {
			all = append(all, &day{})
		}
		d := all[len(all)-1]
		d.blocks, d.sum, d.lower, d.upper, d.last = d.blocks+1, d.sum+p.X, lower, upper, p.Block
	}
	every := (len(all) + n - 1) / n
	claimed := 0
	for i, d := range all {
		if (len(all)-1-i)%every != 0 {
			continue
		}
		var words []string
		for ; claimed < len(v.Claims) && v.Claims[claimed].Block <= d.last; claimed++ {
			words = append(words, string(v.Claims[claimed].Verdict))
		}
		t.Row(v.Plan.Start(d.last+1).Format("2006-01-02 15:04"), d.blocks, fmt.Sprintf("%+.5f", d.sum/float64(d.blocks)),
			fmt.Sprintf("%+.5f", d.lower), fmt.Sprintf("%+.5f", d.upper), strings.Join(words, ", "))
	}
	return t
}

// name returns the last element of a path.
func name(path string) string { return filepath.Base(filepath.Clean(path)) }
