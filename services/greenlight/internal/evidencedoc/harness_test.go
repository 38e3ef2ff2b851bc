package evidencedoc

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/outcome"
	"github.com/greenlight-ml/greenlight/pkg/shadow"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	"github.com/greenlight-ml/greenlight/pkg/testkit/outcometest"
	"github.com/greenlight-ml/greenlight/pkg/twosample"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/agent"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/canary"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/driftcompare"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/driftfleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/gatedrill"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/gatekeeper"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/preflight"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/promote"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/promote/promotetest"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/quality"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/report"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/retrain"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
)

// now is the time at which the whole folder is written: a Thursday.
var now = time.Date(2026, 6, 11, 12, 0, 0, 0, time.UTC)

// whole is an evidence folder with every kind of file, and the registry that holds its model.
type whole struct {
	t        *testing.T
	dir      string
	models   string
	artifact *model.Artifact
	store    *evidence.Store
}

func newWhole(t *testing.T) *whole {
	t.Helper()
	w := &whole{t: t, dir: t.TempDir(), models: t.TempDir(), artifact: enginetest.Artifact(t, "v1.8.1", "v1.8.1-rc1")}
	w.must(model.OpenRegistry(w.models).Add(w.artifact))
	eligible := func(h *evidence.Header, r *canary.Record) bool {
		r.PromoteEligible, r.PromoteReason = r.Eligible(h.Source)
		return true
	}
	_, err := promotetest.Evidence{Folder: w.dir, Model: w.artifact, Now: now, Canary: eligible, Soak: eligible}.Write()
	w.must(err)
	w.torn()
	w.open()
	w.evaluation()
	w.loads()
	w.canaries()
	w.drift()
	w.quality()
	w.periods()
	w.promotion()
	w.gate()
	w.must(w.store.Close())
	return w
}

func (w *whole) open() {
	w.t.Helper()
	var err error
	w.store, err = evidence.Open(w.dir, evidence.Options{Now: func() time.Time { return now }})
	w.must(err)
}

func (w *whole) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *whole) write(name, schema string, source evidence.Source, body any) {
	w.t.Helper()
	m := &evidence.Model{Version: w.artifact.Manifest.Version, Digest: w.artifact.Digest()}
	w.must(w.store.WriteJSON(name, evidence.Header{Schema: schema, Source: source, Model: m, Git: "test"}, body))
}

func (w *whole) text(names ...string) {
	w.t.Helper()
	for _, name := range names {
		w.must(w.store.WriteFile(name, []byte("<svg xmlns=\"http://www.w3.org/2000/svg\"/>\n<!-- "+name+" -->\n")))
	}
}

// torn leaves half a line at the end of the chain. The next writer moves it to torn/.
func (w *whole) torn() {
	w.t.Helper()
	file, err := os.OpenFile(filepath.Join(w.dir, "chain.jsonl"), os.O_WRONLY|os.O_APPEND, 0)
	w.must(err)
	_, err = file.WriteString(`{"seq":`)
	w.must(errors.Join(err, file.Close()))
}

func (w *whole) evaluation() {
	w.t.Helper()
	f, err := open(w.dir)
	w.must(err)
	offline, err := as[experiment.OfflineReport](f.named["offline_report.json"])
	w.must(err)
	card := offline.Judge()
	result := experiment.EvalResult{Result: card.Verdict(), Checks: card.Results}
	in, err := evidence.InputOf(filepath.Join(w.dir, "offline_report.json"))
	w.must(err)
	m := f.named["offline_report.json"].header.Model
	w.must(w.store.WriteJSON("eval_result.json", evidence.Header{Schema: experiment.EvalSchema, Source: evidence.Replay, Inputs: []evidence.Input{in}, Model: m}, result))
	text, err := result.Text(offline.Version)
	w.must(err)
	w.must(w.store.WriteFile("eval_result.txt", []byte(text)))
	w.evaluationV1(offline)
	w.text("offline/roc.svg", "offline/folds.svg", "retrain/psi.svg")
	w.write("retrain_report.json", retrain.ReportSchema, evidence.Replay, retrain.Report{
		Version: "v1.8.1-rc2", Result: card.Verdict(), Checks: card.Results, Evaluation: offline, Figures: []string{"retrain/psi.svg"},
	})
}

