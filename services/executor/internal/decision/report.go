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
	percent  float64
}

// NewReportService returns a service that reports on the dispatcher. percent is the share of requests that get a shadow.
func NewReportService(b *Baseline, d *shadow.Dispatcher, percent float64) *ReportService {
	return &ReportService{baseline: b, shadow: d, percent: percent}
}

// GetShadowReport implements ShadowService.
func (s *ReportService) GetShadowReport(context.Context, *executorv1.GetShadowReportRequest) (*executorv1.GetShadowReportResponse, error) {
	r := s.shadow.Report()
	r.SamplePercent = s.percent
	r.BaselineVersion, r.BaselineDigest = s.baseline.Version, s.baseline.Digest
	return r, nil
}
