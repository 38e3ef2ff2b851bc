package canary

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/outcome"
	"github.com/greenlight-ml/greenlight/pkg/testkit/outcometest"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/preflight"
)

// The verdict on live quality is judged from all executors together. A FAIL aborts a run although its match rate is 99 %.
// Other verdicts do not change a run.
func TestLiveQuality(t *testing.T) {
	t.Parallel()
	plan := outcometest.Plan()
	key := func(executor string) outcome.Key {
		return outcome.Key{Executor: executor, Model: testModel.Digest, Baseline: testBaseline.Digest}
	}
	const blocks = 104
	for name, test := range map[string]struct {
		// a and b are how much closer to the label the model is on the two executors; blocks is the number of blocks of each.
		a, b     float64
		blocks   int
		change   func(a, b *fakeExecutor)
		decision Decision
		verdict  outcome.Verdict
		reason   string
	}{
		"equal":                       {0, 0, blocks, nil, Passed, outcome.Pass, ""},
		"too early":                   {0, 0, 40, nil, Passed, outcome.Inconclusive, ""},
		"better":                      {0.049, 0.049, blocks, nil, Passed, outcome.Better, ""},
		"worse":                       {-0.049, -0.049, blocks, nil, Aborted, outcome.Fail, "live quality: FAIL (worse)"},
		"as much better as worse":     {-0.045, 0.045, blocks, nil, Passed, outcome.Pass, ""},
		"worse, seen in half of them": {-0.049, 0, blocks, func(_, b *fakeExecutor) { b.older = true }, Passed, outcome.Error, ""},
		"records are missing": {-0.049, -0.049, blocks, func(a, b *fakeExecutor) {
			for _, f := range []*fakeExecutor{a, b} {
				f.records = append(f.records[:10:10], f.records[40:]...)
			}
		}, Passed, outcome.Error, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tr := newTrial(2)
				tr.policy.Phases, tr.policy.PhaseDuration = []float64{50, 100}, gate.Duration(5*time.Minute)
				a, b := tr.fakes[0], tr.fakes[1]
				tr.at = after(0, 2*time.Minute, func() { // the match rate is known by then
					a.records = outcometest.Records(plan, key(a.addr), time.Now(), test.blocks, outcometest.Toward(test.a))
					b.records = outcometest.Records(plan, key(b.addr), time.Now(), test.blocks, outcometest.Toward(test.b))
					if test.change != nil {
						test.change(a, b)
					}
				})
				var live *liveQuality
				tr.opts = func(o *Options) {
					live = &liveQuality{records: fleet.NewRecords((&fleet.Services{Executors: o.Executors}).Recorders, testModel.Digest, testBaseline.Digest, plan), plan: plan}
					o.QualityPlan, o.Quality, o.Record.QualityPlan = &plan, live.read, &plan
				}
				r := tr.run(t.Context(), t)
				if r.Decision != test.decision || !strings.Contains(r.Reason, test.reason) {
					t.Fatalf("got %s %q, want %s %q", r.Decision, r.Reason, test.decision, test.reason)
				}
				last := &r.Phases[len(r.Phases)-1]
				if last.Quality == nil || last.Quality.Verdict != test.verdict {
					t.Errorf("got %+v, want %s", last.Quality, test.verdict)
				}
				if rate := last.MatchRate; test.decision == Aborted && (rate == nil || *rate < 0.98) {
					t.Errorf("aborted at a match rate of %v, want 0.99", rate)
				}
				records := live.records.All()
				if found := r.RecheckQuality(records); len(found) > 0 {
					t.Errorf("the verdict does not follow from its records: %q", found)
				}
				if test.verdict == outcome.Error {
					return
				}
				changed := &records[30]
				changed.Labels[outcome.NoLabel]++
				changed.Sources[outcome.Live]++
				changed.Through++
				if found := r.RecheckQuality(records); len(found) == 0 {
					t.Error("a changed count is not found")
				}
				tr.atZero(t)
			})
		})
	}
}

