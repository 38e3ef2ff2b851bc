package decision

import (
	"context"

	"github.com/greenlight-ml/greenlight/pkg/shadow"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// ReportService is executor's ShadowService.
type ReportService struct {
	executorv1.UnimplementedShadowServiceServer

	baseline *Baseline
	shadow   *shadow.Dispatcher
	rollout  Rollout
}

// NewReportService returns a service that reports on the dispatcher.
func NewReportService(b *Baseline, d *shadow.Dispatcher, r Rollout) *ReportService {
	return &ReportService{baseline: b, shadow: d, rollout: r}
}

// GetShadowReport implements ShadowService.
func (s *ReportService) GetShadowReport(context.Context, *executorv1.GetShadowReportRequest) (*executorv1.GetShadowReportResponse, error) {
	r := s.shadow.Report()
	r.SamplePercent, r.InstanceId = s.rollout.Percent(), s.rollout.Instance()
	r.BaselineVersion, r.BaselineDigest = s.baseline.Version, s.baseline.Digest
	return r, nil
}
