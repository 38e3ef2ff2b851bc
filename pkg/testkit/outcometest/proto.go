package outcometest

import (
	"github.com/greenlight-ml/greenlight/pkg/outcome"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// Page answers a request for records of one model, baseline and plan: those from the block on that fit.
func Page(req *executorv1.GetQualityReportRequest, executor string, plan *executorv1.QualityPlan, records []outcome.Record) *executorv1.GetQualityReportResponse {
	const most = 50
	r := &executorv1.GetQualityReportResponse{
		ExecutorId: executor, ModelDigest: req.GetModelDigest(), BaselineDigest: req.GetBaselineDigest(), Plan: plan, Labels: &executorv1.LabelCounts{},
	}
	for i := range records {
		one := &records[i]
		switch {
		case one.Model != req.GetModelDigest() || one.Baseline != req.GetBaselineDigest() || one.Plan != req.GetPlanDigest():
		case req.FromBlock != nil && one.Block < req.GetFromBlock(): //nolint:protogetter // presence
		case len(r.GetRecords()) == most:
			r.NextBlock = &one.Block
			return r
		default:
			r.Records = append(r.Records, Proto(one))
		}
	}
	return r
}

// Proto returns the record in the contract's form.
func Proto(r *outcome.Record) *executorv1.QualityRecord {
	l, f := r.Labels, r.Fallbacks
	return &executorv1.QualityRecord{
		ExecutorId: r.Executor, Block: r.Block, ModelDigest: r.Model, BaselineDigest: r.Baseline, PlanDigest: r.Plan, RolloutRevision: r.Revision, Lost: r.Lost,
		Labels: &executorv1.LabelCounts{
			Matured: l[outcome.Matured], Pending: l[outcome.Pending], NoLabel: l[outcome.NoLabel], NotReady: l[outcome.NotReady], Expired: l[outcome.Expired],
			Duplicate: l[outcome.Duplicate], NotKept: l[outcome.NotKept],
		},
		Fallbacks: &executorv1.FallbackCounts{
			None: f[outcome.None], Disagreement: f[outcome.Disagreement], Deadline: f[outcome.Deadline], BreakerOpen: f[outcome.BreakerOpen], Shed: f[outcome.Shed],
			Unavailable: f[outcome.Unavailable], InvalidScore: f[outcome.InvalidScore], Rejected: f[outcome.Rejected], Internal: f[outcome.Internal], Canceled: f[outcome.Canceled],
		},
		Sources:         &executorv1.SourceCounts{Live: r.Sources[outcome.Live], Replay: r.Sources[outcome.Replay], Simulated: r.Sources[outcome.Simulated]},
		RequestsThrough: r.Through, Rows: r.Rows, SumD: int64(r.SumD), SumD2: int64(r.SumD2), SumBaselineLoss: int64(r.SumLoss),
		SumBaselineScore: int64(r.SumBaseline), SumPolicyScore: int64(r.SumPolicy), BaselineScores: scores(r.BaselineScores), PolicyScores: scores(r.PolicyScores),
	}
}

func scores(h outcome.Histogram) *executorv1.ScoreCounts {
	c := &executorv1.ScoreCounts{}
	for _, b := range h {
		c.Bins, c.Negatives, c.Positives = append(c.Bins, uint32(b[0])), append(c.Negatives, b[1]), append(c.Positives, b[2])
	}
	return c
}
