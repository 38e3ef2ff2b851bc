package outcome_test

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/eval"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/outcome"
)

// made returns the record of a block of n matured rows with a mean difference.
func made(p outcome.Plan, executor string, block int64, n int, mean float64) outcome.Record {
	r := outcome.Record{Key: key(executor), Revision: 1, Rows: uint64(n)}
	r.Block, r.Plan = block, p.Digest()
	r.Labels[outcome.Matured], r.Fallbacks[outcome.None], r.Sources[outcome.Replay] = uint64(n), uint64(n), uint64(n)
	r.SumD = outcome.Fixed(math.Round(float64(n) * mean * (1 << 36)))
	r.SumD2 = outcome.Fixed(math.Round(float64(n) * mean * mean * (1 << 36)))
	third := uint64(n / 3)
	r.BaselineScores = outcome.Histogram{{60, uint64(n) - third, third}}
	r.PolicyScores = outcome.Histogram{{60, uint64(n) - third, third}}
	r.SumBaseline, r.SumPolicy, r.SumLoss = outcome.Fixed(n)<<34, outcome.Fixed(n)<<34, outcome.Fixed(n)<<33
	return r
}

const firstBlock = 1964000

// series returns the records of n blocks, with an alternating difference around the mean.
func series(p outcome.Plan, n int, mean float64) []outcome.Record {
	records := make([]outcome.Record, n)
	for i := range records {
		records[i] = made(p, "e", firstBlock+int64(i), 12, mean+0.01*float64(i/2%2*2-1))
	}
	return chained(records)
}

// chained sets the totals through the records of one executor.
func chained(records []outcome.Record) []outcome.Record {
	through := uint64(0)
	for i := range records {
		through += records[i].Requests()
		records[i].Through = through
	}
	return records
}

