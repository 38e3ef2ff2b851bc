package outcometest

import (
	"github.com/greenlight-ml/greenlight/pkg/outcome"
	"github.com/greenlight-ml/greenlight/pkg/shadow/wire"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// Page answers a request for records of one model, baseline and plan: the matching records from the block on.
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
			r.Records = append(r.Records, wire.Record(one))
		}
	}
	return r
}
