package gate

// Names of the integrity rules, the keys of the observations for [Judge].
const (
	SmokeDistinct   = "smoke distinct scores"
	SmokeDiffer     = "smoke scores not as computed in process"
	BaselineChanged = "baseline answers lost or changed"
	ShadowDiffer    = "shadow scores not as computed in process"
	Unaccounted     = "requests without exactly one outcome"
)

// SmokeIntegrity lists what a smoke run needs for its SLOs to mean anything: varied states and correct answers. n is
// answers.
func SmokeIntegrity() []Rule {
	return []Rule{
		{
			Name: SmokeDistinct, Op: Above, Threshold: 1, Unit: Count, MinSamples: smokeAnswers,
			What: "different scores among the answers: a service that always answers the same proves nothing",
		},
		{
			Name: SmokeDiffer, Op: AtMost, Threshold: 0, Unit: Count, MinSamples: smokeAnswers,
			What: "answers that differ, in any bit, from what the same model computes in process",
		},
	}
}

// ShadowIntegrity lists what must be true in addition to the shadow's SLOs, whatever the shadow does. n is requests;
// for the shadow scores it is comparisons.
func ShadowIntegrity() []Rule {
	return []Rule{
		{
			Name: BaselineChanged, Op: AtMost, Threshold: 0, Unit: Count, MinSamples: comparisons,
			What: "requests that failed, or whose baseline score differs in any bit from what the baseline computes in process",
		},
		{
			Name: ShadowDiffer, Op: AtMost, Threshold: 0, Unit: Count, MinSamples: comparisons,
			What: "shadow scores that differ, in any bit, from what the same model computes in process",
		},
		{
			Name: Unaccounted, Op: AtMost, Threshold: 0, Unit: Count, MinSamples: comparisons,
			What: "requests of the executor that have no outcome, or more than one",
		},
	}
}