// Each row of the table of verdicts, and each further condition, decides alone.
func TestVerdicts(t *testing.T) {
	p := plan(outcome.Quotes)
	const enough = 2000
	each := func(records []outcome.Record, change func(i int, r *outcome.Record)) []outcome.Record {
		for i := range records {
			change(i, &records[i])
		}
		return chained(records)
	}
	move := func(share float64, to outcome.Label) func(int, *outcome.Record) {
		return func(_ int, r *outcome.Record) { // rows without a label, besides the matured ones
			n := uint64(math.Round(share / (1 - share) * 1200))
			*r = scaled(p, r, 100)
			r.Labels[to] += n
			r.Rows, r.Fallbacks[outcome.None], r.Sources[outcome.Replay] = r.Rows+n, r.Fallbacks[outcome.None]+n, r.Sources[outcome.Replay]+n
		}
	}
	for _, c := range []struct {
		name    string
		records []outcome.Record
		want    outcome.Verdict
		reason  string
	}{
		{"nothing", nil, outcome.Inconclusive, "0 counted blocks in a stream, 50 needed"},
		{"equal scorers, a few days", series(p, 600, 0), outcome.Pass, ""},
		{"equal scorers, a day", series(p, 96, 0), outcome.Inconclusive, "48 counted blocks in a stream"},
		{"equal scorers, two days", series(p, 192, 0), outcome.Inconclusive, "the mean difference is between"},
		{"much better", series(p, enough, 0.03), outcome.Better, ""},
		{"much worse", series(p, enough, -0.03), outcome.Fail, "higher by more than the margin of 0.01"},
		{"much worse, early", series(p, 90, -0.2), outcome.Fail, "higher by more than the margin"},
		{"worse within the margin", series(p, 4*enough, -0.004), outcome.Pass, ""},
		{"worse by the margin", series(p, 4*enough, -0.01), outcome.Inconclusive, "it never passes"},
		{"better, then worse", append(series(p, enough, 0.03), shift(series(p, 3*enough, -0.08), enough)...), outcome.Fail, ""},
		{"5 % expired", each(series(p, enough, 0), move(0.05, outcome.Expired)), outcome.Pass, ""},
		{"6 % expired", each(series(p, enough, 0), move(0.06, outcome.Expired)), outcome.Error, "6.0 % of the labels due are expired or lost"},
		{"6 % expired, and worse", each(series(p, enough, -0.03), move(0.06, outcome.Expired)), outcome.Error, "expired"},
		{"6 % lost", each(series(p, enough, 0), func(_ int, r *outcome.Record) { r.Lost++ }), outcome.Error, "expired or lost"},
		{"20 % without a label", each(series(p, enough, 0), move(0.2, outcome.NoLabel)), outcome.Pass, ""},
		{"21 % without a label", each(series(p, enough, 0), move(0.21, outcome.NoLabel)), outcome.Error, "21.0 % of the labels due are missing"},
		{"half not kept", each(series(p, enough, 0), move(0.5, outcome.NotKept)), outcome.Pass, ""},
		{"5 % over the cap", each(series(p, enough, 0), fall(0.05, outcome.Disagreement)), outcome.Pass, ""},
		{"6 % over the cap", each(series(p, enough, 0), fall(0.06, outcome.Disagreement)), outcome.Inconclusive, "6.0 % of the scores are farther"},
		{"5 % unanswered", each(series(p, enough, 0), fall(0.05, outcome.Deadline)), outcome.Pass, ""},
		{"6 % unanswered", each(series(p, enough, 0), fall(0.06, outcome.BreakerOpen)), outcome.Inconclusive, "94.0 % of the rows have a score"},
		{"every third block is thin", thinned(p, enough, 3), outcome.Pass, ""},
		{"two of three blocks are thin", thinned(p, 3*enough, -3), outcome.Inconclusive, "blocks with requests have 5 rows and a label"},
		{"5 % of records missing", chainedBut(series(p, enough, 0), 20), outcome.Pass, ""},
		{"6 % of records missing", chainedBut(series(p, enough, 0), 16), outcome.Error, "in records that are missing"},
		{"the first of many records", series(p, enough, 0)[300:], outcome.Pass, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := outcome.Judge(p, c.records)
			if v.Verdict != c.want || !strings.Contains(strings.Join(v.Reasons, "; "), c.reason) || (c.reason == "") != (len(v.Reasons) == 0) && v.Verdict != outcome.Fail {
				t.Errorf("got %s, %q, want %s, %q; %+v", v.Verdict, v.Reasons, c.want, c.reason, v.Shares)
			}
			if passed := v.Verdict == outcome.Pass || v.Verdict == outcome.Better; passed != v.Verdict.Gate().OK() {
				t.Errorf("%s is the gate's %s", v.Verdict, v.Verdict.Gate())
			} else if passed && (v.DaysNeeded == nil || *v.DaysNeeded != 0) {
				t.Errorf("passed, and needs %v days", v.DaysNeeded)
			}
		})
	}
	if got := outcome.Verdict("").Gate(); got != gate.Error {
		t.Errorf("no verdict is the gate's %s", got)
	}
}

// scaled returns the record with n times the rows.
func scaled(p outcome.Plan, r *outcome.Record, n int) outcome.Record {
	return made(p, r.Executor, r.Block, n*int(r.Rows), r.SumD.Float()/float64(r.Rows))
}

// fall lets a share of the rows fall back.
func fall(share float64, to outcome.Fallback) func(int, *outcome.Record) {
	return func(_ int, r *outcome.Record) {
		*r = scaled(plan(outcome.Quotes), r, 100)
		n := uint64(math.Round(share * float64(r.Rows)))
		r.Fallbacks[outcome.None], r.Fallbacks[to] = r.Fallbacks[outcome.None]-n, n
	}
}

func shift(records []outcome.Record, blocks int) []outcome.Record {
	for i := range records {
		records[i].Block += int64(blocks)
		records[i].Through += uint64(blocks) * 12
	}
	return records
}

