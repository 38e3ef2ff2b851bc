package agent

import (
	"context"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/greenlight-ml/greenlight/services/greenlight/internal/driftfleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/report"
)

// TestSchedule starts on a Sunday at 22:30. Ticks come immediately, at 23:00, at 23:59 for the week, and at midnight.
func TestSchedule(t *testing.T) {
	start := at(6, 22).Add(30 * time.Minute)
	clock := clockwork.NewFakeClockAt(start)
	a := newAgent(t, t.TempDir(), t.TempDir())
	ticked := make(chan time.Time)
	a.Read = func(ctx context.Context, now time.Time) (report.Sample, *driftfleet.Report) {
		select {
		case ticked <- now:
		case <-ctx.Done():
		}
		return readPair(ctx, now)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx, clock) }()
	for i, want := range []time.Time{start, at(6, 23), at(7, 0).Add(-time.Minute), at(7, 0)} {
		if i > 0 {
			if err := clock.BlockUntilContext(ctx, len(ticks)); err != nil { // both jobs are waiting
				t.Fatal(err)
			}
			clock.Advance(want.Sub(clock.Now()))
		}
		select {
		case got := <-ticked:
			if !got.Equal(want) {
				t.Errorf("tick %d at %v, want %v", i, got, want)
			}
		case err := <-done:
			t.Fatalf("the agent ended: %v", err)
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}
