package fleet_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/shadow"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

// reports is an in-memory executor.
type reports struct {
	executorv1.ShadowServiceClient
	executorv1.RolloutServiceClient

	// calls counts the reports. change changes one.
	calls  int
	change func(call int, r *executorv1.GetShadowReportResponse)
}

func (e *reports) GetShadowReport(context.Context, *executorv1.GetShadowReportRequest, ...grpc.CallOption) (*executorv1.GetShadowReportResponse, error) {
	r := sound()
	r.StartTime, r.ReportTime = timestamppb.New(time.Now().Add(-time.Hour)), timestamppb.Now()
	e.calls++
	e.change(e.calls, r)
	return r, nil
}

func (*reports) GetRollout(context.Context, *executorv1.GetRolloutRequest, ...grpc.CallOption) (*executorv1.GetRolloutResponse, error) {
	return &executorv1.GetRolloutResponse{Rollout: &executorv1.Rollout{Percent: 5}}, nil
}

func TestSettle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := &reports{change: func(call int, r *executorv1.GetShadowReportResponse) {
			if call >= 3 { // the two shadows end
				r.InFlight = 0
				r.OutcomesTotal[shadow.NotSampled-1].Count += 2
			}
		}}
		c, err := fleet.Executor{Addr: "a", Shadows: x}.Settle(t.Context())
		if err != nil || c.InFlight != 0 || c.Ended() != c.Requests || x.calls != 3 {
			t.Errorf("%d in flight, %d outcomes of %d requests after %d reports: %v", c.InFlight, c.Ended(), c.Requests, x.calls, err)
		}
		x.change = func(int, *executorv1.GetShadowReportResponse) {}
		start := time.Now()
		if _, err := (fleet.Executor{Addr: "a", Shadows: x}).Settle(t.Context()); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 10*time.Second {
			t.Errorf("shadows that do not end: %v after %v", err, time.Since(start))
		}
	})
}

// In a snapshot, answers that contradict themselves are only in Raw.
func TestSnapshot(t *testing.T) {
	t.Parallel()
	x := &reports{change: func(_ int, r *executorv1.GetShadowReportResponse) { r.RequestsTotal++ }}
	s := (&fleet.Services{Executors: []fleet.Executor{{Addr: "a", Shadows: x, Rollouts: x}}}).Snapshot(t.Context())
	e := s.Executors[0]
	if e.Report != nil || !errors.Is(e.ReportErr, fleet.ErrContradicts) || e.Raw.Report.GetRequestsTotal() != 1001 {
		t.Errorf("a report that contradicts itself: %+v", e)
	}
	if e.Rollout != nil || !errors.Is(e.RolloutErr, fleet.ErrContradicts) || e.Raw.Rollout.GetRollout().GetPercent() != 5 {
		t.Errorf("a rollout that contradicts itself: %+v", e)
	}
	if len(s.Baselines()) != 0 {
		t.Errorf("its baseline counts: %v", s.Baselines())
	}
}
