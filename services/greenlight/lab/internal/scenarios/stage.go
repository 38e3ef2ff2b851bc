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

	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/canary"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/process"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/operator"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/relay"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/rig"
)

// Options configure the scenarios. Each has a folder in the rig's folder, and may change the policy and the rate.
type Options struct {
	operator.Desk

	// Prometheus is the path of the Prometheus program; empty if it is not installed.
	Prometheus string
}

// stage is the services and the load of one scenario.
type stage struct {
	Options

	engine, executor *process.Process
	relay            *relay.Relay // between the two services
	decider          fleet.Executor

	quiet   func() // ends the load
	sending sync.WaitGroup
	answers traffic.Answers
}

// setUp starts the pair, with the relay in between.
func (s *stage) setUp(ctx context.Context) (err error) {
	offline := s.Evidence
	s.Evidence = filepath.Join(s.Dir, "evidence")
	if err := errors.Join(os.CopyFS(s.Evidence, os.DirFS(offline)), s.WritePolicy()); err != nil {
		return err
	}
	if s.engine, err = s.StartEngine(ctx, "", process.Listen{}, "--drift-clock", "event"); err != nil {
		return err
	}
	if s.relay, err = relay.Start(ctx, s.engine.Addr("grpc")); err != nil {
		return err
	}
	s.OnClose(s.relay.Close)
	if err := s.startExecutor(ctx, process.Listen{}); err != nil {
		return err
	}
	conn, err := s.Dial(s.executor)
	if err != nil {
		return err
	}
	s.decider = fleet.NewExecutor(s.executor.Addr("grpc"), conn)
	_, err = process.AwaitShadow(ctx, s.decider.Decisions, s.States[0])
	return err
}

// startExecutor starts the executor, whose rollout survives a restart.
func (s *stage) startExecutor(ctx context.Context, at process.Listen) (err error) {
	s.executor, err = s.StartExecutor(ctx, "", s.relay.Addr(), at, "--insecure-control",
		"--state-dir", filepath.Join(s.Dir, "state"), "--shadow-timeout", s.ShadowTimeout.String())
	return err
}

// send starts the load.
func (s *stage) send(ctx context.Context) {
	ctx, s.quiet = context.WithCancel(ctx)
	pace := traffic.Pace{Concurrency: 8, Rate: s.Rate}
	s.sending.Go(func() { s.answers = traffic.Decide(ctx, s.decider.Decisions, s.States, pace) })
}

// tearDown stops everything.
func (s *stage) tearDown() error {
	if s.quiet != nil {
		s.quiet()
		s.sending.Wait()
	}
	return s.Close()
}

// plan starts planning a canary.
func (s *stage) plan(state string, flags ...string) (*operator.Command, error) {
	return s.Run("plan-"+state, append([]string{
		"canary", "plan", "--engine", s.engine.Addr("grpc"), "--executor", s.executor.Addr("grpc"), "--evidence", s.Evidence,
		"--state", filepath.Join(s.Dir, state), "--policy", s.PolicyFile(), "--source", string(s.Source),
	}, flags...)...)
}

// begin starts the canary that the phrase confirms, or resumes it if the phrase is empty.
func (s *stage) begin(name, state, phrase string) (*operator.Command, error) {
	args := []string{"canary", "start", "--state", filepath.Join(s.Dir, state)}
	if phrase == "" {
		args = append(args, "--resume")
	} else {
		args = append(args, "--confirm", phrase)
	}
	return s.Run(name, args...)
}

// start plans and starts a canary.
func (s *stage) start(ctx context.Context, flags ...string) (*operator.Command, error) {
	return operator.Begin(
		func() (*operator.Command, error) { return s.plan(firstState, flags...) },
		func(phrase string) (*operator.Command, error) { return s.begin("canary", firstState, phrase) },
		func(c *operator.Command) (bool, error) {
			err := s.await(ctx, "the start of the canary", func() (bool, error) { return c.Ended() || s.Record() != nil, nil })
			return s.Record() != nil, err
		})
}

// firstState is the state folder of the scenario's canary.
const firstState = "canary"

// patience is the longest wait for an expected event, on a busy machine.
const patience = 90 * time.Second

// await waits until ok returns true.
func (s *stage) await(ctx context.Context, what string, ok func() (bool, error)) error {
	_, done, err := rig.Await(ctx, patience, ok)
	if err == nil && !done {
		err = fmt.Errorf("%s did not happen within %s", what, gate.Duration(patience))
	}
	return err
}

// awaitEvent waits for an event in the canary's journal for which ok is true, and returns it. It returns an error if the
// command ends first.
func (s *stage) awaitEvent(ctx context.Context, c *operator.Command, what string, ok func(canary.Event) bool) (found canary.Event, err error) {
	err = s.await(ctx, what, func() (bool, error) {
		over := c.Ended() // checked before reading the journal, so that it has all events
		events, err := s.State().Events("")
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

// startTo starts a canary and waits until the phase has made a comparison.
func (s *stage) startTo(ctx context.Context, index int, flags ...string) (*operator.Command, error) {
	c, err := s.start(ctx, flags...)
	if err == nil {
		_, err = s.awaitEvent(ctx, c, fmt.Sprintf("a comparison of phase %d", index+1), func(e canary.Event) bool {
			return e.Kind == canary.Polled && e.Phase == index && e.Poll.Comparisons > 0
		})
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
