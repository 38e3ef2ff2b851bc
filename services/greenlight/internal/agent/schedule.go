package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-co-op/gocron/v2"
	"github.com/jonboulle/clockwork"
)

// ticks are when a tick is due, in UTC: every hour, of which the first of a day writes the report of the day before, and
// a minute before the end of the week.
var ticks = []string{"0 * * * *", "59 23 * * 0"}

// Run ticks at once, for what a downtime has left, and then when it is due, until ctx ends. A tick that fails is logged.
func (a *Agent) Run(ctx context.Context, clock clockwork.Clock) error {
	scheduler, err := gocron.NewScheduler(gocron.WithLocation(time.UTC), gocron.WithClock(clock),
		gocron.WithLimitConcurrentJobs(1, gocron.LimitModeWait))
	if err != nil {
		return fmt.Errorf("scheduler: %w", err)
	}
	tick := func() {
		if err := a.Tick(ctx, clock.Now()); err != nil && ctx.Err() == nil {
			a.Logger.Error("tick failed, trying again at the next", "error", err)
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
