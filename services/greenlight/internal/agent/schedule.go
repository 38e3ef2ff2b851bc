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
	var wall wall
	start := clock.Now()
	tick := func() {
		now := clock.Now()
		if !wall.believed(moment{now.Round(0), clock.Since(start)}) {
			a.Logger.Warn("the clock has leapt: nothing is written before it has gone on for half an hour", "now", now)
			return
		}
		if err := a.Tick(ctx, now); err != nil && ctx.Err() == nil {
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

const (
	// maxLeap is by how much the wall clock may differ from the monotonic one between two ticks: it is being set right.
	maxLeap = 5 * time.Minute
	// goesOn is how long a clock that has leapt must go on before it is believed.
	goesOn = 30 * time.Minute
)

// moment is what two clocks say: the wall clock, and the monotonic one, which does not leap.
type moment struct {
	wall      time.Time
	monotonic time.Duration
}

// leap is by how much the wall clock has gone on more than the monotonic one, or less.
func (m moment) leap(to moment) time.Duration {
	return (to.wall.Sub(m.wall) - (to.monotonic - m.monotonic)).Abs()
}

// wall holds the wall clock to the monotonic one: reports of days that are not over must not follow from one wrong moment. A
// machine that has slept looks the same, and is believed later.
type wall struct {
	begun         bool
	last, doubted moment
}

// believed reports whether the wall clock can be believed at a tick.
func (w *wall) believed(now moment) bool {
	again := w.doubted != moment{} && w.doubted.leap(now) <= maxLeap
	if !w.begun || w.last.leap(now) <= maxLeap || again && now.monotonic-w.doubted.monotonic >= goesOn {
		w.begun, w.last, w.doubted = true, now, moment{}
		return true
	}
	if !again {
		w.doubted = now
	}
	return false
}
