package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-co-op/gocron/v2"
	"github.com/jonboulle/clockwork"
)

// ticks are the cron schedules, in UTC: every hour, and one minute before the end of the week. The tick at midnight writes the
// report of the day before.
var ticks = []string{"0 * * * *", "59 23 * * 0"}

// Run ticks immediately, to catch up after downtime, and then on schedule until ctx ends. A failed tick is logged.
func (a *Agent) Run(ctx context.Context, clock clockwork.Clock) error {
	scheduler, err := gocron.NewScheduler(gocron.WithLocation(time.UTC), gocron.WithClock(clock),
		gocron.WithLimitConcurrentJobs(1, gocron.LimitModeWait))
	if err != nil {
		return fmt.Errorf("scheduler: %w", err)
	}
	var check clockCheck
	start := clock.Now()
	tick := func() {
		now := clock.Now()
		if !check.trusted(moment{now.Round(0), clock.Since(start)}) {
			a.Logger.Warn("the clock jumped: nothing is written until it has been steady for half an hour", "now", now)
			return
		}
		if err := a.Tick(ctx, now); err != nil && ctx.Err() == nil {
			a.Logger.Error("tick failed, the next tick will retry", "error", err)
		}
	}
	tick()
	for _, cron := range ticks {
		if _, err := scheduler.NewJob(gocron.CronJob(cron, false), gocron.NewTask(tick)); err != nil {
			return errors.Join(fmt.Errorf("schedule %q: %w", cron, err), scheduler.Shutdown())
		}
	}
	scheduler.Start()
	<-ctx.Done()
	return scheduler.Shutdown()
}

const (
	// maxJump is how far the wall clock may be adjusted against the monotonic clock between two ticks.
	maxJump = 5 * time.Minute
	// steadyFor is how long a clock that has jumped must be steady before it is trusted.
	steadyFor = 30 * time.Minute
)

// moment is a reading of the wall clock and of the monotonic clock, which does not jump.
type moment struct {
	wall      time.Time
	monotonic time.Duration
}

// jump returns how far the wall clock moved against the monotonic clock, in either direction.
func (m moment) jump(to moment) time.Duration {
	return (to.wall.Sub(m.wall) - (to.monotonic - m.monotonic)).Abs()
}

// clockCheck compares the wall clock with the monotonic clock, so that one wrong reading does not cause reports for days that
// are not over. A machine that was suspended looks the same; its clock is trusted again after [steadyFor].
type clockCheck struct {
	started bool
	// last is the last trusted reading, suspect the first after a jump.
	last, suspect moment
}

// trusted reports whether the wall clock can be trusted at a tick.
func (c *clockCheck) trusted(now moment) bool {
	steady := c.suspect != moment{} && c.suspect.jump(now) <= maxJump
	if !c.started || c.last.jump(now) <= maxJump || steady && now.monotonic-c.suspect.monotonic >= steadyFor {
		c.started, c.last, c.suspect = true, now, moment{}
		return true
	}
	if !steady {
		c.suspect = now
	}
	return false
}
