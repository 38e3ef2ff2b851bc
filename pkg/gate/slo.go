package gate

import "fmt"

// Names of the default rules, the keys of the observations for [Judge].
const (
	AUC             = "AUC"
	PrecisionAt20   = "P@20"
	SmokeSuccess    = "smoke success"
	SmokeP95        = "smoke p95"
	ShadowMatch     = "shadow match rate"
	ShadowErrorRate = "shadow error rate"
	ShadowP95       = "shadow p95"
)

// Targets that rules and the default policy share.
const (
	// aucTarget and precisionTarget are the targets of an offline evaluation.
	aucTarget, precisionTarget = 0.62, 0.58
	// MatchTolerance is the largest |shadow - baseline| that counts as a match, unless executor and policy set another.
	// Executors that do not report theirs use it.
	MatchTolerance = 0.05
	// matchTarget is the match rate of a shadow. latencyTargetMS is the p95 of a shadow and of ml-engine.
	matchTarget, latencyTargetMS = 0.95, 80
	// errorLimit is the error rate at which a shadow fails and a canary aborts. A canary phase must keep half of it.
	errorLimit = 0.02
)

const (
	// offlineRows is three days of minutes, the shortest fold that counts, minus 7 % for holes. Labels of minutes
	// within 15 of each other overlap: 4,000 rows are worth about 270 independent ones.
	offlineRows = 4000
	// smokeRequests is the size of the smoke run (smoke_1k). At 95 % its Wilson interval is 1.4 points either way.
	smokeRequests = 1000
	// smokeAnswers is how many of smokeRequests must have an answer, and so a latency, for the smoke to pass at all.
	// With a larger floor, a smoke with one failure would be too short to judge.
	smokeAnswers = 950
	// comparisons is the canary's floor per phase. At 95 % the Wilson interval is 1.9 points either way, and
	// 25 samples lie beyond the p95.
	comparisons = 500
)

// Offline lists what a model must reach on held-out data; n is the number of labelled rows, pooled out of time.
func Offline() []Rule {
	return []Rule{
		{
			Name: AUC, Op: AtLeast, Threshold: aucTarget, Unit: Score, MinSamples: offlineRows,
			What: "chance that a minute before a tradeable move scores above one that is not (0.5 is a coin)",
		},
		{
			Name: PrecisionAt20, Op: AtLeast, Threshold: precisionTarget, Unit: Score, MinSamples: offlineRows,
			What: "share of real moves among the 20 % of held-out minutes that score highest",
		},
	}
}

const (
	// MaxFallbacks is the largest share of the selected requests that the baseline may decide while a model is allowed to
	// decide. More is a warning.
	MaxFallbacks = 0.10
	// BudgetWarning is the share of a model's hourly budget of changed decisions above which there is a warning.
	BudgetWarning = 0.80
)

// BaselineMS is the time within which the baseline answers, in milliseconds: see [Baseline].
const BaselineMS = 1

// Baseline is the promise that the shadow never affects the baseline; n is answers.
func Baseline() Rule {
	return Rule{
		Name: "baseline in time", Op: AtLeast, Threshold: 0.99, Unit: Ratio, MinSamples: comparisons,
		What: fmt.Sprintf("share of the baseline's answers within %d ms", BaselineMS),
	}
}

// Smoke lists what a service must reach in its own short load test; n is requests, for the latency answers.
func Smoke() []Rule {
	return []Rule{
		{
			Name: SmokeSuccess, Op: AtLeast, Threshold: 0.95, Unit: Ratio, MinSamples: smokeRequests,
			What: "share of requests that were answered with a valid score",
		},
		{
			Name: SmokeP95, Op: Below, Threshold: latencyTargetMS, Unit: Millis, MinSamples: smokeAnswers,
			What: "time within which 95 % of the answers came",
		},
	}
}

// Shadow lists what the shadow must reach compared with the baseline; n is comparisons, for the error rate calls, for
// the latency answers. A canary phase has its own SLOs with half this error rate: see [Policy.PhaseRules].
func Shadow() []Rule {
	return []Rule{
		{
			Name: ShadowMatch, Op: AtLeast, Threshold: matchTarget, Unit: Ratio, MinSamples: comparisons,
			What: "share of comparisons where shadow and baseline are within the match tolerance of each other, 0.05 by default",
		},
		{
			Name: ShadowErrorRate, Op: Below, Threshold: errorLimit, Unit: Ratio, MinSamples: comparisons,
			What: "share of shadow calls that failed or came too late",
		},
		{
			Name: ShadowP95, Op: Below, Threshold: latencyTargetMS, Unit: Millis, MinSamples: comparisons,
			What: "time within which 95 % of the shadow answers came",
		},
	}
}
