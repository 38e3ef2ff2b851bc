package rehearsal

import (
	"context"
	"errors"

	"github.com/greenlight-ml/greenlight/pkg/rpc"
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

// WithPair starts a pair, calls use with connections to it, and stops it.
func WithPair(ctx context.Context, s process.Services, p process.Pair, use func(*Pair) error) error {
	return s.WithPair(ctx, p, func(engine, executor *process.Process) (err error) {
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
		return use(&Pair{engine, executor, services, fleet.NewExecutor(conn.Target(), conn)})
	})
}

// Warm waits for the first shadow of the state.
func (p *Pair) Warm(ctx context.Context, state traffic.State) error {
	_, err := process.AwaitShadow(ctx, p.Executor.Decisions, state)
	return err
}
