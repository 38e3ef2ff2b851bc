package quality

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/eval"
	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/featurelog"
	"github.com/greenlight-ml/greenlight/pkg/label"
	"github.com/greenlight-ml/greenlight/pkg/market"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/outcome"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
)

// simulated is a study of a simulated market, built once. It must not be changed.
var simulated = sync.OnceValues(func() (*experiment.Study, error) { return study(30, func(market.Bar) bool { return true }) })

// study trains on the minutes of a simulated market that keep accepts.
func study(days int, keep func(market.Bar) bool) (*experiment.Study, error) {
	data, err := experiment.Simulate(market.SimulateOptions{Seed: 5, Days: days})
	if err != nil {
		return nil, err
	}
	var bars []market.Bar
	for _, b := range data.Bars {
		if keep(b) {
			bars = append(bars, b)
		}
	}
	data.Bars = bars
	return experiment.Run(context.Background(), data, experiment.Options{Versions: experiment.DefaultVersions()})
}

func whole(t *testing.T) *experiment.Study {
	t.Helper()
	s, err := simulated()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// The records of out-of-time scores have the mean difference of the Brier losses, and the verdict follows.
func TestFromStudy(t *testing.T) {
	s := whole(t)
	r, err := FromStudy(s, "v1.8.1-rc1", experiment.BaselineVersion, Options{})
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.Candidate("v1.8.1-rc1")
	if err != nil {
		t.Fatal(err)
	}
	ours, _ := c.Pooled()
	theirs, _ := s.Baseline.Pooled()
	want := eval.Brier(theirs.Scores, theirs.Labels) - eval.Brier(ours.Scores, ours.Labels)
	v := r.Judgment
	// Rows after the last closed block are omitted, and scores over the cap do not count.
	if n := v.Total.Labels[outcome.Matured]; int(n) > len(ours.Labels) || int(n) < len(ours.Labels)-60 || math.Abs(v.Difference-want) > 2e-4 {
		t.Errorf("%d rows of %d, difference %v, want %v", n, len(ours.Labels), v.Difference, want)
	}
	if v.Verdict != outcome.Pass || r.Precision == nil || r.Precision.Baseline.Interval == nil || math.Abs(r.Figures.Baseline.Brier-eval.Brier(theirs.Scores, theirs.Labels)) > 1e-3 {
		t.Errorf("got %s %v, %+v", v.Verdict, v.Reasons, r.Precision)
	}
	if problems := r.Recheck(); len(problems) > 0 {
		t.Errorf("recheck: %v", problems)
	}
	if plan := mustOffline(t, s, c).QualityPlan; plan == nil || plan.Plan != v.Plan || plan.ExpectedDays == nil || *plan.ExpectedDays < plan.LeastDays*0.5 || plan.LeastDays < 1 {
		t.Errorf("the offline report plans %+v", plan)
	} else if line := plan.Line(); !strings.Contains(line, "at least") || !strings.Contains(line, "expected") {
		t.Errorf("got %q", line)
	}

	// A cap that excludes the model gives no PASS; an absurd plan is refused.
	if r, err := FromStudy(s, "v1.8-b0", "v1.8.1-rc1", Options{Cap: 0.02, Margin: 0.01}); err != nil || r.Judgment.Verdict == outcome.Pass || r.Judgment.Shares.OverCap < 0.05 {
		t.Errorf("a cap of 0.02: %v, %v", r, err)
	}
	if _, err := FromStudy(s, "v1.8-b0", "v1.8.1-rc1", Options{Cap: 0.02, Margin: 0.5}); err == nil {
		t.Error("a margin above the largest difference: no error")
	}
	if _, err := FromStudy(s, "v2", "v1.8.1-rc1", Options{}); err == nil {
		t.Error("an unknown model: no error")
	}
}

func mustOffline(t *testing.T, s *experiment.Study, c *experiment.Candidate) *experiment.OfflineReport {
	t.Helper()
	r, err := s.Offline(c, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A market that trades 240 minutes a day is judged: rows at the end of a session have no label, but that is not an ERROR.
func TestSessions(t *testing.T) {
	s, err := study(90, func(b market.Bar) bool { m := b.Start / market.MinuteMS % 1440; return m >= 570 && m < 810 })
	if err != nil {
		t.Fatal(err)
	}
	pair, err := s.Pair(s.Candidates[1].Result, s.Baseline)
	if err != nil {
		t.Fatal(err)
	}
	// Out-of-time rows have labels. A live run also has the rows of the last minutes.
	rows := map[int64]bool{}
	for _, r := range pair.Rows {
		rows[r.Time] = true
	}
	frame := s.Frame.(*feature.Frame)
	grid := newGrid(frame, label.Default(), s.Candidates[1].Folds[0].Threshold)
	plan := pair.Suggest()
	j := outcome.NewJoin(outcome.Key{Executor: "e", Model: "m", Baseline: "b"}, plan)
	feed := outcome.NewFeed(j, "S", grid.ends, grid.answers)
	for i := range frame.Len() {
		if at := frame.End(i); at >= pair.Rows[0].Time {
			feed.Add(&outcome.Row{ID: fmt.Sprint(i), Symbol: "S", Time: at, Source: outcome.Replay, Baseline: 0.3, Shadow: 0.31})
		}
	}
	feed.Finish()
	v := outcome.Judge(plan, j.Closed())
	if share := v.Shares.Unlabelled; v.Verdict != outcome.Pass || share < 0.05 || share > 0.08 || v.Shares.Expired > 0 || v.Shares.Counted < 0.9 {
		t.Errorf("got %s %v, %+v, %v", v.Verdict, v.Reasons, v.Shares, v.Total.Labels)
	}
	if perDay := float64(v.Counted) / v.End.Sub(v.Start).Hours() * 24; perDay < 15 || perDay > 17 {
		t.Errorf("%v counted blocks a day, want 16", perDay)
	}
}

// logged writes a feature log of the out-of-time minutes: scores of the artifact's model and baseline, including some odd
// rows.
func logged(t *testing.T, s *experiment.Study, a *model.Artifact, change func(i int, r *featurelog.Row)) (dir string, rows int) {
	t.Helper()
	dir = t.TempDir()
	l, err := featurelog.Open(featurelog.Options{Dir: dir, Capacity: 1 << 18})
	if err != nil {
		t.Fatal(err)
	}
	schema, err := featurelog.NewSchema(a.Schema)
	if err != nil {
		t.Fatal(err)
	}
	x, q := make([]float64, a.Schema.Len()), make([]float64, len(a.Baseline.Inputs()))
	inputs, err := feature.Named("inputs", a.Baseline.Inputs()...)
	if err != nil {
		t.Fatal(err)
	}
	for i := s.Frame.Len() - 8*1440; i < s.Frame.Len(); i++ {
		if !s.Frame.Row(i, a.Schema, x) || !s.Frame.Row(i, inputs, q) {
			continue
		}
		at := time.UnixMilli(s.Frame.End(i))
		row := featurelog.Row{
			RequestID: fmt.Sprint("r", i), Symbol: "SIM", EventTime: at.Add(20 * time.Second), ArrivalTime: at.Add(20 * time.Second), Source: "simulated",
			Schema: schema, Features: append([]float64{}, x...), BaselineScore: a.Baseline.Score(q), BaselineVersion: a.Baseline.Version,
			BaselineDigest: a.Baseline.Digest(), ShadowScore: featurelog.Some(a.Scorer.Score(x)), Outcome: "match",
			ModelVersion: a.Manifest.Version, ModelDigest: a.Digest(),
		}
		change(i, &row)
		l.Log(row)
		rows++
	}
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	return dir, rows
}

func TestFromLog(t *testing.T) {
	s := whole(t)
	c, err := s.Candidate("v1.8.1-rc1")
	if err != nil {
		t.Fatal(err)
	}
	a, report, err := s.Evaluated(c, "git", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	registry := model.OpenRegistry(t.TempDir())
	if err := registry.Add(a); err != nil {
		t.Fatal(err)
	}
	if a, err = registry.ByDigest(a.Digest()); err != nil {
		t.Fatal(err)
	}
	if _, err := registry.ByDigest("none"); err == nil {
		t.Error("an unknown digest: no error")
	}
	sampled, answered := 0, 0
	dir, rows := logged(t, s, a, func(i int, r *featurelog.Row) {
		switch {
		case i%97 == 0:
			r.Outcome, r.ShadowScore = "not_sampled", featurelog.Optional{}
			return
		case i%31 == 0:
			r.Outcome, r.ShadowScore, r.ModelDigest = "deadline", featurelog.Optional{}, ""
		case i%50 == 0:
			r.EventTime = time.Time{} // then the arrival time counts
			answered++
		default:
			answered++
		}
		sampled++
	})
	l, err := OpenLog(featurelog.Log{Dir: dir}, "")
	if err != nil {
		t.Fatal(err)
	}
	if l.Rows != sampled || l.Model != a.Digest() || l.Baseline != a.Baseline.Digest() || l.Symbol != "SIM" {
		t.Errorf("the log is %+v", l)
	}
	r, err := FromLog(l, s.Data, a, Options{})
	if err != nil {
		t.Fatal(err)
	}
	v := r.Judgment
	if v == nil || v.Plan != report.QualityPlan.Plan || v.Verdict != outcome.Pass || r.Skipped["not sampled"] != rows-sampled {
		t.Fatalf("got %+v, skipped %v", v, r.Skipped)
	}
	// By the definitions: the label of the minute at or before the row.
	z, n, sum := label.Default().Z(s.Frame.(*feature.Frame)), 0, 0.0
	x, q := make([]float64, a.Schema.Len()), make([]float64, 4)
	inputs, err := feature.Named("inputs", a.Baseline.Inputs()...)
	if err != nil {
		t.Fatal(err)
	}
	end := v.End.UnixMilli()
	for i := s.Frame.Len() - 8*1440; i < s.Frame.Len(); i++ {
		if !s.Frame.Row(i, a.Schema, x) || !s.Frame.Row(i, inputs, q) || i%97 == 0 || math.IsNaN(z[i]) || s.Frame.End(i) >= end {
			continue
		}
		n++
		y, p, b := 0.0, a.Scorer.Score(x), a.Baseline.Score(q)
		if z[i] > a.Spec.Label.Threshold {
			y = 1
		}
		if i%31 != 0 && math.Abs(p-b) <= v.Plan.DisagreementCap {
			sum += (b-y)*(b-y) - (p-y)*(p-y)
		}
	}
	if got := v.Total.Labels[outcome.Matured]; int(got) != n || math.Abs(v.Difference-sum/float64(n)) > 1e-9 {
		t.Errorf("%d rows, difference %v, want %d, %v", got, v.Difference, n, sum/float64(n))
	}
	if share := float64(answered) / float64(sampled); math.Abs(v.Shares.Answered-share) > 2e-3 {
		t.Errorf("%v answered, want %v", v.Shares.Answered, share)
	}
	if problems := r.Recheck(); len(problems) > 0 || r.Suggested == nil || r.Precision == nil {
		t.Errorf("recheck %v, suggested %v, precision %v", problems, r.Suggested, r.Precision)
	}

	// Without an evaluation against its baseline there is a suggestion and no verdict; with both values there is a plan.
	a.Offline = nil
	r, err = FromLog(l, s.Data, a, Options{})
	if err != nil || r.Judgment != nil || r.Suggested == nil || r.Figures == nil {
		t.Fatalf("without an evaluation: %+v, %v", r, err)
	}
	if problems := r.Recheck(); len(problems) > 0 {
		t.Errorf("without a judgment: %v", problems)
	}
	if r, err = FromLog(l, s.Data, a, Options{Cap: 0.1, Margin: 0.01}); err != nil || r.Judgment.Plan.DisagreementCap != 0.1 {
		t.Errorf("with a cap and a margin: %v", err)
	}
	if _, err := OpenLog(featurelog.Log{Dir: dir}, "OTHER"); err == nil || !strings.Contains(err.Error(), `no symbol "OTHER": it has SIM`) {
		t.Errorf("another symbol: %v", err)
	}
	if got := l.Source(s.Data); got != evidence.Simulated {
		t.Errorf("source %s", got)
	}
}

// With several executors, a row without an answer belongs to the model that last answered its own executor, and equal ids are
// different requests.
func TestLogOfSeveralExecutors(t *testing.T) {
	s := whole(t)
	c, err := s.Candidate("v1.8.1-rc1")
	if err != nil {
		t.Fatal(err)
	}
	a, _, err := s.Evaluated(c, "git", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	registry := model.OpenRegistry(t.TempDir())
	if err := registry.Add(a); err != nil {
		t.Fatal(err)
	}
	if a, err = registry.ByDigest(a.Digest()); err != nil {
		t.Fatal(err)
	}
	root, want, others := t.TempDir(), 0, 0
	for _, executor := range []string{"a", "b"} {
		dir, _ := logged(t, s, a, func(i int, r *featurelog.Row) {
			switch {
			case executor == "b" && i%2 == 0:
				r.Outcome, r.ShadowScore, r.ModelDigest = "not_sampled", featurelog.Optional{}, ""
			case executor == "b":
				r.ModelDigest = "other"
				others++
			case i%31 == 0:
				r.Outcome, r.ShadowScore, r.ModelDigest = "deadline", featurelog.Optional{}, ""
				want++
			default:
				want++
			}
		})
		if err := os.Rename(dir, filepath.Join(root, "executor="+executor)); err != nil {
			t.Fatal(err)
		}
	}
	l, err := OpenLog(featurelog.Log{Dir: root}, "")
	if err != nil {
		t.Fatal(err)
	}
	got, skipped, ids := 0, map[string]int{}, map[string]bool{}
	if err := l.days(skipped, func(r *outcome.Row) { got++; ids[r.ID] = true }); err != nil {
		t.Fatal(err)
	}
	if got != want || skipped["of another model"] != others {
		t.Errorf("%d rows, skipped %v; want %d rows, and %d of another model", got, skipped, want, others)
	}
	if !strings.HasPrefix(slices.Min(slices.Collect(maps.Keys(ids))), "executor=a/r") {
		t.Error("the ids do not name the executor")
	}
}

// Every count, sum and bin of every record matters to the judgment or to the figures, and so does every figure.
func TestRecheckFindsChanges(t *testing.T) {
	r, err := FromStudy(whole(t), "v1.8.1-rc1", experiment.BaselineVersion, Options{})
	if err != nil {
		t.Fatal(err)
	}
	r.Records = r.Records[:120]
	r.Suggested, r.Precision = nil, nil // they come from rows
	if err := r.Judge(&r.Judgment.Plan); err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	tried := 0
	for _, old := range []string{
		`"matured":15`, `"expired":0`, `"lost":0`, `"rows":15`, `"none":15`, `"replay":0`, `"simulated":15`, `"requests_through":15`, `:1,0 `,
		`"verdict":"`, `"lower":-0`, `"blocks":`, `"margin":0`, `"brier":0`, `"base_rate":0`, `"auc":0`, `"block":`, `"executor_id":"offline"`,
	} {
		for at, places := 0, 0; ; {
			i := bytes.Index(raw[at:], []byte(old))
			if i < 0 {
				if at == 0 {
					t.Errorf("the report has no %s", old)
				}
				break
			}
			at += i + len(old)
			if places++; places > 3 { // some of the many records
				break
			}
			tried++
			wrong := bytes.Clone(raw)
			switch c := wrong[at-1]; {
			case c >= '0' && c <= '8':
				wrong[at-1]++
			case c == '9' || c == '"':
				wrong[at] = 'X'
			default:
				wrong[at] = "1234567892"[max(0, min(9, int(wrong[at])-'0'))]
			}
			changed := &Report{}
			if json.Unmarshal(wrong, changed) == nil && len(changed.Recheck()) == 0 {
				t.Errorf("a change of %s is not found: %s", old, wrong[at-40:at+10])
			}
		}
	}
	if tried < 40 {
		t.Errorf("only %d places", tried)
	}
}

func TestTable(t *testing.T) {
	r, err := FromStudy(whole(t), "v1.8-b0", "v1.8.1-rc1", Options{Cap: 0.6})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := r.Table(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"verdict ", "difference ", "plan ", "blocks ", "labels ", "suggested ", "beside the verdict", "v1.8.1-rc1 ", "until ", "base rate"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, &out)
		}
	}
	if rows := strings.Count(r.overText(t), "\n"); rows < 2 || rows > mostDays+1 {
		t.Errorf("%d rows over time", rows)
	}
}

func (r *Report) overText(t *testing.T) string {
	t.Helper()
	var out strings.Builder
	if err := r.Over(mostDays).Text(&out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}
