package traffic

import (
	"context"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/greenlight-ml/greenlight/pkg/shadow"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

// Answers counts the decisions of an executor.
type Answers struct {
	// Total is the number of requested decisions.
	Total uint64 `json:"total"`
	// Changed counts the answers that differ, in at least one bit, from what the baseline computes.
	Changed uint64 `json:"changed"`
	// Away counts the decisions that failed because no executor was reachable, Failed those with any other error.
	Away   uint64 `json:"away"`
	Failed uint64 `json:"failed"`
}

// Decide requests decisions on the states in turn from an executor, at the pace, until ctx ends. Like a trader, it uses
// streams and does not wait for shadows. Decisions in flight when ctx ends are completed.
func Decide(ctx context.Context, decisions executorv1.DecisionServiceClient, states []State, pace Pace) Answers {
	return decide(ctx, decisions, states, math.MaxInt, pace)
}

// decide is like [Decide], for n decisions.
func decide(ctx context.Context, decisions executorv1.DecisionServiceClient, states []State, n int, pace Pace) Answers {
	var total, changed, away, failed atomic.Uint64
	pace = pace.orDefault()
	over := NewStreams(decisions, pace.Concurrency)
	defer over.Close()
	_, _ = pace.each(ctx, n, func(call context.Context, i int) {
		call, cancel := context.WithTimeout(context.WithoutCancel(call), pace.Timeout)
		defer cancel()
		s := states[i%len(states)]
		with := s.Request()
		resp, err := over.Decide(call, &executorv1.PredictRequest{
			RequestId: fmt.Sprintf("%s-%d", s.ID, i/len(states)), Symbol: with.GetSymbol(), EventTime: with.GetEventTime(),
			Features: with.GetFeatures(), Source: with.GetSource(), BaselineScore: with.BaselineScore,
		})
		total.Add(1)
		switch {
		case status.Code(err) == codes.Unavailable:
			away.Add(1)
		case err != nil:
			failed.Add(1)
		case resp.GetModelDigest() != s.Decides.Digest, !s.Unchecked && !same(resp.GetScore(), s.Baseline):
			changed.Add(1)
		}
	})
	return Answers{total.Load(), changed.Load(), away.Load(), failed.Load()}
}

// Round is the result of a round of decisions.
type Round struct {
	Answers
	// Counts are the executor's counts meanwhile, over all its clients. The shadows of the last decisions may be missing.
	fleet.Counts
}

// MatchRate returns matches / comparisons, in [0,1]; 0 without a comparison.
func (r Round) MatchRate() float64 {
	return ratio(int(r.Outcomes[shadow.Match.String()]), int(r.Compared()))
}

// round requests one decision on each state, like [Decide].
func round(ctx context.Context, e fleet.Executor, states []State, pace Pace) (r Round, err error) {
	before, err := e.Counters(ctx)
	if err != nil {
		return r, err
	}
	r.Answers = decide(ctx, e.Decisions, states, len(states), pace)
	after, err := e.Counters(ctx)
	if err != nil {
		return r, err
	}
	r.Counts, err = fleet.Delta(before, after, fleet.FromZero)
	return r, err
}

// loopRound is the number of states of a round of [Loop].
const loopRound = 10_000

// Loop requests decisions on the states again and again until ctx ends, and calls done with the result of every round of
// 10,000. After an error it waits a second.
func Loop(ctx context.Context, e fleet.Executor, states []State, pace Pace, done func(Round, error)) {
	for from := 0; ; {
		r, err := round(ctx, e, states[from:min(from+loopRound, len(states))], pace)
		if ctx.Err() != nil {
			return
		}
		done(r, err)
		switch {
		case err == nil:
			if from += loopRound; from >= len(states) {
				from = 0
			}
		case !Pause(ctx, time.Second):
			return
		}
	}
}
