package outcome

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/label"
	"github.com/greenlight-ml/greenlight/pkg/market"
	quality "github.com/greenlight-ml/greenlight/pkg/outcome"
	"github.com/greenlight-ml/greenlight/pkg/shadow"
	"github.com/greenlight-ml/greenlight/pkg/testkit/durabletest"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

const (
	minuteMS = int64(60_000)
	// first is a whole number of days.
	first = int64(20_000) * 24 * 60 * minuteMS
)

var (
	modelA, modelB = strings.Repeat("a", 64), strings.Repeat("b", 64)
	baseline       = strings.Repeat("c", 64)
	ranged         = shadow.Label{Kind: "range", Horizon: 15 * time.Minute, Threshold: 1.5}
)

func planOf(source quality.LabelSource) quality.Plan {
	return quality.Plan{DisagreementCap: 0.25, Margin: 0.01, Alpha: 0.05, LabelSource: source, HorizonMS: 15 * minuteMS}
}

// trial is a keeper with a plan and a model that tests change.
type trial struct {
	*Keeper

	t     *testing.T
	plan  quality.Plan
	model string
	label shadow.Label
	dir   string
	logs  strings.Builder
}

func newTrial(t *testing.T, plan quality.Plan, dir string) *trial {
	tr := &trial{t: t, plan: plan, model: modelA, label: ranged, dir: dir}
	tr.open()
	return tr
}

func (tr *trial) open() {
	tr.t.Helper()
	k, err := Open(Options{
		Baseline: baseline, Instance: "instance", Plan: func() (quality.Plan, uint64) { return tr.plan, 7 }, Dir: tr.dir, Judge: true,
		Logger: slog.New(slog.NewTextHandler(&tr.logs, nil)),
	})
	if err != nil {
		tr.t.Fatal(err)
	}
	tr.Keeper = k
	k.Start(func() (string, shadow.Label) { return tr.model, tr.label })
}

// change changes the plan, the model or its label, which the keeper reads.
func (tr *trial) change(f func()) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	f()
}

func (tr *trial) stop() {
	tr.t.Helper()
	if err := tr.Stop(tr.t.Context()); err != nil {
		tr.t.Fatal(err)
	}
}

// report returns all records with the current key, read page by page.
func (tr *trial) report(pageSize uint32) (records []*executorv1.QualityRecord, last *executorv1.GetQualityReportResponse) {
	tr.t.Helper()
	req := &executorv1.GetQualityReportRequest{MaxRecords: pageSize}
	for {
		r, err := tr.Keeper.Report(tr.t.Context(), req)
		if err != nil {
			tr.t.Fatal(err)
		}
		records = append(records, r.GetRecords()...)
		if r.NextBlock == nil {
			return records, r
		}
		next := r.GetNextBlock()
		req.FromBlock = &next
	}
}

// row is a replayed request that the shadow has scored.
func row(id, symbol string, at int64, q, p float64) (shadow.Request, shadow.Result) {
	return shadow.Request{ID: id, Symbol: symbol, Source: shadow.Replay, EventTime: time.UnixMilli(at), Arrival: time.Now(), Baseline: q},
		shadow.Result{Outcome: shadow.Match, Score: p, Digest: modelA}
}

// market feeds minutes whose range and sigma are random, so that about half of the labels are positive.
func feed(k *Keeper, rng *rand.Rand, symbol string, end int64) {
	k.Minute(symbol, feature.Minute{End: end, High: 100 * (1 + 0.004*rng.Float64()), Low: 100 * (1 - 0.004*rng.Float64()), SigmaRef: 10})
}

// fill feeds the keeper minutes and rows from minute a to before minute b. They depend only on the seed and the
// minute.
func fill(k *Keeper, symbols []string, a, b int64, seed uint64) (rows uint64) {
	for m := a; m < b; m++ {
		at := first + m*minuteMS
		for s, symbol := range symbols {
			rng := rand.New(rand.NewPCG(seed+uint64(s), uint64(m)))
			feed(k, rng, symbol, at)
			for i := range 3 {
				q := rng.Float64()
				req, res := row(fmt.Sprintf("%s-%d-%d", symbol, m, i), symbol, at, q, min(1, max(0, q+0.3*(rng.Float64()-0.5))))
				if rng.IntN(10) == 0 {
					res = shadow.Result{Outcome: shadow.Deadline}
				}
				k.Settled(req, res)
				rows++
			}
		}
		k.mu.Lock() // in a test nothing else drains the queue in time
		k.drain()
		k.mu.Unlock()
	}
	return rows
}

