package calibrate

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/greenlight-ml/greenlight/pkg/outcome"
	"github.com/greenlight-ml/greenlight/pkg/stats"
)

// QualityOptions configures the simulation of quality verdicts.
type QualityOptions struct {
	Options

	// Days is the length of a run.
	Days int
}

// Kind says what is true in a scenario.
type Kind string

// The kinds.
const (
	Equal          Kind = "equal"            // the same expected loss at every minute
	EqualOnAverage Kind = "equal_on_average" // only over days
	ModelBetter    Kind = "model_better"
	ModelWorse     Kind = "model_worse"
)

// Quality counts the claims about simulated scorers.
type Quality struct {
	Scenario string `json:"scenario"`
	Kind     Kind   `json:"kind"`
	Symbols  int    `json:"symbols"`
	Runs     int    `json:"runs"`
	Days     int    `json:"days"`
	// Failed and Better count the runs with such a claim at any time, Either those with at least one of them. Wrong counts
	// those with a claim that the true mean difference contradicts at that time.
	Failed int `json:"failed"`
	Better int `json:"better"`
	Either int `json:"either"`
	Wrong  int `json:"wrong"`
	// EProcess and ZTest count the runs in which a test per request, read after every request and every hour, claims a
	// difference; for one symbol only.
	EProcess int `json:"per_request_e_process"`
	ZTest    int `json:"per_request_z_test"`
	// MeanDifference is the mean of d. MedianDays is the median time to a BETTER or, if more runs have that, to a FAIL; nil if
	// fewer than half of the runs have either.
	MeanDifference float64  `json:"mean_difference"`
	MedianDays     *float64 `json:"median_days"`
	// MostDays is the target for MedianDays; 0 if there is none.
	MostDays float64 `json:"most_days,omitempty"`
}

// qualityCap, horizonMinutes and baseMargin belong to the simulated plan.
const (
	qualityCap     = 0.25
	horizonMinutes = 15
	baseMargin     = 0.01
	// common is the correlation of the noise between symbols.
	common = 0.5
	// persistence is the correlation of a baseline's error from minute to minute.
	persistence = 0.9
)

// scorers compute, for every minute of a symbol, the chance of the label given the past, and the scores of model and baseline.
// They see the label only for the sabotage.
type scorers struct {
	scenario string
	kind     Kind
	symbols  int
	cap      float64
	mostDays float64
	// begin returns the functions for one run.
	begin func(rng *rand.Rand) func(minute int) (truth, model, baseline float64)
	// oracle changes the model's score with knowledge of the label; nil for all honest models.
	oracle func(baseline float64, y bool) float64
}

// base returns the chance of the label at a minute, by scenario.
func base(kind string, rng *rand.Rand) func(minute int) float64 {
	switch kind {
	case "drifting":
		phase := 2 * math.Pi * rng.Float64()
		return func(m int) float64 { return 0.3 + 0.2*math.Sin(2*math.Pi*float64(m)/(10*1440)+phase) }
	case "regime-switching":
		p, until := 0.15, 0
		return func(m int) float64 {
			if m >= until {
				p, until = 0.6-p, m+1+int(1440*rng.ExpFloat64())
			}
			return p
		}
	default:
		return func(int) float64 { return 0.28 }
	}
}

// null are the scorers of the exact null: truth pi, p = pi + 0.05, q = pi - 0.05, so that both have the same loss on average.
func null(kind string, symbols int) scorers {
	return scorers{
		scenario: "equal, " + kind + " base rate", kind: Equal, symbols: symbols, cap: qualityCap,
		begin: func(rng *rand.Rand) func(int) (float64, float64, float64) {
			pi := base(kind, rng)
			return func(m int) (truth, model, baseline float64) { p := pi(m); return p, p + 0.05, p - 0.05 }
		},
	}
}

// alternating scorers are equal only on average: the model is worse on one day and better on the next. The true running mean
// is never above 0 and approaches it, so BETTER is always wrong.
func alternating(symbols int) scorers {
	return scorers{
		scenario: "equal on average, worse and better by days", kind: EqualOnAverage, symbols: symbols, cap: qualityCap,
		begin: func(*rand.Rand) func(int) (float64, float64, float64) {
			return func(m int) (truth, model, baseline float64) {
				return 0.3 + 0.1*float64(2*(m/1440%2)-1), 0.35, 0.25
			}
		},
	}
}

