package faults

import (
	"context"
	"strings"
	"time"

	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
)

// pollEvery is the time between two polls of the breaker: the resolution of its timeline.
const pollEvery = 200 * time.Millisecond

// Change is a state of the breaker and the time when it was first seen.
type Change struct {
	// AtS is in seconds since the fault began.
	AtS   float64 `json:"at_s"`
	State string  `json:"state"`
}

// Timeline lists the changes of the breaker's state.
type Timeline []Change

// StateWord returns the state's name in metrics and reports.
func StateWord(s executorv1.BreakerState) string {
	return strings.ToLower(fleet.Breaker(s))
}

// watchBreaker polls the breaker until stop is called. It polls the other executor as often, so that both have the same cost.
// stop waits and returns the changes of state, with times since begin.
func watchBreaker(ctx context.Context, on, off *Executor, begin func() time.Time) (stop func() Timeline) {
	var line Timeline
	last := executorv1.BreakerState_BREAKER_STATE_CLOSED
	end := repeat(ctx, func(ctx context.Context) error {
		if c, err := on.Counters(ctx); err == nil && c.Breaker != last {
			last = c.Breaker
			line = append(line, Change{AtS: time.Since(begin()).Seconds(), State: StateWord(last)})
		}
		_, _ = off.Counters(ctx)
		traffic.Pause(ctx, pollEvery)
		return nil
	})
	return func() Timeline {
		_ = end() // the function above returns no error
		return line
	}
}
