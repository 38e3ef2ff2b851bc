// Package promotetest creates evidence that lets a promotion pass, for tests. Its figures are made up, and it claims to be
// measured live, because a promotion accepts nothing else. Use it in the temporary folders of tests and nowhere else.
package promotetest

import (
	"errors"
	"path/filepath"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/eval"
	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/outcome"
	"github.com/greenlight-ml/greenlight/pkg/quality"
	"github.com/greenlight-ml/greenlight/pkg/shadow"
	"github.com/greenlight-ml/greenlight/pkg/testkit/outcometest"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/canary"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/driftfleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/driftview"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	outcomes "github.com/greenlight-ml/greenlight/services/greenlight/internal/quality"
)

// Evidence configures what is written. The functions change a file before it is written, or leave it out by returning false.
// They may be nil.
type Evidence struct {
	// Folder is the evidence folder, Model the subject of the evidence, Now the time of writing.
	Folder string
	Model  *model.Artifact
	Now    time.Time
	// Shift is the share of the present's rows that are moved from the first to the last bin of every feature, in [0,1):
	// roughly the amount of drift.
	Shift float64

	Offline func(*evidence.Header, *experiment.OfflineReport) bool
	PSI     func(*evidence.Header, *driftfleet.Report) bool
	Canary  func(*evidence.Header, *canary.Record) bool
	Soak    func(*evidence.Header, *canary.Record) bool
	Outcome func(*evidence.Header, *outcomes.Report) bool
}

// Write writes the files, and returns their names by kind. After an error it returns the names so far.
func (e Evidence) Write() (names map[string]string, err error) {
	store, err := evidence.Open(e.Folder, evidence.Options{Now: func() time.Time { return e.Now }})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	names = make(map[string]string)
	report, err := e.drift()
	if err != nil {
		return nil, err
	}
	offline := e.offline()
	climb, soak := e.climb(), e.soak()
	return names, errors.Join(
		write(store, names, "offline", "offline_report.json", e.header(experiment.OfflineSchema, evidence.Replay), offline, e.Offline),
		write(store, names, "psi", "psi_snapshot.json", e.header(driftfleet.Schema, evidence.Live), report, e.PSI),
		write(store, names, "canary", runName(climb), e.header("greenlight/canary_run/v1", evidence.Live), climb, e.Canary),
		e.outcome(store, names),
		write(store, names, "soak", runName(soak), e.header("greenlight/canary_run/v1", evidence.Live), soak, e.Soak),
	)
}

func write[T any](s *evidence.Store, names map[string]string, what, name string, h evidence.Header, body *T, change func(*evidence.Header, *T) bool) error {
	if change != nil && !change(&h, body) {
		return nil
	}
	names[what] = name
	return s.WriteJSON(name, h, body)
}

func runName(r *canary.Record) string {
	return "canary_run_" + r.StartTime.Format("20060102T150405Z") + ".json"
}

// outcome writes the live quality of a model that scores like the baseline, over the last 26 hours.
func (e Evidence) outcome(store *evidence.Store, names map[string]string) error {
	p := outcometest.Plan()
	key := outcome.Key{Executor: "made-up-by-promotetest", Model: e.Model.Digest(), Baseline: baseline.Digest}
	report, err := outcomes.LiveReport(p, outcometest.Records(p, key, e.Now, 104, outcometest.Equal), e.Model.Manifest.Version, baseline.Version)
	if err != nil {
		return err
	}
	return write(store, names, "quality", "quality_"+e.Now.Add(-time.Minute).UTC().Format("20060102T150405Z")+".json", e.header(outcomes.Schema, evidence.Live), report, e.Outcome)
}

// baseline is the baseline of the runs.
var baseline = evidence.Model{Version: "heuristic-test", Digest: strings.Repeat("b", 64)}

// Path returns the path of a file in the folder.
func (e Evidence) Path(name string) string { return filepath.Join(e.Folder, name) }

func (e Evidence) header(schema string, source evidence.Source) evidence.Header {
	return evidence.Header{
		Schema: schema, Source: source, Model: &evidence.Model{Version: e.Model.Manifest.Version, Digest: e.Model.Digest()}, Git: "test",
	}
}

// Own returns the offline report as stored with a model, with the changes of Offline.
func (e Evidence) Own() ([]byte, error) {
	h, r := e.header(experiment.OfflineSchema, evidence.Replay), e.offline()
	h.CreatedTime = e.Now
	if e.Offline != nil {
		e.Offline(&h, r)
	}
	return evidence.Document(h, r)
}

// offline is a report with the figures of the better model of the study.
func (e Evidence) offline() *experiment.OfflineReport {
	const rows, positives = 40_000, 11_200
	return &experiment.OfflineReport{
		Version: e.Model.Manifest.Version, Timestamp: e.Now.UnixMilli(), DatasetDigest: e.Model.Manifest.Training.DataDigest,
		Report: &eval.Report{
			Metrics: eval.Metrics{N: rows, Positives: positives, BaseRate: positives / float64(rows), AUC: 0.863, PrecisionAt20: 0.828},
			Intervals: &eval.Intervals{
				Level: 0.95, Replicates: 1000, Days: 28, AUC: eval.Interval{Low: 0.84, High: 0.88}, PrecisionAt20: eval.Interval{Low: 0.75, High: 0.9},
			},
			Folds: []eval.FoldReport{},
		},
		TestDays: 28,
		Quality: experiment.NewDataQuality(quality.Report{
			Bars: 60_480, Days: 42, Minutes: 60_480, UnchangedShare: 0.02, LargestMove: quality.Move{Share: 0.02}, Frozen: []quality.Stretch{},
		}),
		Split: experiment.SplitInfo{TrainDays: 28, TestDays: 7, StepDays: 7, Folds: 4},
	}
}