// better scorers know the truth; the baseline's error is normal with the variance gain, which is the gain in Brier loss. It
// persists, as errors of real scorers do: from minute to minute with the correlation persistence.
func better(gain, mostDays float64) scorers {
	return scorers{
		scenario: fmt.Sprintf("better, Brier gain %v", gain), kind: ModelBetter, symbols: 1, cap: qualityCap, mostDays: mostDays,
		begin: func(rng *rand.Rand) func(int) (float64, float64, float64) {
			pi, e := base("constant", rng), rng.NormFloat64()
			return func(m int) (truth, model, baseline float64) {
				e = persistence*e + math.Sqrt(1-persistence*persistence)*rng.NormFloat64()
				p := pi(m)
				return p, p, max(0, min(1, p+math.Sqrt(gain)*e))
			}
		},
	}
}

// sabotage is the baseline moved by 0.049 away from the outcome: every score is within the 0.05 of a match.
func sabotage() scorers {
	return scorers{
		scenario: "sabotage: the baseline moved by 0.049 the wrong way", kind: ModelWorse, symbols: 1, cap: outcome.LeastCap,
		begin: func(rng *rand.Rand) func(int) (float64, float64, float64) {
			pi := base("constant", rng)
			return func(m int) (truth, model, baseline float64) { p := pi(m); return p, p, p }
		},
		oracle: func(baseline float64, y bool) float64 {
			if y {
				return baseline - 0.049
			}
			return baseline + 0.049
		},
	}
}

// Qualities simulates all scenarios.
func Qualities(ctx context.Context, o QualityOptions) ([]Quality, error) {
	var all []Quality
	scenarios := []scorers{
		null("constant", 1), null("regime-switching", 1), null("drifting", 1),
		null("constant", 10), null("regime-switching", 10), null("drifting", 10),
		alternating(1), better(0.0075, 10), better(0.0153, 6), sabotage(),
	}
	for i, s := range scenarios {
		step := o
		step.Progress = func(done, total int) { o.Progress(i*total+done, len(scenarios)*total) }
		step.Seed = o.Seed + uint64(i)<<32
		q, err := s.measure(ctx, step)
		if err != nil {
			return nil, err
		}
		all = append(all, q)
	}
	return all, nil
}

// qualityRun is one run.
type qualityRun struct {
	failed, better, wrong, eProcess, zTest bool
	mean                                   float64
	failedDays, betterDays                 float64
}

func (s scorers) measure(ctx context.Context, o QualityOptions) (Quality, error) {
	runs := make([]qualityRun, o.Trials)
	err := trials(ctx, o.Options, func(trial int, rng *rand.Rand) (err error) {
		runs[trial], err = s.run(rng, o.Days)
		return err
	})
	q := Quality{Scenario: s.scenario, Kind: s.kind, MostDays: s.mostDays, Symbols: s.symbols, Runs: o.Trials, Days: o.Days}
	var failed, better []float64
	for _, r := range runs {
		q.Failed += count(r.failed)
		q.Better += count(r.better)
		q.Either += count(r.failed || r.better)
		q.Wrong += count(r.wrong)
		q.EProcess += count(r.eProcess)
		q.ZTest += count(r.zTest)
		q.MeanDifference += r.mean / float64(o.Trials)
		failed, better = append(failed, r.failedDays), append(better, r.betterDays)
	}
	times := better
	if q.Failed > q.Better {
		times = failed
	}
	slices.Sort(times)
	if median := stats.Quantile(times, 0.5); len(times) > 0 && !math.IsInf(median, 1) && !math.IsNaN(median) {
		q.MedianDays = &median
	}
	return q, err
}

