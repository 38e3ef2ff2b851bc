package rig

import (
	"context"
	"sync"

	"golang.org/x/sync/errgroup"
)

// Trials are functions that run independently of each other.
type Trials struct {
	// N is their number, AtOnce how many run at the same time.
	N, AtOnce int
	// Progress is called after every so many of them, and after the last, by one goroutine at a time.
	Progress func(done, total int)
	Every    int
}

// Run runs all until one returns an error or ctx ends.
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