// bits returns the records without the executor's id, for comparison.
func bits(t *testing.T, records []*executorv1.QualityRecord) string {
	t.Helper()
	var b strings.Builder
	for _, r := range records {
		r.ExecutorId = ""
		raw, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		b.Write(append(raw, '\n'))
	}
	return b.String()
}

func TestLabelsAreThoseOfAFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := newTrial(t, planOf(quality.Quotes), "")
		defer tr.stop()
		book, err := feature.NewBuilders(feature.BuildersOptions{OnMinute: tr.Minute})
		if err != nil {
			t.Fatal(err)
		}
		// Three days of quotes of one symbol with holes, and a request a minute whose baseline score is its minute modulo 7.
		rng, price := rand.New(rand.NewPCG(1, 2)), 100.0
		var builder market.BarBuilder
		var bars []market.Bar
		asked := map[int64]float64{}
		for m := int64(0); m < 3*1440; m++ {
			if m%500 > 485 && m%1000 < 500 {
				continue // a hole of 14 minutes
			}
			for i := range int64(4) {
				price *= math.Exp(0.0008 * rng.NormFloat64())
				q := market.Quote{Time: first + m*minuteMS + i*10_000, Bid: price * 0.9999, Ask: price * 1.0001}
				if _, err := book.Observe("S", q); err != nil {
					t.Fatal(err)
				}
				if done, ok := builder.Add(q); ok {
					bars = append(bars, done)
				}
			}
			if m > 2880 {
				score := float64(m%7) / 10
				asked[first+m*minuteMS] = score
				tr.Settled(row(fmt.Sprint(m), "S", first+m*minuteMS, score, score))
			}
			time.Sleep(drainPeriod)
		}
		if done, ok := builder.Flush(); ok {
			bars = append(bars, done)
		}
		f, err := feature.Compute(bars)
		if err != nil {
			t.Fatal(err)
		}
		positives, n := map[uint32]uint64{}, uint64(0)
		records, last := tr.report(0)
		if len(records) < 50 {
			t.Fatalf("%d records", len(records))
		}
		end := (records[len(records)-1].GetBlock() + 1) * 15 * minuteMS
		for i, z := range label.Default().Z(f) {
			if score, ok := asked[f.End(i)]; ok && f.End(i) < end && !math.IsNaN(z) {
				n++
				if z > ranged.Threshold {
					positives[uint32(score*200)]++
				}
			}
		}
		got, matured := map[uint32]uint64{}, uint64(0)
		for _, r := range records {
			matured += r.GetLabels().GetMatured()
			for i, bin := range r.GetBaselineScores().GetBins() {
				if p := r.GetBaselineScores().GetPositives()[i]; p > 0 {
					got[bin] += p
				}
			}
		}
		if n < 1000 || matured != n || fmt.Sprint(got) != fmt.Sprint(positives) {
			t.Errorf("got %d labels with positives %v, want %d with %v; %v", matured, got, n, positives, last.GetLabels())
		}
		if last.GetLabels().GetNoLabel() == 0 {
			t.Error("no row was in a hole")
		}
	})
}