// drift is a week in which every bin has as many rows as in the reference, except those that are shifted.
func (e Evidence) drift() (*driftfleet.Report, error) {
	p := e.Model.Reference
	if p == nil {
		return nil, errors.New("the model has no drift profile")
	}
	bins := make([][]uint64, len(p.Features))
	for i, f := range p.Features {
		bins[i] = make([]uint64, f.Bins())
		for _, day := range f.Daily {
			for b, n := range day {
				bins[i][b] += uint64(n)
			}
		}
		moved := min(bins[i][0], uint64(e.Shift*float64(p.Rows)))
		bins[i][0] -= moved
		bins[i][len(f.Edges)] += moved
	}
	end := e.Now.UTC().Truncate(time.Hour).Add(time.Hour)
	var days []int
	for d := range 7 {
		days = append(days, int(end.Unix()/86400)-d)
	}
	counts, err := drift.CountsOf(p, bins, days, days)
	if err != nil {
		return nil, err
	}
	snapshot, err := p.Snapshot(counts, drift.NewNulls(p, driftview.Replicates, driftview.Seed), drift.DefaultLimits())
	if err != nil {
		return nil, err
	}
	window := driftview.Window{Hours: 168, Start: end.Add(-168 * time.Hour), End: end}
	return &driftfleet.Report{
		Report:          *driftview.New(snapshot, window, drift.DefaultLimits()),
		ReferenceDigest: e.Model.Manifest.Files[model.ReferenceFile],
		Replicas:        []driftfleet.ReplicaCount{{Address: "made by promotetest", Rows: counts.Rows()}},
	}, nil
}

// climb is a canary through all phases, which ended two days ago.
func (e Evidence) climb() *canary.Record {
	policy := gate.DefaultPolicy()
	took := time.Duration(policy.PhaseDuration) * time.Duration(len(policy.Phases))
	return Run(policy, e.Now.Add(-48*time.Hour-took))
}

// soak is a 24-hour phase of all requests, which ended an hour ago.
func (e Evidence) soak() *canary.Record {
	policy := gate.DefaultPolicy()
	policy.Phases, policy.PhaseDuration = []float64{100}, policy.Promotion.Soak
	return Run(policy, e.Now.Add(-time.Hour-time.Duration(policy.PhaseDuration)))
}

// Run is a live run that passed all phases of the policy, back to back.
func Run(policy gate.Policy, start time.Time) *canary.Record {
	start = start.UTC().Truncate(time.Millisecond)
	plan := outcometest.Plan()
	r := &canary.Record{
		ID: start.Format("20060102T150405Z") + "-made-up", Executors: []string{"127.0.0.1:4020"}, Metrics: "executor", Policy: policy,
		BaselineVersion: baseline.Version, BaselineDigest: baseline.Digest, QualityPlan: &plan, Confirmation: "ONAY: made up by promotetest", StartTime: start, EndTime: start,
		Decision: canary.Passed, RolledBack: true, Resumptions: []time.Time{},
	}
	for i, percent := range policy.Phases {
		p := canary.Phase{Index: i, Percent: percent, StartTime: r.EndTime, EndTime: r.EndTime.Add(time.Duration(policy.PhaseDuration))}
		Pass(&p, policy, 10*policy.MinComparisons)
		r.Phases, r.EndTime = append(r.Phases, p), p.EndTime
	}
	r.PromoteEligible, r.PromoteReason = r.Eligible(evidence.Live)
	return r
}

// Pass fills the phase with passing counts, and with the verdicts that follow from them: 99 % of the comparisons match, a
// thousandth as many fail, and p95 is 3 ms.
func Pass(p *canary.Phase, policy gate.Policy, comparisons uint64) {
	const p95 = 3.0
	counts := gate.PhaseCounts{Mismatches: comparisons / 100, Errors: comparisons / 1000, P95MS: p95}
	counts.Matches = comparisons - counts.Mismatches
	Count(p, policy, counts)
	p.Decision, p.Restarted, p.Samples = canary.Passed, []string{}, []canary.Sample{}
}

// Count fills the phase with the counts, and with the verdicts that follow from them.
func Count(p *canary.Phase, policy gate.Policy, c gate.PhaseCounts) {
	p.Outcomes = make(map[string]uint64)
	for _, o := range shadow.Outcomes() {
		p.Outcomes[o.String()] = 0
	}
	p.Outcomes[shadow.Match.String()], p.Outcomes[shadow.Mismatch.String()], p.Outcomes[shadow.Deadline.String()] = c.Matches, c.Mismatches, c.Errors
	p.Outcomes[shadow.BreakerOpen.String()] = c.Unseen
	p.Requests = c.Sampled()
	p.Sources = evidence.Sources{evidence.Live: p.Requests}
	p.P95MS, p.Verdicts = &c.P95MS, policy.JudgePhase(c).Results
	p.Latency = &fleet.Histogram{Edges: []float64{c.P95MS / 0.95}, Counts: []uint64{c.Tried(), 0}} // its p95 is interpolated
}