// Every SetRollout of a run includes its plan.
func TestRolloutsHaveThePlan(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newTrial(1)
		plan := outcometest.Plan()
		tr.opts = func(o *Options) { o.QualityPlan = &plan }
		polls := 0
		tr.at = func(e Event) {
			if e.Kind == Polled {
				polls++
				if got, err := fleet.PlanOf(tr.fakes[0].rollout.GetPlan()); err != nil || got != plan {
					t.Errorf("poll %d: the rollout has the plan %+v, %v", polls, got, err)
				}
			}
		}
		if r := tr.run(t.Context(), t); r.Decision != Passed || polls < 100 {
			t.Errorf("got %s after %d polls", r.Decision, polls)
		}
	})
}

// The plan comes from the model's evaluation against this baseline, or from the options; otherwise there is none.
func TestPlanQuality(t *testing.T) {
	t.Parallel()
	own := &experiment.QualityPlan{Plan: outcometest.Plan(), LeastDays: 1.04}
	labelled := &mlenginev1.GetModelInfoResponse{Label: &mlenginev1.Label{Kind: "table", Horizon: durationpb.New(time.Hour)}}
	for name, test := range map[string]struct {
		own      *experiment.QualityPlan
		baseline string
		info     *mlenginev1.GetModelInfoResponse
		o        QualityOptions
		want     outcome.Plan
		reason   string
		err      string
	}{
		"own":              {own: own, baseline: testBaseline.Digest, want: own.Plan},
		"own, cap given":   {own: own, baseline: testBaseline.Digest, o: QualityOptions{Cap: 0.25}, want: outcome.Plan{DisagreementCap: 0.25, Margin: 0.02, Alpha: 0.05, LabelSource: outcome.Quotes, HorizonMS: 900_000}},
		"another baseline": {own: own, baseline: "other", reason: "v1.8.1-rc1 has no offline evaluation against heuristic-v1"},
		"cap alone":        {o: QualityOptions{Cap: 0.25}, reason: "no offline evaluation"},
		"given": {
			info: labelled, o: QualityOptions{Cap: 0.25, Margin: 0.01},
			want: outcome.Plan{DisagreementCap: 0.25, Margin: 0.01, Alpha: 0.05, LabelSource: outcome.Reported, HorizonMS: 3_600_000},
		},
		"given, no label":      {info: &mlenginev1.GetModelInfoResponse{}, o: QualityOptions{Cap: 0.25, Margin: 0.01}, err: "do not name the horizon"},
		"margin too large":     {own: own, baseline: testBaseline.Digest, o: QualityOptions{Margin: 0.2}, err: "margin 0.2"},
		"quotes of an hour":    {info: labelled, o: QualityOptions{Cap: 0.25, Margin: 0.01, Labels: outcome.Quotes}, want: outcome.Plan{DisagreementCap: 0.25, Margin: 0.01, Alpha: 0.05, LabelSource: outcome.Quotes, HorizonMS: 3_600_000}},
		"no evaluation at all": {reason: "no offline evaluation"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := &preflight.Inspection{Snapshot: &fleet.Snapshot{Engines: []fleet.EngineReading{{Info: test.info}}}, Offline: preflight.Offline{Quality: test.own, Baseline: test.baseline}}
			p := &Plan{Model: testModel, Baseline: testBaseline, Policy: gate.DefaultPolicy()}
			err := p.PlanQuality(in, test.o)
			switch {
			case test.err != "":
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("got %v, want %q", err, test.err)
				}
			case err != nil:
				t.Error(err)
			case test.reason != "":
				if p.Quality != nil || !strings.Contains(p.QualityReason, test.reason) || strings.Contains(p.Phrase("n"), "quality=") {
					t.Errorf("got %+v %q", p.Quality, p.QualityReason)
				}
			case p.Quality == nil || p.Quality.Plan != test.want || p.Quality.PlanDigest != test.want.Digest() || p.Quality.LeastDays != test.want.LeastDays():
				t.Errorf("got %+v, want %+v", p.Quality, test.want)
			case !strings.Contains(p.Phrase("n"), " quality="+test.want.Digest()[:12]+" psi="):
				t.Errorf("the phrase is %s", p.Phrase("n"))
			}
		})
	}
}
