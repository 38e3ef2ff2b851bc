package traffic

import (
	"context"
	"fmt"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// Executor has the clients of an executor's services.
type Executor struct {
	Decisions executorv1.DecisionServiceClient
	Shadows   executorv1.ShadowServiceClient
}

// counts are an executor's counts since it started.
type counts struct {
	start    time.Time
	requests int64
	ended    int64
	inFlight int64
}

// Baseline asks the executor which baseline it decides by.
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

// since returns how many requests between two readings have no outcome, plus the difference between the executor's
// requests and those that this client sent. No other client may use the executor meanwhile.
func (c counts) since(before counts, sent int) int64 {
	if !c.start.Equal(before.start) {
		return int64(sent) // a restart lost the counts: none of the requests is accounted for
	}
	lost := (c.requests - before.requests) - (c.ended + c.inFlight - before.ended - before.inFlight)
	foreign := (c.requests - before.requests) - int64(sent)
	return max(lost, -lost) + max(foreign, -foreign)
}

// timed records the duration of a successful call.
func timed[T any](w *stopwatch, call func() (T, error)) (T, error) {
	start := time.Now()
	v, err := call()
	if err == nil {
		w.add(time.Since(start))
	}
	return v, err
}
