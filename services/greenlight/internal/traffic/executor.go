package traffic

import (
	"context"
	"fmt"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// Executor is the services of an executor.
type Executor struct {
	Decisions executorv1.DecisionServiceClient
	Shadows   executorv1.ShadowServiceClient
}

// counts is what an executor has counted since it started.
type counts struct {
	start    time.Time
	requests int64
	ended    int64
	inFlight int64
}

// Baseline is what the executor says that it decides by.
func (e Executor) Baseline(ctx context.Context) (evidence.Model, error) {
	r, err := e.Shadows.GetShadowReport(ctx, &executorv1.GetShadowReportRequest{})
	if err != nil {
		return evidence.Model{}, fmt.Errorf("read the executor's report: %w", err)
	}
	return evidence.Model{Version: r.GetBaselineVersion(), Digest: r.GetBaselineDigest()}, nil
}

func (e Executor) counts(ctx context.Context) (counts, error) {
	r, err := e.Shadows.GetShadowReport(ctx, &executorv1.GetShadowReportRequest{})
	if err != nil {
		return counts{}, fmt.Errorf("read the executor's report: %w", err)
	}
	c := counts{start: r.GetStartTime().AsTime(), requests: int64(r.GetRequestsTotal()), inFlight: int64(r.GetInFlight())}
	for _, o := range r.GetOutcomesTotal() {
		c.ended += int64(o.GetCount())
	}
	return c, nil
}

// since is how many of the requests between two readings have no outcome, plus those beyond what this client sent or
// short of it. Others may not use the executor meanwhile.
func (c counts) since(before counts, sent int) int64 {
	if !c.start.Equal(before.start) {
		return int64(sent) // it restarted: nothing can be said for what was sent
	}
	lost := (c.requests - before.requests) - (c.ended + c.inFlight - before.ended - before.inFlight)
	foreign := (c.requests - before.requests) - int64(sent)
	return max(lost, -lost) + max(foreign, -foreign)
}

// timed notes how long a call that succeeds takes.
func timed[T any](w *stopwatch, call func() (T, error)) (T, error) {
	start := time.Now()
	v, err := call()
	if err == nil {
		w.add(time.Since(start))
	}
	return v, err
}
