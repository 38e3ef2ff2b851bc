package shadow

import executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"

// decisions is which side of the decision threshold each score of a comparison is on. A score at the threshold is above it.
type decisions uint8

const (
	bothBelow decisions = iota
	shadowAbove
	baselineAbove
	bothAbove

	decisionsEnd
)

func decisionsOf(baseline, shadow bool) (d decisions) {
	if baseline {
		d = baselineAbove
	}
	if shadow {
		d |= shadowAbove
	}
	return d
}

// sides returns the sides of baseline and shadow as labels of metrics.
func (d decisions) sides() (baseline, shadow string) {
	names := [2]string{"below", "above"}
	return names[d>>1], names[d&1]
}

// Agreement returns the share of comparisons with both scores on one side, and Cohen's kappa, which is 0 for two scorers that
// decide by chance: Cohen (1960), Educational and Psychological Measurement 20(1). An undefined value is nil.
func Agreement(d *executorv1.DecisionAgreement) (agreement, kappa *float64) {
	both, base, shadow, none := float64(d.GetBothAbove()), float64(d.GetBaselineAbove()), float64(d.GetShadowAbove()), float64(d.GetBothBelow())
	n := both + base + shadow + none
	if n == 0 {
		return nil, nil
	}
	observed := (both + none) / n
	chance := ((both+base)*(both+shadow) + (shadow+none)*(base+none)) / (n * n)
	if chance == 1 {
		return &observed, nil
	}
	k := (observed - chance) / (1 - chance)
	return &observed, &k
}

// agreement returns the counts of a window for the report.
func (win *window) agreement() *executorv1.DecisionAgreement {
	a := &executorv1.DecisionAgreement{
		BothAbove: win.decided[bothAbove], BaselineAbove: win.decided[baselineAbove], ShadowAbove: win.decided[shadowAbove], BothBelow: win.decided[bothBelow],
	}
	a.Agreement, a.Kappa = Agreement(a)
	return a
}
