package rig

import (
	"context"
	"sync"

	"golang.org/x/sync/errgroup"
)

// Trials are independent functions that run concurrently.
type Trials struct {
	// N is the number of trials, AtOnce the number that run concurrently.
	N, AtOnce int
	// Progress is called periodically and after the last trial, by one goroutine at a time.
	Progress func(done, total int)
	Every    int
}

// Run runs all trials until one returns an error or ctx ends.
func (t Trials) Run(ctx context.Context, run func(trial int) error) error {
	group, running := errgroup.WithContext(ctx)
	group.SetLimit(t.AtOnce)
	var mu sync.Mutex
	done := 0
	for i := range t.N {
		if running.Err() != nil {
			break
		}
		group.Go(func() error {
			if err := run(i); err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			if done++; done%t.Every == 0 || done == t.N {
				t.Progress(done, t.N)
			}
			return running.Err()
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}
