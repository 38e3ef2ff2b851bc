package decision

import (
	"context"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/shadow"
	"github.com/greenlight-ml/greenlight/pkg/telemetry"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// This is the only file of the package that sees the model's scores: its call only compares. The linter forbids them in the other
// files.

// PredictWithShadow implements DecisionService.
func (s *Service) PredictWithShadow(ctx context.Context, req *executorv1.PredictWithShadowRequest) (*executorv1.PredictWithShadowResponse, error) {
	span := s.tracer.Sampled(ctx)
	a, err := s.answer(req, span)
	if err != nil {
		return nil, err
	}
	resp := &executorv1.PredictWithShadowResponse{
		RequestId: a.id, FeatureTime: a.featureTime(),
		Baseline: &executorv1.Score{Score: a.score, ModelVersion: s.baseline.Version, ModelDigest: s.baseline.Digest},
	}
	shadowed, p := a.shadowRequest(), s.consider(ctx, &a, time.Time{}, true)
	shadowed.Span = span
	if p != nil { // it is decided
		shadowed.Gated, resp.Gate = p, p.Proto(s.baseline.Digest)
	}
	sampled := s.rollout.Sampled(a.id, a.arrival)
	s.describe(span, a.id, sampled, p)
	if !sampled {
		s.shadow.Skip(shadowed)
		resp.Outcome = executorv1.ShadowOutcome(shadow.NotSampled)
		return resp, nil
	}
	r := s.shadow.Wait(ctx, shadowed)
	resp.Outcome = executorv1.ShadowOutcome(r.Outcome)
	resp.ShadowLatencyMs = telemetry.Milliseconds(r.Latency)
	if r.Outcome.Compared() {
		resp.Shadow = &executorv1.Score{Score: r.Score, ModelVersion: r.Version, ModelDigest: r.Digest}
		resp.Comparison = &executorv1.Comparison{Delta: r.Delta, Match: r.Outcome == shadow.Match}
	} else if r.Err != nil {
		resp.ShadowError = r.Err.Error()
	}
	return resp, nil
}
