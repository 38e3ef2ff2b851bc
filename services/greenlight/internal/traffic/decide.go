package traffic

import (
	"context"
	"fmt"
	"math"
	"sync/atomic"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/greenlight-ml/greenlight/pkg/model"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// Answers counts the decisions of an executor.
type Answers struct {
	// Total are all calls.
	Total uint64
	// Changed are the answers that differ, in at least one bit, from what the baseline computes.
	Changed uint64
	// Away are the calls that failed because no executor was reachable, Failed those with any other error.
	Away, Failed uint64
}

// Decide asks an executor for decisions on the states in turn, at the pace, until ctx ends. Like a trader it waits for no
// shadow. Calls under way when ctx ends are completed.
func Decide(ctx context.Context, decisions executorv1.DecisionServiceClient, a *model.Artifact, states []State, pace Pace) Answers {
	var total, changed, away, failed atomic.Uint64
	digest := a.Baseline.Digest()
	_, _ = pace.each(ctx, math.MaxInt, func(call context.Context, i int) {
		deadline, _ := call.Deadline()
		call, cancel := context.WithDeadline(context.WithoutCancel(call), deadline)
		defer cancel()
		s := states[i%len(states)]
		with := s.Request()
		resp, err := decisions.Predict(call, &executorv1.PredictRequest{
			RequestId: fmt.Sprintf("%s-%d", s.ID, i/len(states)), Symbol: with.GetSymbol(), EventTime: with.GetEventTime(),
			Features: with.GetFeatures(), Source: with.GetSource(),
		})
		total.Add(1)
		switch {
		case status.Code(err) == codes.Unavailable:
			away.Add(1)
		case err != nil:
			failed.Add(1)
		case !same(resp.GetScore(), s.Baseline) || resp.GetModelDigest() != digest:
			changed.Add(1)
		}
	})
	return Answers{total.Load(), changed.Load(), away.Load(), failed.Load()}
}
