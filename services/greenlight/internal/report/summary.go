package report

import (
	"fmt"
	"slices"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/gate"
)

// Rule names of a summary beside those of [gate.Shadow].
const psiRule = "PSI"

// fullCoverage is the share of a period from which on it counts as complete: the weekly summary is made a minute early.
const fullCoverage = 0.999

// Summary is what was seen in a period: the body of report_<date>.json and, with the days, of summary_<week>.json.
type Summary struct {
	Period
	// Coverage is the share of the period that the counts are of, in [0,1], over all executors; Complete says that it is
	// all but a thousandth of it.
	Coverage float64 `json:"coverage"`
	Complete bool    `json:"complete"`
	// Requests are those of all executors, Restarts how often one of them was seen to have restarted.
	Requests uint64 `json:"requests"`
	Restarts int    `json:"restarts"`
	// Samples is how many samples of the period there are, PSIMax the largest index among them; nil without an index.
	Samples int      `json:"samples"`
	PSIMax  *float64 `json:"psi_max"`
	// Verdict is the worst of the figures.
	Verdict gate.Verdict `json:"verdict"`
	Figures []Figure     `json:"figures"`
}

// Figure is one judged figure with what to do about it.
type Figure struct {
	gate.Result
	Action string `json:"action"`
}

// rules are what a period is judged by: the shadow's, and the index of drift.
func rules() []gate.Rule {
	return append(gate.Shadow(), gate.Rule{
		Name: psiRule, Op: gate.Below, Threshold: gate.DefaultPolicy().Promotion.PSI, Unit: gate.Score, MinSamples: 500,
		What: "population stability index over the 7 days before the last sample of the period",
	})
}

// actions say what to do about a figure that failed.
var actions = map[string]string{
	gate.ShadowMatch:     "compare the model with the baseline where they differ; do not promote",
	gate.ShadowErrorRate: "look at the outcomes and the breaker of the executor; do not promote",
	gate.ShadowP95:       "look at the load and the placement of ml-engine; do not promote",
	psiRule:              "look at which feature moved (greenlight drift snapshot); retrain if it stays",
}

// actionOf is what to do about a result.
func actionOf(r gate.Result) string {
	switch r.Verdict {
	case gate.Pass:
		return "none"
	case gate.Fail:
		return actions[r.Name]
	case gate.Inconclusive:
		return "wait for more data"
	default:
		return "find out why nothing was measured"
	}
}

// Summarize sums up a period from the samples, which are in the order of time.
func Summarize(p Period, samples []Sample) Summary {
	t := tally{period: p, last: make(map[string]Counters), seen: make(map[string]time.Time), covered: make(map[string]time.Duration)}
	for _, s := range samples {
		t.add(s)
	}
	sum := Summary{Period: p, Coverage: t.coverage(), Requests: t.sum.Requests, Restarts: t.restarts, Samples: t.samples, PSIMax: t.psiMax}
	sum.Complete = sum.Coverage >= fullCoverage
	card := gate.Judge(rules(), t.observations())
	for _, r := range card.Results {
		if r.Name == psiRule && r.Verdict == gate.Fail && t.drift.Verdict == gate.Inconclusive {
			r.Verdict, r.Reason = gate.Inconclusive, t.drift.Reason // above the threshold, but not above the noise
		}
		sum.Figures = append(sum.Figures, Figure{r, actionOf(r)})
	}
	verdicts := make([]gate.Verdict, len(sum.Figures))
	for i, f := range sum.Figures {
		verdicts[i] = f.Verdict
	}
	sum.Verdict = gate.Worst(verdicts...)
	return sum
}

// tally adds up the differences of samples within a period.
type tally struct {
	period Period
	// last and seen are the newest counters of each executor, and when they were read.
	last map[string]Counters
	seen map[string]time.Time
	// covered is the time of the period that the sum is of, by executor.
	covered  map[string]time.Duration
	sum      Counters
	unlike   string // why the latencies cannot be added up
	restarts int
	samples  int
	drift    *Drift
	psiMax   *float64
}