// evaluationV1 writes the files of the same evaluation in the schemas of older versions.
func (w *whole) evaluationV1(r *experiment.OfflineReport) {
	w.t.Helper()
	old := *r
	old.TestDays, old.Quality = 0, nil
	w.write("old_offline_report.json", experiment.OfflineSchemaV1, evidence.Replay, &old)
	in, err := evidence.InputOf(filepath.Join(w.dir, "old_offline_report.json"))
	w.must(err)
	card := old.JudgeFigures()
	w.must(w.store.WriteJSON("old_eval_result.json", evidence.Header{Schema: experiment.EvalSchemaV1, Source: evidence.Replay, Inputs: []evidence.Input{in}},
		experiment.EvalResult{Result: card.Verdict(), Checks: card.Results}))
	w.write("former_retrain_report.json", retrain.ReportSchemaV2, evidence.Replay, retrain.Report{
		Version: "v1.8.1-rc2", Result: r.Judge().Verdict(), Checks: r.Judge().Results, Evaluation: r, Figures: []string{},
	})
	w.write("old_retrain_report.json", retrain.ReportSchemaV1, evidence.Replay, retrain.Report{
		Version: "v1.8.1-rc2", Result: card.Verdict(), Checks: card.Results, Evaluation: &old, Figures: []string{},
	})
}

func (w *whole) loads() {
	w.t.Helper()
	latency := traffic.Latency{P50: 0.5, P95: 2, P99: 5}
	smoke := traffic.SmokeResult{Total: 1000, Succeeded: 1000, SuccessRate: 1, Latency: latency, DurationS: 1, Answered: 1000, Distinct: 900, Errors: map[string]int{}}
	smoke.SLO = smoke.Judge()
	w.write("smoke_1k.json", traffic.SmokeSchema, evidence.Replay, smoke)
	shadowed := traffic.ShadowResult{
		Total: 1000, Succeeded: 1000, SuccessRate: 1, Latency: latency, ShadowLatency: latency, DurationS: 1, MatchRate: 0.6, Comparisons: 1000,
		Outcomes: map[string]int{shadow.Match.String(): 600, shadow.Mismatch.String(): 400}, Distinct: 900, Errors: map[string]int{},
	}
	shadowed.SLO = shadowed.Judge()
	w.write("shadow_smoke_1k.json", traffic.ShadowSchema, evidence.Replay, shadowed)
	w.write("scorecard.json", experiment.ScorecardSchema, evidence.Replay, gate.Scorecard{Results: append(smoke.SLO.Results, shadowed.SLO.Results...)})
	w.must(w.store.WriteFile("metrics_baseline_20260611T110000Z.txt", []byte("# TYPE ml_model_info gauge\nml_model_info 1\n")))
}

// canaries adds a dry run, a run that was aborted in its second phase, and a preflight.
func (w *whole) canaries() {
	w.t.Helper()
	policy := gate.DefaultPolicy()
	dry := promotetest.Run(policy, now.Add(-96*time.Hour))
	dry.DryRun, dry.Confirmation = true, ""
	w.run("canary_dryrun_observe", dry, evidence.Simulated)
	aborted := promotetest.Run(policy, now.Add(-120*time.Hour))
	aborted.Phases = aborted.Phases[:2]
	last := &aborted.Phases[1]
	promotetest.Count(last, policy, gate.PhaseCounts{Matches: 700, Mismatches: 300, Errors: 10, P95MS: 3})
	last.Decision, last.Reason = canary.Aborted, "match rate of 70.0 % is below 90 %"
	f, err := open(w.dir)
	w.must(err)
	records := f.match("quality_*.json")[0]
	live, err := as[quality.Report](records)
	w.must(err)
	last.Quality, aborted.QualityRecords = quality.Summarize(*aborted.QualityPlan, live.Records), records.name
	last.Samples = []canary.Sample{{Time: last.EndTime, Percent: 10, Comparisons: 1000, Matches: 700, Errors: 10, P95MS: last.P95MS, Verdict: gate.Fail}}
	aborted.Decision, aborted.Reason, aborted.Aborted = canary.Aborted, last.Reason, true
	w.run("canary_run_"+aborted.StartTime.Format("20060102T150405Z"), aborted, evidence.Live)
	rules := []gate.Rule{{Name: "services not reached", Op: gate.AtMost, Unit: gate.Count}, {Name: "traffic", Op: gate.Above, Unit: gate.Count}}
	card := gate.Judge(rules, map[string]gate.Observation{"services not reached": gate.Measured(0, 2), "traffic": gate.Measured(12, 1)})
	w.write("canary_preflight.json", preflight.Schema, evidence.Live, map[string]any{"result": card.Verdict(), "checks": card.Results})
}

func (w *whole) run(name string, r *canary.Record, source evidence.Source) {
	w.t.Helper()
	r.PromoteEligible, r.PromoteReason = r.Eligible(source)
	w.write(name+".json", canary.RunSchema, source, r)
	w.text(name + ".svg")
}

