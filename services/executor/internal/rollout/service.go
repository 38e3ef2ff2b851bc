package rollout

import (
	"context"

	"google.golang.org/grpc/peer"

	"github.com/greenlight-ml/greenlight/pkg/rpc"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// Service is executor's RolloutService.
type Service struct {
	executorv1.UnimplementedRolloutServiceServer

	keeper *Keeper
}

// NewService returns a service that controls the keeper's rollout.
func NewService(k *Keeper) *Service { return &Service{keeper: k} }

// GetRollout implements RolloutService.
func (s *Service) GetRollout(context.Context, *executorv1.GetRolloutRequest) (*executorv1.GetRolloutResponse, error) {
	return &executorv1.GetRolloutResponse{Rollout: s.keeper.Report(), InstanceId: s.keeper.instance}, nil
}

// SetRollout implements RolloutService.
func (s *Service) SetRollout(ctx context.Context, req *executorv1.SetRolloutRequest) (*executorv1.SetRolloutResponse, error) {
	plan, err := planOf(req.GetPlan())
	if err != nil {
		return nil, err
	}
	c := change{
		percent: req.GetPercent(), mode: req.GetMode(), holder: req.GetHolder(),
		by: rpc.Caller(ctx), from: from(ctx), reason: req.GetReason(), expected: req.GetExpectedRevision(),
		plan: plan,
	}
	if l := req.GetLease(); l != nil {
		// An invalid or zero duration is out of range as well.
		if c.lease = l.AsDuration(); !l.IsValid() || c.lease == 0 {
			c.lease = -1
		}
	}
	r, err := s.keeper.set(c)
	if err != nil {
		return nil, err
	}
	return &executorv1.SetRolloutResponse{Rollout: r.proto(), InstanceId: s.keeper.instance}, nil
}

// AbortRollout implements RolloutService.
func (s *Service) AbortRollout(ctx context.Context, req *executorv1.AbortRolloutRequest) (*executorv1.AbortRolloutResponse, error) {
	r, err := s.keeper.abort(rpc.Caller(ctx), from(ctx), req.GetReason())
	if err != nil {
		return nil, err
	}
	return &executorv1.AbortRolloutResponse{Rollout: r.proto(), InstanceId: s.keeper.instance}, nil
}

// from returns the address that the call came from.
func from(ctx context.Context) string {
	if p, ok := peer.FromContext(ctx); ok {
		return p.Addr.String()
	}
	return ""
}
