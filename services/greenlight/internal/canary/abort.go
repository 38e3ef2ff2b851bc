package canary

import (
	"context"
	"fmt"
	"time"

	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

// Stop is the result of stopping one executor.
type Stop struct {
	Addr string
	// Took is the time until 0 % was read back. Err is why it was not.
	Took time.Duration
	Err  error
}

// Abort sets 0 % on all executors concurrently, regardless of leases, and reads it back.
func Abort(ctx context.Context, executors []fleet.Executor, reason string) []Stop {
	start := time.Now()
	stops, _ := fleet.Each(executors, func(e fleet.Executor) (Stop, error) {
		err := stop(ctx, e, reason)
		return Stop{e.Addr, time.Since(start), err}, nil
	})
	return stops
}

func stop(ctx context.Context, e fleet.Executor, reason string) error {
	now, err := e.Stop(ctx, shorten(reason))
	if err == nil && now.GetPercent() != 0 {
		return fmt.Errorf("executor %s: %s, right after it was stopped", e.Addr, fleet.DescribeRollout(now))
	}
	return err
}

// Now is the rollout of one executor.
type Now struct {
	Addr string
	// Text describes the rollout and who set it. Err is why it is unknown.
	Text string
	Err  error
}

// Rollouts reads the rollouts of all executors concurrently.
func Rollouts(ctx context.Context, executors []fleet.Executor) []Now {
	all, _ := fleet.Each(executors, func(e fleet.Executor) (Now, error) {
		got, err := e.Rollout(ctx)
		if err != nil {
			return Now{Addr: e.Addr, Err: err}, nil //nolint:nilerr // the error is part of the result
		}
		return Now{Addr: e.Addr, Text: fleet.DescribeRollout(got.GetRollout())}, nil
	})
	return all
}