func (w *whole) drift() {
	w.t.Helper()
	f, err := open(w.dir)
	w.must(err)
	snapshot, err := as[driftfleet.Report](f.named["psi_snapshot.json"])
	w.must(err)
	w.text("psi_overview.svg")
	classifier := &twosample.Result{AUC: 0.7, P: 0.005, Permutations: 200, LeansOn: []twosample.Weight{{Input: "rsi14_z", Weight: 1, Share: 1}}}
	classifier.Verdict, classifier.Reason = classifier.Judge()
	w.write("psi_compare.json", driftcompare.Schema, evidence.Replay, driftcompare.Report{FeatureSchema: "v1.8.1", Classifier: classifier, Report: snapshot.Report})
	w.write("retrain_suggestion_20260601T000000Z.json", agent.SuggestionSchema, evidence.Live, agent.Suggestion{
		Since: now.Add(-240 * time.Hour), Hours: 24, Threshold: drift.CriticalAbove, PSI: 0.4, PSIMax: 0.5, Status: drift.Critical, Action: "retrain",
	})
}

// quality writes the verdict on 30 hours of a better model.
func (w *whole) quality() {
	w.t.Helper()
	plan := outcome.Plan{DisagreementCap: 0.25, Margin: 0.01, Alpha: 0.05, LabelSource: outcome.Quotes, HorizonMS: (15 * time.Minute).Milliseconds()}
	j := outcome.NewJoin(outcome.Key{Executor: "e", Model: w.artifact.Digest(), Baseline: "b"}, plan)
	for m := range 1800 {
		at := now.Add(time.Duration(m) * time.Minute).UnixMilli()
		j.Minute("S", at, outcome.Answer(1+m%2))
		j.Add(&outcome.Row{ID: fmt.Sprint(m), Symbol: "S", Time: at, Source: outcome.Replay, Baseline: 0.5, Shadow: 0.5 + 0.2*float64((m+1)%2*2-1)})
	}
	r := &quality.Report{Scores: quality.Logged, Model: "v1.8.1-rc1", Baseline: "heuristic", Records: j.Closed()}
	w.must(r.Judge(&plan))
	name, err := r.Write(w.store, evidence.Header{Source: evidence.Replay, Git: "abc", Model: &evidence.Model{Version: "v1.8.1-rc1", Digest: w.artifact.Digest()}}, now)
	w.must(err)
	if name != "quality_20260611T120000Z.json" {
		w.t.Errorf("the file is %s", name)
	}
}

// periods writes two days and a week of two executors. There is drift on the first day, and executor b stops reporting on the
// second.
func (w *whole) periods() {
	w.t.Helper()
	begin := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	var samples []report.Sample
	for h := range uint64(7*24 + 1) {
		at := begin.Add(time.Duration(h) * time.Hour)
		q99 := 0.1
		s := report.Sample{Time: at, Source: evidence.Live, Drift: &report.Drift{Time: at, PSI: 0.05, Rows: 10_000, Days: 7, ReferenceRows: 40_000, ReferenceDays: 28, Q99: &q99}}
		if h < 24 {
			s.Drift.PSI = 0.4
		}
		s.Drift.Verdict, s.Drift.Reason = s.Drift.Judge()
		for _, name := range []string{"a", "b"} {
			if name == "b" && h > 24 {
				s.Missing = append(s.Missing, report.Missing{Service: report.Executor, Address: name, Reason: "connection | refused"})
				continue
			}
			s.Executors = append(s.Executors, report.Counters{
				Executor: name, Instance: name, Start: begin, Model: evidence.Model{Version: "v1.8.1-rc1", Digest: w.artifact.Digest()},
				Requests: 100 * h, Matches: 98 * h, Mismatches: h, Failed: h, Edges: []float64{10, 20}, Latency: []uint64{99 * h, h, 0},
			})
		}
		samples = append(samples, s)
	}
	h := evidence.Header{Source: evidence.Live, Git: "test"}
	for d := range 2 {
		s := report.Summarize(report.Day(begin.AddDate(0, 0, d)), samples)
		s.Classifier = &twosample.Result{Verdict: gate.Inconclusive, Reason: "1 days of reference", LeansOn: []twosample.Weight{}}
		_, err := report.WriteDaily(w.dir, w.store, h, s)
		w.must(err)
	}
	_, err := report.WriteWeekly(w.dir, w.store, h, report.Week(begin), samples)
	w.must(err)
}

