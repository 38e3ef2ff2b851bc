package canary

import (
	"context"
	"errors"
	"fmt"

	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/outcome"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/preflight"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/quality"
)

// QualityOptions override the defaults of the plan for live quality.
type QualityOptions struct {
	// Cap and Margin are the plan's disagreement cap and margin; 0 takes what the model's own evaluation against this baseline
	// suggests.
	Cap, Margin float64
	// Labels is where the labels come from; empty means from quotes, if the label is computed from quotes.
	Labels outcome.LabelSource
}

// PlanQuality plans the verdict on live quality of the inspected services. If neither an evaluation nor the options provide a
// plan, there is none, and p.QualityReason is the reason.
func (p *Plan) PlanQuality(in *preflight.Inspection, o QualityOptions) error {
	base := in.Offline.Quality
	if base != nil && in.Offline.Baseline != p.Baseline.Digest {
		base = nil
	}
	q := experiment.QualityPlan{}
	switch {
	case base != nil:
		q = *base
	case o.Cap > 0 && o.Margin > 0:
		q.Alpha = outcome.DefaultAlpha
		if q.LabelSource, q.HorizonMS = labelOf(in); q.HorizonMS == 0 {
			return fmt.Errorf("%w: the ml-engines do not name the horizon of its label", errNoLabel)
		}
	default:
		p.QualityReason = fmt.Sprintf("%s has no offline evaluation against %s", p.Model.Version, p.Baseline.Version)
		return nil
	}
	if o.Cap > 0 {
		q.DisagreementCap = o.Cap
	}
	if o.Margin > 0 {
		q.Margin = o.Margin
	}
	if o.Labels != "" {
		q.LabelSource = o.Labels
	}
	if err := q.Validate(); err != nil {
		return err
	}
	if base == nil || q.Plan != base.Plan {
		q.ExpectedDays, q.Difference, q.Given = nil, 0, true
	}
	q.PlanDigest, q.LeastDays = q.Digest(), q.Plan.LeastDays()
	p.Quality = &q
	return nil
}

// labelOf returns where the labels of the served model come from and how far they look ahead, in milliseconds; 0 if that is
// unknown.
func labelOf(in *preflight.Inspection) (outcome.LabelSource, int64) {
	for _, e := range in.Engines {
		l := e.Info.GetLabel()
		if h := l.GetHorizon().AsDuration(); l.GetHorizon() != nil && h > 0 {
			if l.GetKind() == model.RangeLabel {
				return outcome.Quotes, h.Milliseconds()
			}
			return outcome.Reported, h.Milliseconds()
		}
	}
	return "", 0
}

// liveQuality judges the records of the executors. It judges them again only if there are new ones.
type liveQuality struct {
	records *fleet.Records
	plan    outcome.Plan
	// last is the verdict after the last read that reached all executors; more reports whether there are new records since.
	last *quality.Summary
	more bool
}

// read returns the verdict on the records that the executors have now. If an executor cannot be read, the verdict is ERROR,
// unless the last verdict on all executors was FAIL.
func (l *liveQuality) read(ctx context.Context) *quality.Summary {
	more, err := l.records.Read(ctx)
	l.more = l.more || more
	switch {
	case err != nil && (l.last == nil || l.last.Verdict != outcome.Fail):
		return quality.Unread(l.plan, err)
	case err == nil && (l.more || l.last == nil):
		l.last, l.more = quality.Summarize(l.plan, l.records.All()), false
	}
	return l.last
}

// RecheckQuality returns the summaries of the run that do not follow from the records.
func (r *Record) RecheckQuality(records []outcome.Record) (problems []string) {
	if r.QualityPlan == nil {
		return nil
	}
	for i := range r.Phases {
		p := &r.Phases[i]
		if p.Quality == nil {
			continue
		}
		if where := p.Quality.Recheck(*r.QualityPlan, records); where != "" {
			problems = append(problems, fmt.Sprintf("phase %v %% has a live quality that does not follow from %s: %s", p.Percent, r.QualityRecords, where))
		}
	}
	return problems
}

// errLost means that executors no longer have records that they had before.
var errLost = errors.New("records that it was judged from are lost")

// forget replaces summaries that can no longer be computed, because an executor lost records while the run was interrupted.
func (r *Record) forget(records []outcome.Record) {
	for i := range r.Phases {
		p := &r.Phases[i]
		if p.Quality != nil && p.Quality.Recheck(*r.QualityPlan, records) != "" {
			p.Quality = quality.Unread(*r.QualityPlan, errLost)
		}
	}
}