// run simulates the rows of a run, one a minute and symbol, and judges them.
func (s scorers) run(rng *rand.Rand, days int) (qualityRun, error) {
	plan := outcome.Plan{DisagreementCap: s.cap, Margin: baseMargin, Alpha: outcome.DefaultAlpha, LabelSource: outcome.Quotes, HorizonMS: horizonMinutes * 60_000}
	length := days * 1440
	shared := noise(rng, length)
	blocks := make([]outcome.Record, length/horizonMinutes)
	truths := make([]float64, len(blocks)) // the sums of the conditional means of d
	var perRow perRequest
	for symbol := range s.symbols {
		own := noise(rng, length)
		at, last, limit := s.begin(rng), math.NaN(), 0.0
		for m := range length {
			truth, model, baseline := at(m)
			// The label looks 15 minutes ahead, as the sum of their noise; its chance is the truth.
			ahead := math.Sqrt(common)*shared[m] + math.Sqrt(1-common)*own[m]
			if truth != last {
				last, limit = truth, stats.NormalQuantile(truth)
			}
			y := ahead < limit
			scored := func(bool) float64 { return model }
			if s.oracle != nil {
				scored = func(y bool) float64 { return s.oracle(baseline, y) }
			}
			model = scored(y)
			d := difference(model, baseline, y, s.cap)
			mean := truth*difference(scored(true), baseline, true, s.cap) + (1-truth)*difference(scored(false), baseline, false, s.cap)
			b := m / horizonMinutes
			truths[b] += mean
			add(&blocks[b], model, baseline, d, y)
			if symbol == 0 && s.symbols == 1 {
				perRow.add(d/plan.MaxDifference(), m)
			}
		}
	}
	through := uint64(0)
	for b := range blocks {
		r := &blocks[b]
		r.Key = outcome.Key{Executor: "simulated", Block: int64(b), Model: "model", Baseline: "baseline", Plan: plan.Digest()}
		through += r.Requests()
		r.Through = through
	}
	v := outcome.Judge(plan, blocks)
	if v.Verdict == outcome.Error {
		return qualityRun{}, fmt.Errorf("simulated records: %s", v.Reasons)
	}
	run := qualityRun{eProcess: perRow.eProcess, zTest: perRow.zTest, mean: v.Difference, failedDays: math.Inf(1), betterDays: math.Inf(1)}
	for _, c := range v.Claims {
		after := c.Time.Sub(v.Start).Hours() / 24
		switch c.Verdict {
		case outcome.Fail:
			run.failed, run.failedDays = true, after
		case outcome.Better:
			run.better, run.betterDays = true, after
		default:
		}
	}
	run.wrong = contradicted(v, truths, s.symbols)
	return run, nil
}

// noise returns for every minute a standard normal that is the scaled sum of the noise of the next 15 minutes.
func noise(rng *rand.Rand, length int) []float64 {
	steps := make([]float64, length+horizonMinutes)
	for i := range steps {
		steps[i] = rng.NormFloat64()
	}
	out, sum := make([]float64, length), 0.0
	for _, x := range steps[:horizonMinutes] {
		sum += x
	}
	for m := range out { // the noise of the minutes after m
		sum += steps[m+horizonMinutes] - steps[m]
		out[m] = sum / math.Sqrt(horizonMinutes)
	}
	return out
}

// difference returns d of a row.
func difference(model, baseline float64, y bool, most float64) float64 {
	if math.Abs(model-baseline) > most {
		return 0
	}
	return (baseline - model) * (baseline + model - 2*float64(count(y)))
}

// add adds a matured row to a record. The histograms only say that it matured.
func add(r *outcome.Record, model, baseline, d float64, y bool) {
	const unit = 1 << 36
	r.Rows++
	r.Labels[outcome.Matured]++
	r.Sources[outcome.Simulated]++
	if d == 0 && model != baseline {
		r.Fallbacks[outcome.Disagreement]++
	} else {
		r.Fallbacks[outcome.None]++
	}
	r.SumD += outcome.Fixed(math.Round(d * unit))
	r.SumD2 += outcome.Fixed(math.Round(d * d * unit))
	if r.BaselineScores == nil {
		r.BaselineScores, r.PolicyScores = outcome.Histogram{{0}}, outcome.Histogram{{0}}
	}
	r.BaselineScores[0][1+count(y)]++
	r.PolicyScores[0][1+count(y)]++
}

// contradicted reports whether a bound of the run made a claim that was wrong about the true running mean at that time.
func contradicted(v *outcome.Judgment, truths []float64, symbols int) bool {
	var sums, lower, upper [2]float64
	var n [2]float64
	margin := -v.Plan.Margin
	for _, p := range v.Points {
		k := p.Stream
		sums[k] += truths[p.Block] / float64(symbols*horizonMinutes)
		n[k]++
		mean := sums[k] / n[k]
		// An unchanged bound claims nothing new.
		better, worse := p.Lower > 0 && p.Lower != lower[k], p.Upper < margin && p.Upper != upper[k]
		if better && mean <= 0 || worse && mean >= margin {
			return true
		}
		lower[k], upper[k] = p.Lower, p.Upper
	}
	return false
}

// perRequest are tests of single requests, which ignore that labels overlap.
type perRequest struct {
	bound           stats.MeanBound
	sum, squares    float64
	eProcess, zTest bool
}

func (t *perRequest) add(x float64, minute int) {
	const alpha, z = 0.05, 1.96
	t.bound.Add(x)
	t.sum += x
	t.squares += x * x
	if !t.eProcess {
		t.eProcess = t.bound.Above(0, alpha/2) || t.bound.Below(0, alpha/2)
	}
	if minute%60 == 59 && minute > 1440 {
		t.zTest = t.zTest || math.Abs(t.sum) > z*math.Sqrt(t.squares)
	}
}