// thinned makes every n-th block thin, or all but every n-th if n is negative.
func thinned(p outcome.Plan, blocks, n int) []outcome.Record {
	records := series(p, blocks, 0)
	for i := range records {
		if n > 0 && i%n == 0 || n < 0 && i%-n != 0 {
			records[i] = made(p, "e", records[i].Block, outcome.LeastRows-1, 0)
		}
	}
	return chained(records)
}

// chainedBut removes every n-th record.
func chainedBut(records []outcome.Record, n int) []outcome.Record {
	i := 0
	return slices.DeleteFunc(records, func(outcome.Record) bool { i++; return i%n == n-1 })
}

// A stream of four rows a block never passes, however long it is.
func TestThinStreamNeverPasses(t *testing.T) {
	p := plan(outcome.Quotes)
	var records []outcome.Record
	for i := range 20_000 {
		records = append(records, made(p, "e", firstBlock+int64(i), 4, 0.05))
	}
	v := outcome.Judge(p, chained(records))
	if v.Verdict != outcome.Inconclusive || v.Counted != 0 || v.Blocks != 20_000 || v.Lower != -p.MaxDifference() {
		t.Errorf("got %s, %d of %d blocks, lower %v", v.Verdict, v.Counted, v.Blocks, v.Lower)
	}
	// Two executors with three rows each are six rows.
	records = nil
	for _, e := range []string{"a", "b"} {
		var one []outcome.Record
		for i := range 600 {
			one = append(one, made(p, e, firstBlock+int64(i), 3, 0))
		}
		records = append(records, chained(one)...)
	}
	if v := outcome.Judge(p, records); v.Verdict != outcome.Pass || v.Counted != 600 {
		t.Errorf("two executors: got %s, %d blocks", v.Verdict, v.Counted)
	}
}

// The bounds of a judgment match the definition, found by an independent search over the records.
func TestJudgeAgainstDefinition(t *testing.T) {
	p := plan(outcome.Quotes)
	p.DisagreementCap = 0.1
	rng := rand.New(rand.NewPCG(21, 0))
	var records []outcome.Record
	for i := range 400 {
		n := 1 + rng.IntN(20)
		records = append(records, made(p, "e", firstBlock+int64(i), n, max(-0.15, min(0.15, 0.01+0.05*rng.NormFloat64()))))
	}
	v := outcome.Judge(p, chained(records))
	most := 0.1 * 1.9
	bets := []float64{0.03, 0.06, 0.125, 0.25, 0.5, 0.9}
	wealth := func(x []float64, m float64) float64 {
		sum := 0.0
		for _, bet := range bets {
			log := -bet * float64(len(x)) * m
			for _, one := range x {
				log += math.Log(1 + bet*one)
			}
			sum += math.Exp(log) / 6
		}
		return sum
	}
	lower := func(x []float64) float64 {
		best := -1.0
		for n := 1; n <= len(x); n++ {
			for best < 1 && wealth(x[:n], best+1e-4) >= 1/0.025 { // an independent grid
				best += 1e-4
			}
		}
		return best
	}
	for k, s := range v.Streams {
		var x, mirrored []float64
		for _, r := range records {
			if r.Block%2 == int64(k) && r.Rows >= 5 {
				x = append(x, r.SumD.Float()/float64(r.Rows)/most)
				mirrored = append(mirrored, -x[len(x)-1])
			}
		}
		if s.Blocks != len(x) {
			t.Errorf("%s: %d blocks, want %d", s.Name, s.Blocks, len(x))
		}
		if l, u := lower(x), -lower(mirrored); math.Abs(s.Lower-most*l) > 2e-4*most || math.Abs(s.Upper-most*u) > 2e-4*most {
			t.Errorf("%s: %v to %v, want %v to %v", s.Name, s.Lower, s.Upper, most*l, most*u)
		}
	}
	if len(v.Points) != v.Counted || v.Points[len(v.Points)-1].Block > firstBlock+399 {
		t.Errorf("%d points of %d blocks", len(v.Points), v.Counted)
	}
}