func TestRestartsChangeNoBit(t *testing.T) {
	for _, source := range []quality.LabelSource{quality.Quotes, quality.Reported} {
		t.Run(string(source), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				symbols := []string{"X", "Y"}
				const minutes = 400
				run := func(dir string, restarts int64) (string, *executorv1.GetQualityReportResponse) {
					tr := newTrial(t, planOf(source), dir)
					for m := int64(0); m < minutes; m++ {
						fill(tr.Keeper, symbols, m, m+1, 9)
						if source == quality.Reported && m >= 16 {
							var sum executorv1.ReportOutcomesResponse
							for _, s := range symbols {
								for i := range 3 {
									tr.Keeper.report([]*executorv1.ReportedOutcome{reported(fmt.Sprintf("%s-%d-%d", s, m-16, i), m%3 == 0, first+m*minuteMS)}, &sum)
								}
							}
							if sum.GetAccepted() != 6 {
								t.Fatalf("minute %d: %v", m, &sum)
							}
						}
						if restarts > 0 && m%restarts == restarts-1 {
							tr.stop()
							tr.open()
						}
					}
					time.Sleep(2 * time.Second)
					records, last := tr.report(7)
					tr.stop()
					if strings.Contains(tr.logs.String(), "level=ERROR") {
						t.Error(tr.logs.String())
					}
					return bits(t, records), last
				}
				want, whole := run("", 0)
				if strings.Count(want, "\n") < 20 {
					t.Fatalf("few records: %s", want)
				}
				for _, restarts := range []int64{7, 100} {
					got, last := run(t.TempDir(), restarts)
					if got != want {
						t.Errorf("restarts every %d minutes: got\n%.2000s\nwant\n%.2000s", restarts, got, want)
					}
					if last.GetLabels().String() != whole.GetLabels().String() || last.GetLost() != 0 || last.GetJudgment().String() != whole.GetJudgment().String() {
						t.Errorf("got %v %v, want %v %v", last.GetLabels(), last.GetJudgment(), whole.GetLabels(), whole.GetJudgment())
					}
				}
			})
		})
	}
}

func TestTwoExecutorsAreOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, a, b := newTrial(t, planOf(quality.Quotes), ""), newTrial(t, planOf(quality.Quotes), ""), newTrial(t, planOf(quality.Quotes), "")
		defer one.stop()
		defer a.stop()
		defer b.stop()
		const minutes = 2000
		fill(one.Keeper, []string{"X"}, 0, minutes, 3)
		for m := range int64(minutes) {
			for k, each := range []*trial{a, b} {
				rng := rand.New(rand.NewPCG(3, uint64(m)))
				at := first + m*minuteMS
				feed(each.Keeper, rng, "X", at)
				for i := range 3 {
					q := rng.Float64()
					req, res := row(fmt.Sprintf("X-%d-%d", m, i), "X", at, q, min(1, max(0, q+0.3*(rng.Float64()-0.5))))
					if rng.IntN(10) == 0 {
						res = shadow.Result{Outcome: shadow.Deadline}
					}
					if i%2 == k {
						each.Settled(req, res)
					}
				}
				each.mu.Lock()
				each.drain()
				each.mu.Unlock()
			}
		}
		both := slices.Concat(recordsOf(t, a), recordsOf(t, b))
		p := planOf(quality.Quotes)
		want, got := quality.Judge(p, recordsOf(t, one)), quality.Judge(p, both)
		if got.Executors != 2 || want.Counted < 100 || got.Lower != want.Lower || got.Upper != want.Upper || got.Counted != want.Counted || got.Total.SumD != want.Total.SumD || got.Verdict != want.Verdict {
			t.Errorf("got %+v, want %+v", got, want)
		}
	})
}

// recordsOf returns the records of the keeper, without their histograms.
func recordsOf(t *testing.T, tr *trial) []quality.Record {
	t.Helper()
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return lightOf(tr.records.of(tr.current))
}

