package traffic

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

// Executor is the services of one executor.
type Executor struct {
	Decisions executorv1.DecisionServiceClient
	Shadows   executorv1.ShadowServiceClient
}

// NewExecutor returns the services of the executor at the other end of the connection.
func NewExecutor(conn grpc.ClientConnInterface) Executor {
	return Executor{Decisions: executorv1.NewDecisionServiceClient(conn), Shadows: executorv1.NewShadowServiceClient(conn)}
}

// Baseline returns the baseline that the executor decides by.
func (e Executor) Baseline(ctx context.Context) (evidence.Model, error) {
	c, err := e.counters(ctx)
	return c.Baseline, err
}

// counters reads what the executor has counted.
func (e Executor) counters(ctx context.Context) (fleet.Counters, error) {
	requested := time.Now()
	r, err := e.Shadows.GetShadowReport(ctx, &executorv1.GetShadowReportRequest{})
	if err != nil {
		return fleet.Counters{}, fmt.Errorf("read the executor's report: %w", err)
	}
	return fleet.CountersOf("", r, requested), nil
}

// unaccounted returns how many requests between two readings have no outcome, plus the difference to what this client sent.
// Nobody else may use the executor meanwhile. After a restart all that was sent is unaccounted.
func unaccounted(before, after fleet.Counters, sent int) int64 {
	d, err := fleet.Delta(before, after, fleet.Refuse)
	if err != nil {
		return int64(sent)
	}
	requests := int64(d.Requests)
	lost := requests - int64(d.Ended()) - (int64(after.InFlight) - int64(before.InFlight))
	foreign := requests - int64(sent)
	return max(lost, -lost) + max(foreign, -foreign)
}

// timed adds the duration of a call that succeeds.
func timed[T any](w *stopwatch, call func() (T, error)) (T, error) {
	start := time.Now()
	v, err := call()
	if err == nil {
		w.add(time.Since(start))
	}
	return v, err
}
