package gate

import "slices"

// Names of the rules for an offline evaluation in addition to its two figures.
const (
	TestDays      = "test days"
	AUCLow        = "AUC, lower end"
	PrecisionLift = "P@20 lift, lower end"
	OutOfTime     = "known out of time"

	FrozenMinutes    = "frozen minutes"
	LongestFrozen    = "longest frozen stretch"
	LongestFlatRun   = "longest flat run"
	LargestMove      = "largest one-minute move"
	LargestGapMove   = "largest move across a hole"
	UnchangedMinutes = "unchanged minutes"
	FilledMinutes    = "filled minutes"
	TableLeftOut     = "table rows left out"
)

// Minutes is the unit of the lengths of market stretches.
const Minutes Unit = "min"

// testDays is the fewest days for a verdict. P@20 follows the base rate of the days, and less than two weeks of trading
// shows only one market regime.
const testDays = 10

// OfflineJudgment lists all rules for an offline evaluation: its two figures, their evidence, and the data.
func OfflineJudgment() []Rule { return slices.Concat(Offline(), OfflineEvidence(), DataQuality()) }

// TableJudgment lists what a model must reach on a table of a desk's own features and labels.
func TableJudgment() []Rule { return slices.Concat(Offline(), OfflineEvidence(), TableData()) }

// OfflineEvidence lists what the figures of [Offline] must be based on. Too little evidence is [Inconclusive].
func OfflineEvidence() []Rule {
	return []Rule{
		{
			Name: TestDays, Op: AtLeast, Threshold: testDays, Unit: Count, MinSamples: testDays,
			What: "UTC days that the model was tested on",
		},
		{
			Name: AUCLow, Op: AtLeast, Threshold: 0.5, Unit: Score, MinSamples: 5, Miss: Inconclusive,
			What: "lower end of the 95 % interval of AUC, over whole days; n is days (0.5 is a coin)",
		},
		{
			Name: PrecisionLift, Op: AtLeast, Threshold: 1, Unit: Score, MinSamples: 5, Miss: Inconclusive,
			What: "lower end of the 95 % interval of P@20 over the base rate, over whole days; n is days (1 is a coin)",
		},
		{
			Name: OutOfTime, Op: AtLeast, Threshold: 1, Unit: Count, MinSamples: 1, Miss: Inconclusive,
			What: "whether all tested days are known to lie after the model's training: 1 for yes",
		},
	}
}

// TableData lists what a table of a desk's own features and labels must satisfy; n is rows.
func TableData() []Rule {
	return []Rule{{
		Name: TableLeftOut, Op: AtMost, Threshold: 0.2, Unit: Ratio, MinSamples: 1, Miss: Inconclusive,
		What: "share of rows that lack the label or a feature, and are left out",
	}}
}

// DataQuality lists what market data must satisfy before figures computed from them are meaningful; n is minutes. The
// worst real data set is given in parentheses.
func DataQuality() []Rule {
	return []Rule{
		{
			Name: FrozenMinutes, Op: AtMost, Threshold: 0.01, Unit: Ratio, MinSamples: 1,
			What: "share of minutes in stretches that no market made: 2 h of one price, hours of a few prices, a straight line, a copy (0)",
		},
		{
			Name: LongestFrozen, Op: AtMost, Threshold: 360, Unit: Minutes, MinSamples: 1,
			What: "longest stretch that no market made, of any form (0)",
		},
		{
			Name: LongestFlatRun, Op: AtMost, Threshold: 360, Unit: Minutes, MinSamples: 1,
			What: "longest run of minutes with one price (74, in an exchange's maintenance)",
		},
		{
			Name: LargestMove, Op: AtMost, Threshold: 0.2, Unit: Ratio, MinSamples: 1,
			What: "largest move within a minute or from one to the next, as a share of the lower price: splits, slipped decimals (10 %)",
		},
		{
			Name: LargestGapMove, Op: AtMost, Threshold: 0.45, Unit: Ratio, MinSamples: 1,
			What: "largest move across a hole of at most 4 days: splits while the market was closed (1 %)",
		},
		{
			Name: UnchangedMinutes, Op: AtMost, Threshold: 0.6, Unit: Ratio, MinSamples: 1, Miss: Inconclusive,
			What: "share of minutes whose price is that of the minute before (37 %)",
		},
		{
			Name: FilledMinutes, Op: AtMost, Threshold: 0.4, Unit: Ratio, MinSamples: 1, Miss: Inconclusive,
			What: "share of minutes that have no bar, in holes of at most 10 minutes (6 %)",
		},
	}
}