// Whatever happens, every sampled request has one label or is lost.
func TestEveryRequestHasALabel(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rng := rand.New(rand.NewPCG(seed, 5))
				tr := newTrial(t, planOf([]quality.LabelSource{quality.Quotes, quality.Reported}[seed%2]), t.TempDir())
				sampled, base := uint64(0), uint64(0)
				for m := int64(0); m < 600; m++ {
					at := first + m*minuteMS
					if rng.IntN(20) > 0 {
						feed(tr.Keeper, rng, "X", at)
					}
					for range rng.IntN(4) {
						req, res := row(fmt.Sprint("id-", rng.IntN(4000)), []string{"X", "Y", ""}[rng.IntN(3)], at-int64(rng.IntN(3000))*1000, rng.Float64(), rng.Float64())
						switch rng.IntN(8) {
						case 0:
							req.EventTime = time.Time{}
						case 1:
							req.Source = shadow.Live
						case 2:
							res = shadow.Result{Outcome: shadow.Outcomes()[rng.IntN(len(shadow.Outcomes()))]}
						case 3:
							res.Digest = modelB
						case 4:
							res.Score = math.NaN()
						case 5:
							req.EventTime = time.UnixMilli(at + int64(rng.IntN(1e9)))
						}
						if res.Outcome != shadow.NotSampled {
							sampled++
						}
						tr.Settled(req, res)
					}
					switch rng.IntN(60) {
					case 0:
						tr.change(func() {
							tr.model = []string{modelA, modelB, strings.Repeat("d", 64), strings.Repeat("e", 64), strings.Repeat("f", 64)}[rng.IntN(5)]
						})
					case 1:
						if tr.plan != (quality.Plan{}) {
							tr.change(func() { tr.plan.Margin = 0.01 + 0.01*rng.Float64() })
						}
					case 2:
						tr.change(func() { tr.plan = quality.Plan{} })
					case 3:
						tr.change(func() { tr.plan = planOf([]quality.LabelSource{quality.Quotes, quality.Reported}[rng.IntN(2)]) })
					case 4:
						labels, lost := tr.Counts()
						base += labels.Total() - labels[quality.Pending] + lost
						if base+labels[quality.Pending] != sampled {
							t.Fatalf("minute %d: %d sampled, %d accounted for: %v, lost %d", m, sampled, base+labels[quality.Pending], labels, lost)
						}
						tr.stop()
						tr.open()
						if fresh, lost := tr.Counts(); fresh.Total() != labels[quality.Pending] || lost != 0 {
							t.Fatalf("minute %d: after the start %v, %d", m, fresh, lost)
						}
					}
					var sum executorv1.ReportOutcomesResponse
					tr.Keeper.report([]*executorv1.ReportedOutcome{reported(fmt.Sprint("id-", rng.IntN(4000)), rng.IntN(2) == 0, at)}, &sum)
					time.Sleep(time.Duration(rng.IntN(100)) * time.Millisecond)
				}
				labels, lost := tr.Counts()
				if got := base + labels.Total() + lost; got != sampled || lost != 0 {
					t.Errorf("%d sampled, %d accounted for: %v, lost %d", sampled, got, labels, lost)
				}
				time.Sleep(2 * time.Second)
				// The same by records: all of them, of any model and plan, plus what the joins still have open.
				total := uint64(0)
				tr.mu.Lock()
				for _, r := range tr.records.all {
					total += r.light.Requests()
				}
				open := uint64(0)
				for _, j := range tr.joins {
					labels, lost := j.Counts()
					counted := labels.Total() + lost
					all, gone := countsOf(tr.records.byKey[j.Key()])
					open += counted - all.Total() - gone
				}
				tr.mu.Unlock()
				if total+open != sampled {
					t.Errorf("%d sampled, %d in records and %d open", sampled, total, open)
				}
				tr.stop()
			})
		})
	}
}

func reported(id string, y bool, known int64) *executorv1.ReportedOutcome {
	o := uint32(0)
	if y {
		o = 1
	}
	return &executorv1.ReportedOutcome{RequestId: id, Outcome: &o, KnownTime: timestamppb.New(time.UnixMilli(known))}
}

func TestReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := newTrial(t, planOf(quality.Reported), "")
		defer tr.stop()
		tr.Settled(row("a", "S", first, 0.2, 0.3))
		tr.Settled(row("b", "S", first, 0.2, 0.3))
		two := uint32(2)
		known := first + 20*minuteMS
		hostile := []*executorv1.ReportedOutcome{
			nil,
			{},
			{RequestId: "a"},
			{RequestId: "a", Outcome: &two, KnownTime: timestamppb.New(time.UnixMilli(known))},
			{RequestId: strings.Repeat("x", 257), Outcome: reported("", true, 0).Outcome, KnownTime: timestamppb.New(time.UnixMilli(known))},
			{RequestId: "a", Outcome: reported("", true, 0).Outcome},
			{RequestId: "a", Outcome: reported("", true, 0).Outcome, KnownTime: &timestamppb.Timestamp{Seconds: math.MaxInt64}},
			{RequestId: "a", Outcome: reported("", true, 0).Outcome, KnownTime: &timestamppb.Timestamp{Seconds: 1, Nanos: -1}},
			reported("a", true, -1),
		}
		for _, tt := range []struct {
			name     string
			outcomes []*executorv1.ReportedOutcome
			want     *executorv1.ReportOutcomesResponse
		}{
			{"hostile", hostile, &executorv1.ReportOutcomesResponse{Invalid: uint64(len(hostile))}},
			{"before the request", []*executorv1.ReportedOutcome{reported("a", true, first-1)}, &executorv1.ReportOutcomesResponse{Contradicting: 1}},
			{"of another executor", []*executorv1.ReportedOutcome{reported("z", true, known)}, &executorv1.ReportOutcomesResponse{Unknown: 1}},
			{"in time", []*executorv1.ReportedOutcome{reported("a", true, known)}, &executorv1.ReportOutcomesResponse{Accepted: 1}},
			{"again", []*executorv1.ReportedOutcome{reported("a", true, known)}, &executorv1.ReportOutcomesResponse{Repeated: 1}},
			{"another", []*executorv1.ReportedOutcome{reported("a", false, known)}, &executorv1.ReportOutcomesResponse{Contradicting: 1}},
			{"late", []*executorv1.ReportedOutcome{reported("b", false, first+31*minuteMS)}, &executorv1.ReportOutcomesResponse{Late: 1}},
		} {
			var sum executorv1.ReportOutcomesResponse
			tr.Keeper.report(tt.outcomes, &sum)
			if sum.String() != tt.want.String() {
				t.Errorf("%s: got %v, want %v", tt.name, &sum, tt.want)
			}
		}
	})
}

func TestTimeOfReportsIsLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := newTrial(t, planOf(quality.Reported), "")
		defer tr.stop()
		tr.opts.Ahead = time.Minute
		now := time.Now().UnixMilli()
		var sum executorv1.ReportOutcomesResponse
		tr.Keeper.report([]*executorv1.ReportedOutcome{reported("a", true, now+minuteMS+1), reported("a", true, now+minuteMS)}, &sum)
		if sum.GetInvalid() != 1 || sum.GetUnknown() != 1 {
			t.Errorf("got %v", &sum)
		}
	})
}

// A model that returns within the same block, and a changed plan, neither lose nor repeat a record.
func TestModelReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := newTrial(t, planOf(quality.Quotes), "")
		defer tr.stop()
		for i, model := range []string{modelA, modelB, modelA, modelB, modelA} {
			tr.change(func() { tr.model = model })
			fill(tr.Keeper, []string{"X"}, int64(4*i), int64(4*i+4), 3)
		}
		fill(tr.Keeper, []string{"X"}, 20, 300, 3)
		keys := map[quality.Key]bool{}
		for _, r := range tr.records.all {
			if keys[r.light.Key] {
				t.Errorf("two records of %+v", r.light.Key)
			}
			keys[r.light.Key] = true
		}
		if len(tr.joins) != 1 {
			t.Errorf("%d joins are left", len(tr.joins))
		}
		p := planOf(quality.Quotes)
		v := quality.Judge(p, recordsOf(t, tr))
		if v.Verdict == quality.Error || v.Total.Rows == 0 || v.Shares.Missing != 0 {
			t.Errorf("got %+v", v)
		}
	})
}

