// Package serve is the shell of a service: its common flags, its listeners with their limits, TLS and the operator role, the
// gRPC server, the HTTP pages, and the order in which all of them start and stop. Everything is bound before anything is
// served, one dead listener ends the process, and open resources close in reverse order within one time limit.
package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// Stack holds the open resources and the serving loops of a program. The zero value is ready to use.
type Stack struct {
	closers  []closer
	loops    []loop
	running  *errgroup.Group // nil before Start
	ended    <-chan struct{} // closed when a loop returns or the context of Start ends
	stopping atomic.Bool
}

type closer struct {
	name  string
	close func(context.Context) error
}

type loop struct {
	name string
	run  func() error
}

// OnStop registers the function that closes a resource. Call it right after opening. Resources close in reverse order.
func (s *Stack) OnStop(name string, fn func(context.Context) error) {
	s.closers = append(s.closers, closer{name, fn})
}

// Go runs a function in the background. stop ends its context and waits for it; it may be called again.
func Go(run func(ctx context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { run(ctx) })
	return func() {
		cancel()
		done.Wait()
	}
}

// Half returns fn with half of the remaining time. Use it for resources that clients can delay, so that the resources closed
// after them still have time to save.
func Half(fn func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		if deadline, ok := ctx.Deadline(); ok {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, time.Until(deadline)/2)
			defer cancel()
		}
		return fn(ctx)
	}
}

// Serve registers a loop, which must return nil once its resource is closed.
func (s *Stack) Serve(name string, fn func() error) {
	s.loops = append(s.loops, loop{name, fn})
}

// Start starts the loops. Stop must follow.
func (s *Stack) Start(ctx context.Context) {
	group, ended := errgroup.WithContext(ctx)
	s.running, s.ended = group, ended.Done()
	for _, l := range s.loops {
		group.Go(func() error {
			if err := l.run(); err != nil {
				return fmt.Errorf("%s: %w", l.name, err)
			}
			if ctx.Err() == nil && !s.stopping.Load() {
				return fmt.Errorf("%s ended unexpectedly", l.name)
			}
			return nil
		})
	}
}

// Wait waits until the context of Start ends or a loop returns, and then stops. It returns the error of the loop that ended
// it, if any, joined with the errors of closing.
func (s *Stack) Wait(ctx context.Context, grace time.Duration, logger *slog.Logger) error {
	<-s.ended
	logger.Info("stopping", "grace", grace)
	return s.Stop(ctx, grace)
}

// overtime is how long a stop may exceed the grace period.
const overtime = time.Second

// Stop closes everything in reverse order within the grace period, and waits for the loops, at most a second longer. Call it
// when a program fails during its start; Wait calls it otherwise. A second call does nothing.
func (s *Stack) Stop(ctx context.Context, grace time.Duration) error {
	if s.stopping.Swap(true) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	stopped := make(chan error, 1)
	go func() {
		err := s.close(ctx)
		if s.running != nil {
			err = errors.Join(s.running.Wait(), err)
		}
		stopped <- err
	}()
	// A resource that ignores its context, for example a read from a hung disk, must not keep the process alive.
	timer := time.NewTimer(grace + overtime)
	defer timer.Stop()
	select {
	case err := <-stopped:
		return err
	case <-timer.C:
		return fmt.Errorf("not stopped within %s: the process ends anyway", grace+overtime)
	}
}

func (s *Stack) close(ctx context.Context) error {
	var errs []error
	for _, c := range slices.Backward(s.closers) {
		if err := c.close(ctx); err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", c.name, err))
		}
	}
	return errors.Join(errs...)
}

// ServeHTTP serves until the server is shut down, over TLS if the server has a TLS configuration.
func ServeHTTP(srv *http.Server, l net.Listener) error {
	serve := srv.Serve
	if srv.TLSConfig != nil {
		serve = func(l net.Listener) error { return srv.ServeTLS(l, "", "") }
	}
	if err := serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
