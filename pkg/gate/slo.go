package gate

// Names of the default rules, to key the observations of [Judge].
const (
	AUC             = "AUC"
	PrecisionAt20   = "P@20"
	SmokeSuccess    = "smoke success"
	SmokeP95        = "smoke p95"
	ShadowMatch     = "shadow match rate"
	ShadowErrorRate = "shadow error rate"
	ShadowP95       = "shadow p95"
)

const (
	// offlineRows is three days of minutes, the shortest fold that counts, less 7 % for holes. The labels of minutes
	// within 15 of each other overlap: 4,000 rows are some 270 that are independent.
	offlineRows = 4000
	// smokeRequests is the smoke run as it is named (smoke_1k). At 95 % its Wilson interval is 1.4 points either way.
	smokeRequests = 1000
	// smokeAnswers is how many of smokeRequests must have an answer, and so a latency, for the smoke to pass at all: a
	// larger floor would call a smoke with one failure too short to judge.
	smokeAnswers = 950
	// comparisons is the canary's floor per phase (section 8). At 95 % the Wilson interval is 1.9 points either way, and
	// 25 samples lie beyond the p95.
	comparisons = 500
)

// Group is a named set of rules that are judged together.
type Group struct {
	Name  string `json:"name"`
	Rules []Rule `json:"rules"`
}

// SLOs is the table of default targets, grouped. Every call returns a fresh copy: change thresholds at will.
func SLOs() []Group {
	return []Group{
		{"Offline", Offline()},
		{"Offline evidence", OfflineEvidence()},
		{"Market data", DataQuality()},
		{"Smoke", Smoke()},
		{"Smoke integrity", SmokeIntegrity()},
		{"Shadow", Shadow()},
		{"Shadow integrity", ShadowIntegrity()},
		{"Canary", DefaultPolicy().PhaseRules()},
	}
}

// Offline is what a model must reach on held-out data; n is the number of labelled rows pooled out of time.
func Offline() []Rule {
	return []Rule{
		{
			Name: AUC, Op: AtLeast, Threshold: 0.62, Unit: Score, MinSamples: offlineRows,
			What: "chance that a minute before a tradeable move scores above one that is not (0.5 is a coin)",
		},
		{
			Name: PrecisionAt20, Op: AtLeast, Threshold: 0.58, Unit: Score, MinSamples: offlineRows,
			What: "share of real moves among the 20 % of held-out minutes that score highest",
		},
	}
}

// Smoke is what a service must reach under a short load of its own; n is requests, for the latency answers.
func Smoke() []Rule {
	return []Rule{
		{
			Name: SmokeSuccess, Op: AtLeast, Threshold: 0.95, Unit: Ratio, MinSamples: smokeRequests,
			What: "share of requests that were answered with a valid score",
		},
		{
			Name: SmokeP95, Op: Below, Threshold: 80, Unit: Millis, MinSamples: smokeAnswers,
			What: "time within which 95 % of the answers came",
		},
	}
}

// Shadow is what the shadow must reach beside the baseline; n is comparisons, for the error rate calls, for the latency
// answers. A phase of a canary has SLOs of its own, with half this error rate: see [Policy.PhaseRules].
func Shadow() []Rule {
	return []Rule{
		{
			Name: ShadowMatch, Op: AtLeast, Threshold: 0.95, Unit: Ratio, MinSamples: comparisons,
			What: "share of comparisons where shadow and baseline are within 0.05 of each other",
		},
		{
			Name: ShadowErrorRate, Op: Below, Threshold: 0.02, Unit: Ratio, MinSamples: comparisons,
			What: "share of shadow calls that failed or came too late",
		},
		{
			Name: ShadowP95, Op: Below, Threshold: 80, Unit: Millis, MinSamples: comparisons,
			What: "time within which 95 % of the shadow answers came",
		},
	}
}