func TestUnusableFiles(t *testing.T) {
	for name, content := range map[string]string{
		identityName: `{"schema":"greenlight/quality_executor/v2"}`,
		recordsName:  `{"schema":"greenlight/quality_records/v2"}` + "\n",
		openName:     `{"schema":"greenlight/quality_open/v1"}` + "\n" + `{"whole":false}` + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr := newTrial(t, planOf(quality.Quotes), t.TempDir())
				rows := fill(tr.Keeper, []string{"X"}, 0, 100, 3)
				tr.stop()
				path := filepath.Join(tr.dir, name)
				if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
					t.Fatal(err)
				}
				tr.open()
				defer tr.stop()
				aside, err := filepath.Glob(path + ".unusable-*")
				if err != nil || len(aside) != 1 {
					t.Fatalf("set aside: %q, %v", aside, err)
				}
				if raw, err := os.ReadFile(aside[0]); err != nil || string(raw) != content {
					t.Errorf("set aside: %q, %v", raw, err)
				}
				if !strings.Contains(tr.logs.String(), "level=ERROR") {
					t.Error("the log does not have it")
				}
				if _, lost := tr.Counts(); name == openName && (lost == 0 || lost > rows) {
					t.Errorf("%d rows of %d are lost", lost, rows)
				}
				fill(tr.Keeper, []string{"X"}, 100, 300, 3)
				time.Sleep(2 * time.Second)
				if records, _ := tr.report(0); len(records) < 5 {
					t.Errorf("%d records after it", len(records))
				}
			})
		})
	}
}

// An unusable counter is set aside and continues from the saved count: no saved row counts as lost, but later ones do.
func TestUnusableCounter(t *testing.T) {
	for name, content := range durabletest.BrokenCounters() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr := newTrial(t, planOf(quality.Quotes), t.TempDir())
				rows := fill(tr.Keeper, []string{"X"}, 0, 100, 3)
				tr.stop()
				path := filepath.Join(tr.dir, receivedName)
				if err := os.WriteFile(path, content, 0o644); err != nil {
					t.Fatal(err)
				}
				tr.open()
				if aside, err := filepath.Glob(path + ".unusable-*"); err != nil || len(aside) != 1 || !strings.Contains(tr.logs.String(), "set_aside_as="+aside[0]) {
					t.Errorf("set aside: %q, %v; the log is %s", aside, err, tr.logs.String())
				}
				if _, lost := tr.Counts(); lost != 0 || tr.received.Load() != rows || tr.taken != rows {
					t.Errorf("%d rows are lost, %d received and %d taken; want 0, %d, %d", lost, tr.received.Load(), tr.taken, rows, rows)
				}
				tr.received.Add() // a row that a kill keeps from being joined
				tr.stop()
				tr.open()
				defer tr.stop()
				if _, lost := tr.Counts(); lost != 1 {
					t.Errorf("%d rows are lost after a kill, want 1", lost)
				}
			})
		})
	}
}

func TestReportRefusesDigests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := newTrial(t, planOf(quality.Quotes), "")
		defer tr.stop()
		if _, err := tr.Keeper.Report(t.Context(), &executorv1.GetQualityReportRequest{ModelDigest: "X"}); err == nil {
			t.Error("want an error")
		}
	})
}

// BenchmarkSettled is what a sampled decision pays. BenchmarkSettled/joined adds the join, which another goroutine does.
func BenchmarkSettled(b *testing.B) {
	for _, joined := range []bool{false, true} {
		b.Run(map[bool]string{false: "queued", true: "joined"}[joined], func(b *testing.B) { benchmarkSettled(b, joined) })
	}
}

func benchmarkSettled(b *testing.B, joined bool) {
	k, err := Open(Options{
		Baseline: baseline, Plan: func() (quality.Plan, uint64) { return planOf(quality.Quotes), 1 }, Dir: b.TempDir(),
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = k.Stop(b.Context()) })
	for s := range 100 {
		k.Minute(fmt.Sprint("SYM-", s), feature.Minute{End: first, High: 101, Low: 100, SigmaRef: 10})
	}
	type pair struct {
		shadow.Request
		shadow.Result
	}
	rows := make([]pair, map[bool]int{false: 1 << 10, true: 1 << 17}[joined])
	for i := range rows {
		rows[i].Request, rows[i].Result = row(fmt.Sprint("request-", i), fmt.Sprint("SYM-", i%100), first, float64(i%1000)/1000, float64(i%997)/1000)
	}
	drain := func() {
		if joined {
			k.mu.Lock()
			k.drain()
			k.mu.Unlock()
		} else {
			k.queue = k.queue[:0]
		}
	}
	for range maxQueue / 2 {
		k.Settled(rows[0].Request, rows[0].Result)
	}
	drain()
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		r := &rows[i%len(rows)]
		k.Settled(r.Request, r.Result)
		if i++; i%1000 == 0 {
			drain()
		}
	}
}
