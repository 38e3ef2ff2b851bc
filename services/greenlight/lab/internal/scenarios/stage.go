package scenarios

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/rpc"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/canary"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/process"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/operator"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/relay"
)

// Options configure the scenarios. All are required except Prometheus.
type Options struct {
	// Self is the program greenlight. Prometheus is the program of that name; empty if there is none.
	Self, Prometheus string
	// Services are the programs and the model.
	Services process.Services
	// Dir gets a folder for every scenario.
	Dir string
	// Evidence is the folder with the offline evidence of the model.
	Evidence string
	// States are sent at Rate per second. Source is their origin.
	States []traffic.State
	Rate   float64
	Source evidence.Source
	// ShadowTimeout is how long a shadow may take.
	ShadowTimeout time.Duration
	// Policy is the policy of the canaries, which a scenario may change.
	Policy gate.Policy
}

// stage is the services and the load of one scenario.
type stage struct {
	opts   Options
	dir    string
	policy gate.Policy
	rate   float64

	engine, executor *process.Process
	relay            *relay.Relay // between the two
	decider          fleet.Executor
	closers          []func() error

	quiet   func() // ends the load
	sending sync.WaitGroup
	answers traffic.Answers
}

// setUp starts the pair, with the relay in between, and the load.
func (s *stage) setUp(ctx context.Context) error {
	if err := os.CopyFS(s.evidence(), os.DirFS(s.opts.Evidence)); err != nil {
		return err
	}
	raw, err := s.policy.YAML()
	if err == nil {
		err = os.WriteFile(s.policyFile(), raw, 0o600)
	}
	if err != nil {
		return err
	}
	if s.engine, err = s.opts.Services.Engine(ctx, s.dir, process.Listen{}, "--drift-clock", "event"); err != nil {
		return err
	}
	s.closers = append(s.closers, s.engine.Kill)
	if s.relay, err = relay.Start(ctx, s.engine.Addr("grpc")); err != nil {
		return err
	}
	s.closers = append(s.closers, s.relay.Close)
	if err := s.startExecutor(ctx, process.Listen{}); err != nil {
		return err
	}
	s.closers = append(s.closers, func() error { return s.executor.Kill() }) // the current one
	conn, err := rpc.Dial(s.executor.Addr("grpc"), nil)
	if err != nil {
		return err
	}
	s.closers = append(s.closers, conn.Close)
	s.decider = fleet.NewExecutor(s.executor.Addr("grpc"), conn)
	_, err = process.AwaitShadow(ctx, s.decider.Decisions, s.opts.States[0])
	return err
}

// startExecutor starts the executor, whose rollout survives a restart.
func (s *stage) startExecutor(ctx context.Context, at process.Listen) (err error) {
	s.executor, err = s.opts.Services.Executor(ctx, s.dir, s.relay.Addr(), at, "--insecure-control",
		"--state-dir", filepath.Join(s.dir, "state"), "--shadow-timeout", s.opts.ShadowTimeout.String())
	return err
}

// send starts the load.
func (s *stage) send(ctx context.Context) {
	ctx, s.quiet = context.WithCancel(ctx)
	pace := traffic.Pace{Concurrency: 8, Rate: s.rate}
	s.sending.Go(func() { s.answers = traffic.Decide(ctx, s.decider.Decisions, s.opts.States, pace) })
}

// tearDown stops everything in reverse order.
func (s *stage) tearDown() error {
	if s.quiet != nil {
		s.quiet()
		s.sending.Wait()
	}
	var errs []error
	for _, end := range slices.Backward(s.closers) {
		errs = append(errs, end())
	}
	s.closers = nil
	return errors.Join(errs...)
}

func (s *stage) evidence() string   { return filepath.Join(s.dir, "evidence") }
func (s *stage) policyFile() string { return filepath.Join(s.dir, "policy.yaml") }

const (
	// patience is the longest wait for an expected event, on a busy machine.
	patience = 90 * time.Second
	glance   = 20 * time.Millisecond
)

// await waits until ok.
func (s *stage) await(ctx context.Context, what string, ok func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(glance)
	defer tick.Stop()
	for {
		if done, err := ok(); done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s did not come within %s", what, gate.Duration(patience))
		case <-tick.C:
		}
	}
}

// state returns the state folder of the scenario's canary.
func (s *stage) state() canary.State { return canary.State(filepath.Join(s.dir, firstState)) }

// record returns the run as its journal has it, in whichever process it runs; nil if there is no journal yet.
func (s *stage) record() *canary.Record {
	_, r, err := s.state().Read("")
	if err != nil {
		return nil
	}
	return r
}

// awaitEvent waits until the journal of the canary has an event for which ok is true, and returns it. It returns an error if
// the command ends before.
func (s *stage) awaitEvent(ctx context.Context, c *operator.Command, what string, ok func(canary.Event) bool) (found canary.Event, err error) {
	err = s.await(ctx, what, func() (bool, error) {
		over := c.Ended() // before the journal is read: it then has all events
		events, err := s.state().Events("")
		i := slices.IndexFunc(events, ok)
		if err != nil || i < 0 {
			if over {
				return false, fmt.Errorf("the canary ended before %s: %s", what, c.LastLine())
			}
			return false, nil // the run may not have started
		}
		found = events[i]
		return true, nil
	})
	return found, err
}

// awaitPhase waits until a phase has compared something.
func (s *stage) awaitPhase(ctx context.Context, c *operator.Command, index int) error {
	_, err := s.awaitEvent(ctx, c, fmt.Sprintf("a comparison of phase %d", index+1), func(e canary.Event) bool {
		return e.Kind == canary.Polled && e.Phase == index && e.Poll.Comparisons > 0
	})
	return err
}

// startTo starts a canary and waits until its phase has compared something.
func (s *stage) startTo(ctx context.Context, index int, flags ...string) (*operator.Command, error) {
	c, err := s.start(ctx, flags...)
	if err == nil {
		err = s.awaitPhase(ctx, c, index)
	}
	return c, err
}

// awaitEnd waits until the command has ended.
func (s *stage) awaitEnd(ctx context.Context, c *operator.Command) error {
	return s.await(ctx, "the end of the canary", func() (bool, error) { return c.Ended(), nil })
}

// percent returns the executor's share of requests with a shadow, in percent.
func (s *stage) percent(ctx context.Context) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	got, err := s.decider.Rollout(ctx)
	return got.GetRollout().GetPercent(), err
}

// awaitZero waits until the executor is at 0 %, and returns how long that took.
func (s *stage) awaitZero(ctx context.Context) (time.Duration, error) {
	start := time.Now()
	err := s.await(ctx, "0 %", func() (bool, error) {
		p, err := s.percent(ctx)
		return p == 0, err
	})
	return time.Since(start), err
}