// A claim stays, and names its block.
func TestClaims(t *testing.T) {
	p := plan(outcome.Quotes)
	records := append(series(p, 2000, 0.03), shift(series(p, 6000, -0.08), 2000)...)
	v := outcome.Judge(p, records)
	var all []outcome.Verdict
	for _, c := range v.Claims {
		all = append(all, c.Verdict)
		until := slices.IndexFunc(records, func(r outcome.Record) bool { return r.Block == c.Block })
		if !c.Time.Equal(p.Start(c.Block + 1)) {
			t.Errorf("%s: time %v", c.Verdict, c.Time)
		}
		has := func(n int) bool {
			return slices.ContainsFunc(outcome.Judge(p, records[:n]).Claims, func(o outcome.Claim) bool { return o == c })
		}
		if !has(until+1) || has(until) {
			t.Errorf("%s is not first claimed by block %d", c.Verdict, c.Block)
		}
	}
	if !slices.Equal(all, []outcome.Verdict{outcome.Pass, outcome.Better, outcome.Fail}) {
		t.Errorf("got claims %v", v.Claims)
	}
}

// The predicted number of days is the actual one.
func TestDaysNeeded(t *testing.T) {
	p := plan(outcome.Quotes)
	for _, mean := range []float64{0, 0.004, -0.004} {
		v := outcome.Judge(p, series(p, 192, mean))
		if v.DaysNeeded == nil || v.ExpectedDays == nil {
			t.Fatalf("mean %v: never", mean)
		}
		n := 192 + int(math.Ceil(*v.DaysNeeded*96))
		if early, late := outcome.Judge(p, series(p, n*9/10, mean)), outcome.Judge(p, series(p, n+4, mean)); early.Verdict == outcome.Pass || late.Verdict != outcome.Pass {
			t.Errorf("mean %v: %v days more: %s shortly before, %s then", mean, *v.DaysNeeded, early.Verdict, late.Verdict)
		}
		if math.Abs(*v.ExpectedDays-*v.DaysNeeded-2) > 0.1 {
			t.Errorf("mean %v: %v days in all, %v more after 2", mean, *v.ExpectedDays, *v.DaysNeeded)
		}
	}
	// The figures of the design: 6.7 days with D = 0.25, 1.5 days with D = 0.05, and years with a horizon of a day.
	for _, c := range []struct {
		cap, margin float64
		horizon     time.Duration
		want        string
	}{
		{0.25, 0.05 * 0.168, 15 * time.Minute, "6.6 days"},
		{0.05, 0.05 * 0.168, 15 * time.Minute, "1.5 days"},
		{0.25, 0.05 * 0.168, 24 * time.Hour, "1.7 years"},
	} {
		q := outcome.Plan{DisagreementCap: c.cap, Margin: c.margin, Alpha: 0.05, LabelSource: outcome.Quotes, HorizonMS: c.horizon.Milliseconds()}
		if got := outcome.Days(q.LeastDays()); got != c.want {
			t.Errorf("D %v, H %v: %s (%v), want %s", c.cap, c.horizon, got, q.LeastDays(), c.want)
		}
	}
}

