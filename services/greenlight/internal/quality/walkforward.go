package quality

import (
	"math"

	"github.com/greenlight-ml/greenlight/pkg/outcome"
	"github.com/greenlight-ml/greenlight/pkg/train"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
)

// Options apply to both forms.
type Options struct {
	// Cap and Margin are the values of the plan; 0 takes what the offline evaluation suggests.
	Cap, Margin float64
}

// over returns the plan with the given values.
func (o Options) over(p outcome.Plan) outcome.Plan {
	if o.Cap > 0 {
		p.DisagreementCap = o.Cap
	}
	if o.Margin > 0 {
		p.Margin = o.Margin
	}
	return p
}

// FromStudy compares the out-of-time scores of a model with those of the baseline, or of another model of the study.
func FromStudy(s *experiment.Study, model, baseline string, o Options) (*Report, error) {
	ours, err := s.Candidate(model)
	if err != nil {
		return nil, err
	}
	theirs := s.Baseline
	if baseline != experiment.BaselineVersion {
		c, err := s.Candidate(baseline)
		if err != nil {
			return nil, err
		}
		theirs = c.Result
	}
	return fromRuns(s, ours.Result, theirs, &Report{Scores: OutOfTime, Model: model, Baseline: baseline}, o)
}

func fromRuns(s *experiment.Study, model, baseline *train.Result, r *Report, o Options) (*Report, error) {
	p, err := s.Pair(model, baseline)
	if err != nil {
		return nil, err
	}
	p.Model, p.Baseline = r.Model, r.Baseline
	suggested := p.Suggest()
	plan := o.over(suggested)
	if err := plan.Validate(); err != nil {
		return nil, err
	}
	r.Suggested, r.Records = &suggested, p.Records(plan)
	var all sample
	for i, row := range p.Rows {
		policy := row.Shadow
		if math.Abs(row.Shadow-row.Baseline) > plan.DisagreementCap {
			policy = row.Baseline
		}
		all.add(row.Baseline, policy, p.Labels[i], p.Days[i])
	}
	r.Precision = all.precision()
	err = r.Judge(&plan)
	return r, err
}
