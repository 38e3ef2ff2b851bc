// Package lifecycle starts and stops a service: everything is bound before anything is served, one dead listener ends
// the process, and what was opened is closed in reverse order within one bound of time.
package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/greenlight-ml/greenlight/pkg/durable"
)

// Stack holds the open resources and the serving loops of a service. The zero value is ready to use.
type Stack struct {
	closers []closer
	servers []server
}

type closer struct {
	name  string
	close func(context.Context) error
}

type server struct {
	name  string
	serve func() error
}

// OnStop registers the function that closes a resource. Call it right after opening. Resources close in reverse order.
func (s *Stack) OnStop(name string, fn func(context.Context) error) {
	s.closers = append(s.closers, closer{name, fn})
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
	s.servers = append(s.servers, server{name, fn})
}

// Run serves until ctx ends or a loop returns. Then it closes everything within the grace period and waits for the loops, at
// most a second longer. It returns the error of the loop that ended it, if any, joined with those of closing.
func (s *Stack) Run(ctx context.Context, grace time.Duration, logger *slog.Logger) error {
	group, groupCtx := errgroup.WithContext(ctx)
	for _, srv := range s.servers {
		group.Go(func() error {
			if err := srv.serve(); err != nil {
				return fmt.Errorf("%s: %w", srv.name, err)
			}
			if ctx.Err() == nil {
				return fmt.Errorf("%s ended unexpectedly", srv.name)
			}
			return nil
		})
	}
	<-groupCtx.Done()
	logger.Info("stopping", "grace", grace)
	stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	stopped := make(chan error, 1)
	go func() {
		err := s.Close(stopCtx)
		stopped <- errors.Join(group.Wait(), err)
	}()
	// A resource that ignores its context, for example a read from a hung disk, must not keep the process alive.
	timer := time.NewTimer(grace + overtime)
	defer timer.Stop()
	select {
	case err := <-stopped:
		return err
	case <-timer.C:
		return fmt.Errorf("not stopped within %s: the process ends without waiting any longer", grace+overtime)
	}
}

// overtime is how long a stop may exceed the grace period.
const overtime = time.Second

// Close closes everything in reverse order. Call it when a service fails during its start; Run calls it otherwise. A second
// call does nothing.
func (s *Stack) Close(ctx context.Context) error {
	var errs []error
	for _, c := range slices.Backward(s.closers) {
		if err := c.close(ctx); err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", c.name, err))
		}
	}
	s.closers = nil
	return errors.Join(errs...)
}

// Listen binds a TCP address and closes it with the stack. flag is the option with the address, for error messages.
func (s *Stack) Listen(ctx context.Context, addr, flag string) (net.Listener, error) {
	if isSocket(addr) {
		return nil, fmt.Errorf("listen on %s (%s): this listener supports TCP only: give host:port", addr, flag)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("listen on %s: another process has this port; stop it or choose another with %s", addr, flag)
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %s (%s): %w", addr, flag, err)
	}
	s.closeOnStop(addr, l)
	return l, nil
}

func (s *Stack) closeOnStop(addr string, l net.Listener) {
	s.OnStop("listener "+addr, func(context.Context) error {
		// The listener's server has usually closed it already.
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
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

// WriteAddresses writes "name=address" lines to the file atomically, so that the starter of a service on port 0 finds it.
// The addresses are targets to dial, see [Target]. An empty path does nothing.
func WriteAddresses(path string, addrs map[string]net.Addr) error {
	if path == "" {
		return nil
	}
	lines := make([]string, 0, len(addrs))
	for name, a := range addrs {
		lines = append(lines, name+"="+Target(a)+"\n")
	}
	slices.Sort(lines)
	if err := durable.WriteFile(path, []byte(strings.Join(lines, "")), 0o600); err != nil {
		return fmt.Errorf("address file: %w", err)
	}
	return nil
}
