package flags

import (
	"time"

	"github.com/spf13/pflag"

	"github.com/greenlight-ml/greenlight/pkg/label"
	"github.com/greenlight-ml/greenlight/pkg/outcome"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
)

// QualityPlan has the flags for the plan of a live verdict.
type QualityPlan struct {
	plan    outcome.Plan
	source  string
	horizon time.Duration
}

// Declare declares the flags.
func (f *QualityPlan) Declare(fs *pflag.FlagSet) {
	fs.Float64Var(&f.plan.DisagreementCap, "quality-cap", 0, "disagreement cap of the quality plan, up to 1; 0 without --quality-margin is no plan")
	fs.Float64Var(&f.plan.Margin, "quality-margin", 0, "margin of the quality plan, in units of the Brier loss")
	fs.Float64Var(&f.plan.Alpha, "quality-alpha", outcome.DefaultAlpha, "one-sided probability of a wrong claim")
	fs.StringVar(&f.source, "label-source", string(outcome.Quotes), "where the labels of the quality plan come from: quotes, or reported with ReportOutcomes")
	fs.DurationVar(&f.horizon, "label-horizon", time.Duration(label.Default().Horizon)*time.Minute, "how far ahead the label of the quality plan looks")
}

// Plan returns the plan; the zero Plan if none was given.
func (f *QualityPlan) Plan() (outcome.Plan, error) {
	p := f.plan
	if p.DisagreementCap == 0 && p.Margin == 0 {
		return outcome.Plan{}, nil
	}
	p.LabelSource, p.HorizonMS = outcome.LabelSource(f.source), f.horizon.Milliseconds()
	if err := p.Validate(); err != nil {
		return p, console.Usage(err)
	}
	return p, nil
}