func (t *tally) add(s Sample) {
	if t.period.has(s.Time, s.Time) {
		t.samples++
		if s.Drift != nil {
			t.drift = s.Drift
			if t.psiMax == nil || s.Drift.PSI > *t.psiMax {
				t.psiMax = &s.Drift.PSI
			}
		}
	}
	for _, c := range s.Executors {
		before, known := t.last[c.Executor]
		from := t.seen[c.Executor]
		anew := !known || before.Instance != c.Instance || c.Requests < before.Requests
		if anew { // it counted from zero when it started
			before, from = Counters{}, c.Start
			if from.After(s.Time) {
				from = s.Time
			}
		}
		t.last[c.Executor], t.seen[c.Executor] = c, s.Time
		if _, ok := t.covered[c.Executor]; !ok && t.period.within(from, s.Time) > 0 {
			t.covered[c.Executor] = 0 // it was there, whether or not its counts can be told apart
		}
		if !t.period.has(from, s.Time) {
			continue
		}
		if known && anew {
			t.restarts++
		}
		t.covered[c.Executor] += t.period.within(from, s.Time)
		t.count(before, c)
	}
}

// count adds a difference.
func (t *tally) count(before, now Counters) {
	t.sum.Requests += now.Requests - before.Requests
	t.sum.Matches += now.Matches - before.Matches
	t.sum.Mismatches += now.Mismatches - before.Mismatches
	t.sum.Failed += now.Failed - before.Failed
	switch {
	case len(now.Latency) != len(now.Edges)+1, before.Latency != nil && !slices.Equal(before.Edges, now.Edges):
		t.unlike = fmt.Sprintf("executor %s has no histogram of latencies that goes on", now.Executor)
		return
	case t.sum.Latency == nil:
		t.sum.Edges, t.sum.Latency = now.Edges, make([]uint64, len(now.Latency))
	case !slices.Equal(t.sum.Edges, now.Edges):
		t.unlike = fmt.Sprintf("executor %s has other latency buckets than the rest", now.Executor)
		return
	}
	for i, n := range now.Latency {
		if before.Latency != nil {
			n -= before.Latency[i]
		}
		t.sum.Latency[i] += n
	}
}

// coverage is the mean over the executors.
func (t *tally) coverage() float64 {
	if len(t.covered) == 0 {
		return 0
	}
	var covered time.Duration
	for _, d := range t.covered {
		covered += d
	}
	return float64(covered) / float64(t.period.End.Sub(t.period.Start)) / float64(len(t.covered))
}

// observations are what the rules are judged on.
func (t *tally) observations() map[string]gate.Observation {
	const none = "no data"
	seen := map[string]gate.Observation{
		gate.ShadowMatch: gate.Missing(none), gate.ShadowErrorRate: gate.Missing(none), gate.ShadowP95: gate.Missing(none), psiRule: gate.Missing(none),
	}
	compared := t.sum.Matches + t.sum.Mismatches
	if calls := compared + t.sum.Failed; calls > 0 {
		seen[gate.ShadowMatch] = gate.Rate(t.sum.Matches, compared)
		seen[gate.ShadowErrorRate] = gate.Rate(t.sum.Failed, calls)
	}
	var timed uint64
	for _, n := range t.sum.Latency {
		timed += n
	}
	switch {
	case t.unlike != "":
		seen[gate.ShadowP95] = gate.Missing(t.unlike)
	case timed > 0:
		seen[gate.ShadowP95] = gate.Measured(gate.HistogramQuantile(0.95, t.sum.Edges, t.sum.Latency), timed)
	}
	if t.drift != nil {
		seen[psiRule] = gate.Measured(t.drift.PSI, uint64(t.drift.Rows))
	}
	return seen
}
