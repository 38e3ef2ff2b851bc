package canary

import (
	"context"
	"fmt"
	"time"

	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// Stop is what became of one executor that was told to stop.
type Stop struct {
	Addr string
	// Took is until 0 % was read back; Err why it was not.
	Took time.Duration
	Err  error
}

// Abort sets 0 % on all executors at once, whoever holds them, and reads it back.
func Abort(ctx context.Context, executors []Executor, reason string) []Stop {
	start := time.Now()
	stops, _ := each(executors, func(e Executor) (Stop, error) {
		err := stop(ctx, e, reason)
		return Stop{e.Addr, time.Since(start), err}, nil
	})
	return stops
}

func stop(ctx context.Context, e Executor, reason string) error {
	if _, err := e.Rollouts.AbortRollout(ctx, &executorv1.AbortRolloutRequest{Reason: shorten(reason)}); err != nil {
		return &callError{e.Addr, err}
	}
	got, err := e.rollout(ctx)
	if err != nil {
		return err
	}
	if p := got.GetRollout().GetPercent(); p != 0 {
		return fmt.Errorf("executor %s: %s, right after it was stopped", e.Addr, described(got.GetRollout()))
	}
	return nil
}

// Now is what one executor does now.
type Now struct {
	Addr string
	// Text says what its rollout is and who has set it; Err why it is not known.
	Text string
	Err  error
}

// Rollouts asks all executors at once.
func Rollouts(ctx context.Context, executors []Executor) []Now {
	all, _ := each(executors, func(e Executor) (Now, error) {
		got, err := e.rollout(ctx)
		if err != nil {
			return Now{Addr: e.Addr, Err: err}, nil //nolint:nilerr // it is in the answer
		}
		return Now{Addr: e.Addr, Text: described(got.GetRollout())}, nil
	})
	return all
}
