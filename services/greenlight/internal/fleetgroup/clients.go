package fleetgroup

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	fleetv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/fleet/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

// client answers calls for one executor of the group from its newest report, or refuses them and says what to do instead.
type client struct {
	g  *Group
	id string
}

var (
	_ executorv1.ShadowServiceClient  = (*client)(nil)
	_ executorv1.RolloutServiceClient = (*client)(nil)
	_ fleet.Reporter                  = (*client)(nil)
)

// member returns the executor. The error is a gRPC status.
func (c *client) member(ctx context.Context) (Member, error) {
	if err := ctx.Err(); err != nil {
		return Member{}, status.FromContextError(err).Err()
	}
	m, ok := c.g.Member(c.id, time.Now())
	switch {
	case !ok:
		return m, status.Errorf(codes.Unavailable, "it no longer reports: greenlight fleet ls shows the executors that do")
	case m.Twins:
		return m, status.Errorf(codes.FailedPrecondition, "%v", m.Err)
	}
	return m, nil
}

func refused(what, instead string) error {
	return status.Errorf(codes.FailedPrecondition, "%s: the executor can only be reached through its group: %s", what, instead)
}

// Reported implements [fleet.Reporter].
func (c *client) Reported(ctx context.Context) (*executorv1.GetShadowReportResponse, time.Time, error) {
	m, err := c.member(ctx)
	return m.Report.GetShadow(), m.At, err
}

// GetShadowReport implements ShadowServiceClient.
func (c *client) GetShadowReport(ctx context.Context, _ *executorv1.GetShadowReportRequest, _ ...grpc.CallOption) (*executorv1.GetShadowReportResponse, error) {
	r, _, err := c.Reported(ctx)
	return r, err
}

// GetQualityReport implements ShadowServiceClient.
func (c *client) GetQualityReport(ctx context.Context, req *executorv1.GetQualityReportRequest, _ ...grpc.CallOption) (*executorv1.GetQualityReportResponse, error) {
	return c.g.quality(ctx, c.id, req)
}

// WatchComparisons implements ShadowServiceClient.
func (*client) WatchComparisons(context.Context, *executorv1.WatchComparisonsRequest, ...grpc.CallOption) (grpc.ServerStreamingClient[executorv1.WatchComparisonsResponse], error) {
	return nil, refused("single comparisons are not published", "call it with --executor on its host")
}

// GetRollout implements RolloutServiceClient.
func (c *client) GetRollout(ctx context.Context, _ *executorv1.GetRolloutRequest, _ ...grpc.CallOption) (*executorv1.GetRolloutResponse, error) {
	m, err := c.member(ctx)
	return m.Report.GetRollout(), err
}

// SetRollout implements RolloutServiceClient.
func (*client) SetRollout(context.Context, *executorv1.SetRolloutRequest, ...grpc.CallOption) (*executorv1.SetRolloutResponse, error) {
	return nil, refused("the rollout of a single executor cannot be set", "greenlight canary start sets one rollout for the whole group")
}

// AbortRollout implements RolloutServiceClient. It stops the whole group once, and returns when this executor is at 0 %.
func (c *client) AbortRollout(ctx context.Context, req *executorv1.AbortRolloutRequest, _ ...grpc.CallOption) (*executorv1.AbortRolloutResponse, error) {
	m, err := c.stopped(ctx, fleetv1.StopKind_STOP_KIND_ABORT, req.GetReason())
	return &executorv1.AbortRolloutResponse{Rollout: m.Report.GetRollout().GetRollout(), InstanceId: m.Report.GetRollout().GetInstanceId()}, err
}

// KillGate implements RolloutServiceClient. It kills the gates of the whole group once, and returns when this one is killed.
func (c *client) KillGate(ctx context.Context, req *executorv1.KillGateRequest, _ ...grpc.CallOption) (*executorv1.KillGateResponse, error) {
	m, err := c.stopped(ctx, fleetv1.StopKind_STOP_KIND_KILL, req.GetReason())
	return &executorv1.KillGateResponse{Gate: m.Report.GetRollout().GetGate()}, err
}

// stopped stops the group, and waits until the executor reports the stop. The error is a gRPC status.
func (c *client) stopped(ctx context.Context, kind fleetv1.StopKind, reason string) (Member, error) {
	sent, err := c.g.stopOnce(ctx, kind, reason)
	if err != nil {
		return Member{}, status.Error(codes.FailedPrecondition, err.Error())
	}
	m, err := c.g.stopRead(ctx, c.id, kind, sent)
	if err != nil {
		return m, status.Error(codes.DeadlineExceeded, err.Error())
	}
	return m, nil
}

// RaiseGateAlarm implements RolloutServiceClient. It returns when the executor has confirmed the alarm.
func (c *client) RaiseGateAlarm(ctx context.Context, req *executorv1.RaiseGateAlarmRequest, _ ...grpc.CallOption) (*executorv1.RaiseGateAlarmResponse, error) {
	now, err := c.g.alarm(ctx, c.id, req)
	return &executorv1.RaiseGateAlarmResponse{Gate: now.GetGate(), InstanceId: now.GetInstanceId()}, err
}

// ClearGateLatches implements RolloutServiceClient. It returns when the executor has confirmed that they are cleared.
func (c *client) ClearGateLatches(ctx context.Context, req *executorv1.ClearGateLatchesRequest, _ ...grpc.CallOption) (*executorv1.ClearGateLatchesResponse, error) {
	now, err := c.g.clear(ctx, c.id, req)
	return &executorv1.ClearGateLatchesResponse{Gate: now.GetGate(), InstanceId: now.GetInstanceId()}, err
}

// decisions refuses decisions, which are not made through a group.
type decisions struct{ *client }

var _ executorv1.DecisionServiceClient = decisions{}

func (decisions) refused() error {
	return refused("requests are not decided through a group", "send it to the executor itself")
}

// Predict implements DecisionServiceClient.
func (d decisions) Predict(context.Context, *executorv1.PredictRequest, ...grpc.CallOption) (*executorv1.PredictResponse, error) {
	return nil, d.refused()
}

// PredictWithShadow implements DecisionServiceClient.
func (d decisions) PredictWithShadow(context.Context, *executorv1.PredictWithShadowRequest, ...grpc.CallOption) (*executorv1.PredictWithShadowResponse, error) {
	return nil, d.refused()
}

// Decide implements DecisionServiceClient.
func (d decisions) Decide(context.Context, ...grpc.CallOption) (grpc.BidiStreamingClient[executorv1.DecideRequest, executorv1.DecideResponse], error) {
	return nil, d.refused()
}

// ObserveQuotes implements DecisionServiceClient.
func (d decisions) ObserveQuotes(context.Context, ...grpc.CallOption) (grpc.ClientStreamingClient[executorv1.ObserveQuotesRequest, executorv1.ObserveQuotesResponse], error) {
	return nil, d.refused()
}
