package rollout

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"

	"github.com/greenlight-ml/greenlight/pkg/outcome"
	"github.com/greenlight-ml/greenlight/pkg/rpc"
	"github.com/greenlight-ml/greenlight/pkg/shadow/wire"
	"github.com/greenlight-ml/greenlight/pkg/text"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/executor/internal/gate"
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
	status := s.keeper.opts.Gate.Status() // first, since it may demote the gate
	return &executorv1.GetRolloutResponse{Rollout: s.keeper.Report(), InstanceId: s.keeper.instance, Gate: status}, nil
}

// SetRollout implements RolloutService.
func (s *Service) SetRollout(ctx context.Context, req *executorv1.SetRolloutRequest) (*executorv1.SetRolloutResponse, error) {
	if err := s.keeper.refuseDirect(); err != nil {
		return nil, err
	}
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
		// An invalid or zero duration is out of range, too.
		if c.lease = l.AsDuration(); !l.IsValid() || c.lease == 0 {
			c.lease = -1
		}
	}
	if c.gate, err = s.keeper.terms(&c, req.GetGate()); err != nil {
		return nil, err
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

// terms returns the terms of a request's gate; nil for a request that validate refuses.
func (k *Keeper) terms(c *change, g *executorv1.Gate) (*gate.Terms, error) {
	gates := k.opts.Gate
	switch {
	case c.mode != gated && g != nil:
		return nil, gateInvalid(errors.New("gate is set without mode GATED"))
	case c.mode != gated || !(c.percent >= 0 && c.percent <= 100):
		return nil, nil //nolint:nilnil // no gate
	case !gates.Allowed():
		return nil, gates.Refused()
	case g == nil:
		return nil, gateInvalid(errors.New("no gate: mode GATED needs one"))
	case c.plan == (outcome.Plan{}):
		return nil, gateInvalid(errors.New("no plan: mode GATED needs a quality plan, which sets the gate's disagreement cap"))
	}
	t, err := gate.TermsOf(g, c.percent, c.plan.DisagreementCap, gates.Timeout())
	if err != nil {
		return nil, gateInvalid(err)
	}
	return t, nil
}

// KillGate implements RolloutService.
func (s *Service) KillGate(ctx context.Context, req *executorv1.KillGateRequest) (*executorv1.KillGateResponse, error) {
	gates := s.keeper.opts.Gate
	if err := gates.Kill(rpc.Caller(ctx), from(ctx), text.Cut(req.GetReason(), maxReason)); err != nil {
		return nil, err
	}
	return &executorv1.KillGateResponse{Gate: gates.Status(), InstanceId: s.keeper.instance}, nil
}

// RaiseGateAlarm implements RolloutService.
func (s *Service) RaiseGateAlarm(ctx context.Context, req *executorv1.RaiseGateAlarmRequest) (*executorv1.RaiseGateAlarmResponse, error) {
	gates := s.keeper.opts.Gate
	if err := gates.Alarm(req.GetAlarm(), req.GetModelDigest(), rpc.Caller(ctx), from(ctx), text.Cut(req.GetReason(), maxReason)); err != nil {
		return nil, err
	}
	return &executorv1.RaiseGateAlarmResponse{Gate: gates.Status(), InstanceId: s.keeper.instance}, nil
}

// ClearGateLatches implements RolloutService.
func (s *Service) ClearGateLatches(ctx context.Context, req *executorv1.ClearGateLatchesRequest) (*executorv1.ClearGateLatchesResponse, error) {
	gates := s.keeper.opts.Gate
	if err := validReason(req.GetReason()); err != nil {
		return nil, err
	}
	if err := gates.ClearSeen(req.GetLatches(), req.GetLastSetTimes(), rpc.Caller(ctx), from(ctx), req.GetReason()); err != nil {
		return nil, err
	}
	return &executorv1.ClearGateLatchesResponse{Gate: gates.Status(), InstanceId: s.keeper.instance}, nil
}

// from returns the address that the call came from.
func from(ctx context.Context) string {
	if p, ok := peer.FromContext(ctx); ok {
		return p.Addr.String()
	}
	return ""
}

// planOf returns the plan of a request; the zero Plan if it has none.
func planOf(q *executorv1.QualityPlan) (outcome.Plan, error) {
	p, err := wire.PlanOf(q)
	if err != nil {
		return p, rpc.ExecutorError(codes.InvalidArgument, executorv1.RolloutErrorReason_ROLLOUT_ERROR_REASON_PLAN_INVALID, "%v", err)
	}
	return p, nil
}