func TestContradictions(t *testing.T) {
	p := plan(outcome.Quotes)
	for name, change := range map[string]func(r []outcome.Record) []outcome.Record{
		"a changed count":              func(r []outcome.Record) []outcome.Record { r[40].Labels[outcome.Matured]++; return r },
		"a changed count and its sums": func(r []outcome.Record) []outcome.Record { r[40] = made(p, "e", r[40].Block, 13, 0); return r },
		"a changed bin":                func(r []outcome.Record) []outcome.Record { r[40].PolicyScores[0][1]++; return r },
		"a class of one histogram": func(r []outcome.Record) []outcome.Record {
			r[40].PolicyScores = outcome.Histogram{{60, 7, 5}}
			return r
		},
		"a changed fallback":             func(r []outcome.Record) []outcome.Record { r[40].Fallbacks[outcome.Shed]++; return r },
		"a changed source":               func(r []outcome.Record) []outcome.Record { r[40].Sources[outcome.Live]++; return r },
		"a pending row":                  func(r []outcome.Record) []outcome.Record { r[40].Labels[outcome.Pending]++; return r },
		"an impossible difference":       func(r []outcome.Record) []outcome.Record { r[40].SumD = 12 << 36; return r },
		"an impossible score":            func(r []outcome.Record) []outcome.Record { r[40].SumPolicy = 13 << 36; return r },
		"another plan":                   func(r []outcome.Record) []outcome.Record { r[40].Plan = "other"; return r },
		"another model":                  func(r []outcome.Record) []outcome.Record { r[40].Model = "other"; return r },
		"two records of a block":         func(r []outcome.Record) []outcome.Record { two := r[40]; two.SumD++; return append(r, two) },
		"a total that goes back":         func(r []outcome.Record) []outcome.Record { r[40].Through -= 20; return r },
		"no executor":                    func(r []outcome.Record) []outcome.Record { r[40].Executor = ""; return r },
		"sums that exceed what fits":     func(r []outcome.Record) []outcome.Record { return overflowing(p) },
		"more matured than rows":         func(r []outcome.Record) []outcome.Record { r[40].Rows--; return r },
		"a total below its own requests": func(r []outcome.Record) []outcome.Record { r[0].Through--; return r },
	} {
		v := outcome.Judge(p, change(series(p, 600, 0)))
		if v.Verdict != outcome.Error || len(v.Reasons) == 0 {
			t.Errorf("%s: got %s, %v", name, v.Verdict, v.Reasons)
		}
		if _, err := outcome.Watch(p, change(series(p, 600, 0))); err == nil {
			t.Errorf("%s: Watch has no error", name)
		}
	}
	// A duplicate record does not count.
	records := series(p, 600, 0)
	if v := outcome.Judge(p, append(records, records[5])); v.Verdict != outcome.Pass || v.Total.Rows != 600*12 {
		t.Errorf("a record twice: got %s, %d rows, %v", v.Verdict, v.Total.Rows, v.Reasons)
	}
	bad := p
	bad.Margin = 0
	if v := outcome.Judge(bad, nil); v.Verdict != outcome.Error {
		t.Errorf("a plan without a margin: %s", v.Verdict)
	}
}

// overflowing returns records whose sums do not fit together.
func overflowing(p outcome.Plan) (records []outcome.Record) {
	for e := range 3 {
		records = append(records, chained([]outcome.Record{made(p, fmt.Sprint(e), firstBlock, 1<<28, 0.2)})...)
	}
	return records
}

func TestWatch(t *testing.T) {
	p := plan(outcome.Quotes)
	a, err := outcome.Watch(p, series(p, 2000, 0))
	if err != nil || a.Raised || a.Threshold != 365*96 {
		t.Errorf("equal scorers: %+v, %v", a, err)
	}
	records := append(series(p, 2000, 0), shift(series(p, 2000, -0.08), 2000)...)
	a, err = outcome.Watch(p, records)
	if err != nil || !a.Raised || a.Block < firstBlock+2000 || a.Block > firstBlock+2400 {
		t.Errorf("worse after 2,000 blocks: %+v, %v", a, err)
	}
}