// promotion writes a check of the folder, and the record of a promotion that had no blocker.
func (w *whole) promotion() {
	w.t.Helper()
	w.must(w.store.Close())
	check, err := w.judge("v1.8.1-rc1", now)
	w.must(err)
	w.open()
	w.must(w.store.WriteJSON(promote.CheckName, check.Header("test"), check))
	record := promote.Record{Name: check.Name, From: check.From, To: check.To, Digest: check.Digest, Time: now}
	for _, row := range check.Blockers {
		if row.Verdict.OK() {
			record.Blockers = append(record.Blockers, row)
		}
	}
	w.write(promote.PromotionName, promote.PromotionSchema, evidence.Live, record)
}

func (w *whole) judge(name string, at time.Time) (*promote.Check, error) {
	return promote.Judge(w.t.Context(), promote.Question{Models: w.models, Model: name, Evidence: w.dir, Policy: gate.DefaultPolicy()}, at)
}

// all returns the names of all files in the folder except the lock.
func (w *whole) all() []string {
	w.t.Helper()
	f, err := open(w.dir)
	w.must(err)
	names := []string{"chain.jsonl", "chain.head"}
	for _, one := range f.files {
		names = append(names, one.name)
	}
	return names
}

func (w *whole) path(name string) string { return filepath.Join(w.dir, filepath.FromSlash(name)) }

func (w *whole) read(name string) []byte {
	w.t.Helper()
	raw, err := os.ReadFile(w.path(name))
	w.must(err)
	return raw
}

// found returns the first problem of the folder, or "" if it verifies.
func (w *whole) found() string {
	w.t.Helper()
	r, err := Verify(w.dir)
	if err != nil {
		return err.Error()
	}
	if err := r.Err(); err != nil {
		return strings.TrimPrefix(fmt.Sprint(err), evidence.ErrBroken.Error()+": ")
	}
	return ""
}

// gate writes a plan, a run and a drill of a gate.
func (w *whole) gate() {
	w.t.Helper()
	promotion, err := evidence.InputOf(filepath.Join(w.dir, promote.PromotionName))
	w.must(err)
	promotion.Path = promote.PromotionName
	plan := gatekeeper.Plan{
		Terms: gatekeeper.Terms{
			Percent: 5, ObservePercent: 100, AllSymbols: true, MaxScore: 1, WaitBudget: gate.Duration(5 * time.Millisecond), ChangedPercent: 10,
			Lease: gate.Duration(30 * time.Second),
		},
		Entry: "test/v1.8.1-rc1", Model: evidence.Model{Version: "v1.8.1-rc1", Digest: w.artifact.Digest()}, Promotion: promotion, PromotionTime: now,
		Quality: outcometest.Plan(), QualityDigest: outcometest.Plan().Digest(), Source: evidence.Live,
	}
	const name = "gate_plan_20260611T110000Z_aaaaaa.json"
	w.write(name, gatekeeper.PlanSchema, evidence.Live, plan)
	f, err := gatekeeper.ReadPlan(filepath.Join(w.dir, name))
	w.must(err)
	start, end := map[string]uint64{"off": 70}, map[string]uint64{"off": 70, "model": 5, "not_selected": 95}
	decisions := map[string]uint64{"off": 0, "model": 5, "not_selected": 95}
	w.write("gate_20260611T110500Z_bbbbbb.json", gatekeeper.RunSchema, evidence.Live, gatekeeper.Record{
		ID: "gate-20260611T110500Z-bbbbbb", Plan: plan, PlanFile: f.Input, Promotion: promotion, Confirmation: f.Phrase("k3vq6xj2rw5pzt4m"),
		StartTime: now, EndTime: now, Decision: gatekeeper.Stopped, Off: true, Decisions: decisions, Requests: 100,
		Processes: []gatekeeper.Process{{Executor: "a:1", Instance: "one", FirstTime: now, LastTime: now, Start: start, End: end, Decisions: decisions, Requests: 100, Latches: []gatekeeper.Latch{}}},
		Events:    []gatekeeper.Event{{Kind: gatekeeper.Started, Time: now}, {Kind: gatekeeper.Stopping, Time: now}, {Kind: gatekeeper.Finished, Time: now, Decision: gatekeeper.Stopped}},
	})
	drill := gatedrill.Report{Requests: 20, Decisions: map[string]uint64{"killed": 20}, Exercises: []gatedrill.Exercise{{
		Name: "kill by call", What: "KillGate", Expected: []string{"killed"}, Seen: map[string]uint64{"killed": 20}, Latch: "killed", Latches: []string{"killed"},
	}}}
	drill.Judge()
	w.write(gatedrill.Name, gatedrill.Schema, evidence.Simulated, drill)
}
