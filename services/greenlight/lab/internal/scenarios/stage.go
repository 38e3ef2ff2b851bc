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

	"google.golang.org/grpc"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/rpc"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/canary"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/process"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
)

// Options are what the scenarios run on. All are required but Prometheus.
type Options struct {
	// Self is this program, Bin the folder of the services, Prometheus its program; empty if there is none.
	Self, Bin, Prometheus string
	// Dir gets a folder for every scenario.
	Dir string
	// Models is the registry, Artifact the model in it, Evidence the folder with its offline evidence.
	Models   string
	Artifact *model.Artifact
	Evidence string
	// States are sent, Rate a second; Source says where they are from.
	States []traffic.State
	Rate   float64
	Source evidence.Source
	// ShadowTimeout is how long a shadow may take.
	ShadowTimeout time.Duration
	// Policy is what the canaries are judged by, but for what a scenario changes.
	Policy gate.Policy
}

// stage is the services and the load of one scenario.
type stage struct {
	opts   Options
	dir    string
	policy gate.Policy
	rate   float64

	engine, executor *process.Process
	relay            *relay
	rollouts         executorv1.RolloutServiceClient
	decisions        executorv1.DecisionServiceClient
	closers          []func() error

	quiet   func() // ends the load
	sending sync.WaitGroup
	answers traffic.Answers
}

// setUp starts the pair, with the relay between, and the load.
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
	m := s.opts.Artifact.Manifest
	s.engine, err = process.Start(ctx, filepath.Join(s.opts.Bin, "ml-engine"), s.dir, "--models", s.opts.Models, "--model", m.Name+"/"+m.Version,
		"--grpc-addr", anyPort, "--http-addr", anyPort, "--drift-clock", "event")
	if err != nil {
		return err
	}
	s.closers = append(s.closers, s.engine.Kill)
	conn, err := s.dial(s.engine.Addr("grpc"))
	if err != nil {
		return err
	}
	if s.relay, err = startRelay(ctx, mlenginev1.NewScoringServiceClient(conn)); err != nil {
		return err
	}
	s.closers = append(s.closers, s.relay.stop)
	if err := s.startExecutor(ctx, anyPort, anyPort); err != nil {
		return err
	}
	s.closers = append(s.closers, func() error { return s.executor.Kill() }) // the one that runs then
	if conn, err = s.dial(s.executor.Addr("grpc")); err != nil {
		return err
	}
	s.rollouts, s.decisions = executorv1.NewRolloutServiceClient(conn), executorv1.NewDecisionServiceClient(conn)
	return s.await(ctx, "the first shadow", func() (bool, error) { return s.shadowed(ctx) })
}

const anyPort = "127.0.0.1:0"

// startExecutor starts the executor, whose rollout outlives it.
func (s *stage) startExecutor(ctx context.Context, grpc, http string) (err error) {
	m := s.opts.Artifact.Manifest
	s.executor, err = process.Start(ctx, filepath.Join(s.opts.Bin, "executor"), s.dir,
		"--baseline", "heuristic="+filepath.Join(s.opts.Models, m.Name, m.Version, "baseline.json"), "--insecure-control",
		"--engine-addr", s.relay.addr, "--grpc-addr", grpc, "--http-addr", http, "--state-dir", filepath.Join(s.dir, "state"),
		"--shadow-timeout", s.opts.ShadowTimeout.String())
	return err
}

// shadowed sends one state and says whether it got a shadow.
func (s *stage) shadowed(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	resp, err := s.decisions.PredictWithShadow(ctx, &executorv1.PredictWithShadowRequest{
		RequestId: "warm-up", Features: s.opts.States[0].Named, EventTime: s.opts.States[0].Time, Source: s.opts.States[0].Source,
	}, grpc.WaitForReady(true))
	return err == nil && resp.GetShadow() != nil, nil
}

func (s *stage) dial(addr string) (*grpc.ClientConn, error) {
	conn, err := rpc.Dial(addr, nil)
	if err == nil {
		s.closers = append(s.closers, conn.Close)
	}
	return conn, err
}

// send begins the load.
func (s *stage) send(ctx context.Context) {
	ctx, s.quiet = context.WithCancel(ctx)
	pace := traffic.Pace{Concurrency: 8, Rate: s.rate}
	s.sending.Go(func() { s.answers = traffic.Decide(ctx, s.decisions, s.opts.States, pace) })
}

// tearDown ends all that was started, the last first.
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
	// patience is how long something that must come is waited for, on a busy machine.
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

// record is the run as its journal has it, whoever runs it; nil when there is none yet.
func (s *stage) record() *canary.Record {
	_, r, err := canary.State(filepath.Join(s.dir, firstState)).Read("")
	if err != nil {
		return nil
	}
	return r
}

// awaitPhase waits until a phase has compared something, or the canary ended without.
func (s *stage) awaitPhase(ctx context.Context, c *command, index int) error {
	return s.await(ctx, fmt.Sprintf("phase %d", index+1), func() (bool, error) {
		if ended(c) {
			return false, fmt.Errorf("the canary ended before phase %d: %s", index+1, lastLine(c))
		}
		r := s.record()
		if r == nil || len(r.Phases) == 0 {
			return false, nil
		}
		p := r.Phases[len(r.Phases)-1]
		n := len(p.Samples)
		return p.Index == index && p.Decision == canary.Running && n > 0 && p.Samples[n-1].Comparisons > 0, nil
	})
}

func ended(c *command) bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// awaitEnd waits until the command has ended.
func (s *stage) awaitEnd(ctx context.Context, c *command) error {
	return s.await(ctx, "the end of the canary", func() (bool, error) { return ended(c), nil })
}

// percent is what the executor shadows now, in percent.
func (s *stage) percent(ctx context.Context) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	got, err := s.rollouts.GetRollout(ctx, &executorv1.GetRolloutRequest{}, grpc.WaitForReady(true))
	return got.GetRollout().GetPercent(), err
}

// awaitZero waits until the executor shadows nothing, and returns how long that took.
func (s *stage) awaitZero(ctx context.Context) (time.Duration, error) {
	start := time.Now()
	err := s.await(ctx, "0 %", func() (bool, error) {
		p, err := s.percent(ctx)
		return p == 0, err
	})
	return time.Since(start), err
}