func TestDescribe(t *testing.T) {
	p := plan(outcome.Quotes)
	events := minutes(31, 24*6, 6, "A")
	records := run(outcome.NewJoin(key("e"), p), events)
	f, err := outcome.Describe(p, records, eval.Bootstrap{Replicates: 200, Seed: 1, Level: 0.95, MinDays: 5})
	if err != nil {
		t.Fatal(err)
	}
	var scores [2][]float64
	var labels []bool
	seen := map[string]bool{}
	for _, one := range events {
		for _, e := range one {
			r := e.row
			if r == nil || seen[r.ID] {
				continue
			}
			seen[r.ID] = true
			if y := label(r.Symbol, r.Time/minute*minute); r.Time > 0 && r.Symbol == "A" && y != outcome.Unknown {
				policy := r.Shadow
				if r.Missing != outcome.None || !(math.Abs(policy-r.Baseline) <= p.DisagreementCap) {
					policy = r.Baseline
				}
				scores[0], scores[1], labels = append(scores[0], r.Baseline), append(scores[1], policy), append(labels, y == outcome.Positive)
			}
		}
	}
	if int(f.Rows) != len(labels) || math.Abs(f.BaseRate-eval.BaseRate(labels)) > 1e-12 {
		t.Fatalf("%d rows, base rate %v, want %d, %v", f.Rows, f.BaseRate, len(labels), eval.BaseRate(labels))
	}
	for i, got := range []outcome.ScoreFigures{f.Baseline, f.Policy} {
		excess := eval.BaseRate(labels)
		for _, s := range scores[i] {
			excess -= s / float64(len(labels))
		}
		for name, pair := range map[string][3]float64{
			"brier":    {got.Brier, eval.Brier(scores[i], labels), 1e-9},
			"excess":   {got.Excess, excess, 1e-9},
			"auc":      {*got.AUC, eval.AUC(scores[i], labels), 2e-3},
			"log loss": {got.LogLoss, eval.LogLoss(clipped(scores[i]), labels), 5e-3},
		} {
			if math.Abs(pair[0]-pair[1]) > pair[2] {
				t.Errorf("scores %d: %s is %v, want %v", i, name, pair[0], pair[1])
			}
		}
		if in := got.AUCInterval; in == nil || !(in.Low < *got.AUC && *got.AUC < in.High && in.High-in.Low < 0.1) {
			t.Errorf("scores %d: AUC %v in %v", i, *got.AUC, in)
		}
		if !(got.ExcessLower <= excess && excess <= got.ExcessUpper && got.ExcessUpper-got.ExcessLower < 0.4) {
			t.Errorf("scores %d: excess %v in %v to %v", i, excess, got.ExcessLower, got.ExcessUpper)
		}
		for k, want := range eval.Reliability(scores[i], labels) {
			if have := got.Reliability[k]; have.N != want.N || math.Abs(have.Rate-want.Rate) > 1e-9 || math.Abs(have.MeanScore-want.MeanScore) > 0.003 {
				t.Errorf("scores %d, bin %d: %+v, want %+v", i, k, have, want)
			}
		}
	}
	if f, err := outcome.Describe(p, nil, eval.DefaultBootstrap()); f != nil || err != nil {
		t.Errorf("no records: %v, %v", f, err)
	}
}

// clipped moves scores to the middle of the outer bins, as the histogram does.
func clipped(scores []float64) []float64 {
	out := slices.Clone(scores)
	for i, s := range out {
		out[i] = max(0.0025, min(0.9975, s))
	}
	return out
}

