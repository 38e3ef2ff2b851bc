package rehearsal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/rpc"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/process"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
)

// Pair is a running ml-engine and an executor that sends its shadows there.
type Pair struct {
	EngineProcess, ExecutorProcess *process.Process

	Services *fleet.Services
	Executor fleet.Executor
}

// Setup configures a pair.
type Setup struct {
	Services process.Services
	// Dir is the folder of the logs.
	Dir string
	// Engine and Executor may be empty for free ports.
	Engine, Executor process.Listen
	// ShadowTimeout is how long a shadow may take.
	ShadowTimeout time.Duration
	// Policy configures how the executor compares, and judges a canary.
	Policy gate.Policy
	// EngineFlags and ExecutorFlags are additional flags of the services.
	EngineFlags, ExecutorFlags []string
}

// notStarted adds a hint for services that did not start at the addresses of greenlight run.
func notStarted(err error, service string, at process.Listen) error {
	if at == (process.Listen{}) {
		return err
	}
	return console.WithHint(err, "change the addresses with --%s-grpc and --%[1]s-http", service)
}

// WithPair starts a pair, calls use with connections to it, and stops it. It returns an error if a service exits before use
// returns, unless use killed it.
func WithPair(ctx context.Context, s Setup, use func(*Pair) error) (err error) {
	engine, err := s.Services.Engine(ctx, s.Dir, s.Engine, append(s.EngineFlags, "--drift-clock", "event")...) // the replayed days are in the past
	if err != nil {
		return notStarted(err, "engine", s.Engine)
	}
	defer func() { err = errors.Join(err, engine.Stop(process.StopGrace)) }()
	executor, err := s.Services.Executor(ctx, s.Dir, engine.Addr("grpc"), s.Executor, append(s.ExecutorFlags, "--insecure-control",
		"--shadow-timeout", s.ShadowTimeout.String(), "--match-tolerance", fmt.Sprint(s.Policy.Tolerance()), "--decision-threshold", fmt.Sprint(s.Policy.DecisionThreshold))...)
	if err != nil {
		return notStarted(err, "executor", s.Executor)
	}
	defer func() { err = errors.Join(err, executor.Stop(process.StopGrace)) }()
	services, err := fleet.Dial(fleet.Options{Engines: []string{engine.Addr("grpc")}, Executors: []string{executor.Addr("grpc")}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, services.Close()) }()
	conn, err := rpc.Dial(executor.Addr("grpc"), nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	return errors.Join(use(&Pair{engine, executor, services, fleet.NewExecutor(conn.Target(), conn)}), engine.Crashed(), executor.Crashed())
}

// Warm waits for the first shadow of the state.
func (p *Pair) Warm(ctx context.Context, state traffic.State) error {
	_, err := process.AwaitShadow(ctx, p.Executor.Decisions, state)
	return err
}