func TestReadRecord(t *testing.T) {
	p := plan(outcome.Quotes)
	records := run(outcome.NewJoin(key("e"), p), minutes(41, 3, 12, "A"))
	records = append(records, outcome.Record{Key: key("empty")})
	for _, r := range records {
		raw := encoded(t, r)
		got, err := outcome.ReadRecord([]byte(raw))
		if err != nil || encoded(t, got) != raw {
			t.Errorf("got %v, %v", got, err)
		}
	}
	good := encoded(t, records[0])
	for name, pair := range map[string][2]string{
		"an unknown key":        {`"lost": 0`, `"lost": 0, "found": 0`},
		"a missing key":         {`"lost": 0,`, ``},
		"null":                  {`"lost": 0`, `"lost": null`},
		"an unknown label":      {`"no_label":`, `"no_lable":`},
		"a missing label":       {`"not_kept": 0`, `"not_kept": 0, "else": 1`},
		"a fraction":            {`"lost": 0`, `"lost": 0.5`},
		"a negative count":      {`"lost": 0`, `"lost": -1`},
		"bins that do not rise": {`"baseline_scores": "`, `"baseline_scores": "199:0,1 `},
		"a bin too many":        {`"policy_scores": "`, `"policy_scores": "200:1,0 `},
		"an entry of two":       {`"baseline_scores": "`, `"baseline_scores": "0:1 `},
		"a negative entry":      {`"baseline_scores": "`, `"baseline_scores": "0:-1,1 `},
		"a leading zero":        {`"baseline_scores": "`, `"baseline_scores": "00:1,1 `},
		"a list":                {`"baseline_scores": "`, `"baseline_scores": ["`},
	} {
		if !strings.Contains(good, pair[0]) {
			t.Fatalf("%s: no %s in %s", name, pair[0], good)
		}
		if _, err := outcome.ReadRecord([]byte(strings.Replace(good, pair[0], pair[1], 1))); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func FuzzReadRecord(f *testing.F) {
	p := plan(outcome.Quotes)
	for _, r := range run(outcome.NewJoin(key("e"), p), minutes(41, 2, 12, "A")) {
		raw, err := json.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := outcome.ReadRecord(raw)
		if err != nil {
			return
		}
		again, err := outcome.ReadRecord([]byte(encoded(t, r)))
		if err != nil || encoded(t, again) != encoded(t, r) {
			t.Fatalf("got %v, %v", again, err)
		}
		outcome.Judge(p, []outcome.Record{*r}) // any record is judged or refused
	})
}

func TestPlan(t *testing.T) {
	p := plan(outcome.Quotes)
	if err := p.Validate(); err != nil || len(p.Digest()) != 64 || (outcome.Plan{}).Digest() != "" {
		t.Error(err, p.Digest())
	}
	digests := map[string]bool{p.Digest(): true}
	for _, change := range []func(*outcome.Plan){
		func(p *outcome.Plan) { p.DisagreementCap = 0.26 },
		func(p *outcome.Plan) { p.Margin *= 1.0000001 },
		func(p *outcome.Plan) { p.Alpha = 0.01 },
		func(p *outcome.Plan) { p.LabelSource = outcome.Reported },
		func(p *outcome.Plan) { p.HorizonMS = 60_000 },
	} {
		q := p
		change(&q)
		if err := q.Validate(); err != nil || digests[q.Digest()] {
			t.Errorf("%+v: %v, digest %s", q, err, q.Digest())
		}
		digests[q.Digest()] = true
	}
	for _, change := range []func(*outcome.Plan){
		func(p *outcome.Plan) { p.DisagreementCap = 0 },
		func(p *outcome.Plan) { p.DisagreementCap = 1.1 },
		func(p *outcome.Plan) { p.DisagreementCap = math.NaN() },
		func(p *outcome.Plan) { p.Margin = 0 },
		func(p *outcome.Plan) { p.Margin = 0.4375 },
		func(p *outcome.Plan) { p.Margin = math.NaN() },
		func(p *outcome.Plan) { p.Alpha = 0 },
		func(p *outcome.Plan) { p.Alpha = 1 },
		func(p *outcome.Plan) { p.LabelSource = "" },
		func(p *outcome.Plan) { p.HorizonMS = 0 },
		func(p *outcome.Plan) { p.HorizonMS = 90_500 },
		func(p *outcome.Plan) { p.HorizonMS = 1 << 62 },
	} {
		q := p
		if change(&q); q.Validate() == nil {
			t.Errorf("%+v: no error", q)
		}
	}
	if b := p.Block(p.Start(-3).UnixMilli() - 1); b != -4 {
		t.Errorf("the time before block -3 is in block %d", b)
	}
	distances := make([]float64, 1001)
	for i := range distances {
		distances[i] = float64(i) / 10_000
	}
	if got := outcome.Suggest(distances, 0.2, outcome.Quotes, 15*time.Minute); math.Abs(got.DisagreementCap-0.0995) > 1e-12 || math.Abs(got.Margin-0.01) > 1e-15 || got.Validate() != nil {
		t.Errorf("got %+v", got)
	}
	if got := outcome.Suggest([]float64{0, 0.001}, 0.2, outcome.Reported, time.Minute).DisagreementCap; got != 0.05 {
		t.Errorf("cap %v, want at least 0.05", got)
	}
}
