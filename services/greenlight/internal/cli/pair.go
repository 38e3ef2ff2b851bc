package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"

	"github.com/greenlight-ml/greenlight/pkg/model"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/process"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
)

// pairOptions are a pair of services to start.
type pairOptions struct {
	// bin is the folder of the programs, dir that of their logs, models the registry.
	bin, dir, models string
	artifact         *model.Artifact
	engine, executor serviceFlags
	shadowTimeout    time.Duration
}

// withPair starts ml-engine and executor as processes, hands them to use, and stops them. A service that ends on its own
// is an error.
func withPair(ctx context.Context, o pairOptions, use func(engine, executor *process.Process) error) (err error) {
	m := o.artifact.Manifest
	engine, err := process.Start(ctx, filepath.Join(o.bin, "ml-engine"), o.dir,
		"--models", o.models, "--model", m.Name+"/"+m.Version, "--grpc-addr", o.engine.grpc, "--http-addr", o.engine.http,
		"--drift-clock", "event") // the held-out days are in the past
	if err != nil {
		return WithHint(err, "the addresses can be moved with --engine-grpc and --engine-http")
	}
	defer func() { err = errors.Join(err, engine.Stop(stopGrace)) }()
	executor, err := process.Start(ctx, filepath.Join(o.bin, "executor"), o.dir,
		"--baseline", "heuristic="+filepath.Join(o.models, m.Name, m.Version, "baseline.json"), "--insecure-control",
		"--shadow-timeout", o.shadowTimeout.String(), "--engine-addr", engine.Addr("grpc"), "--grpc-addr", o.executor.grpc, "--http-addr", o.executor.http)
	if err != nil {
		return WithHint(err, "the addresses can be moved with --executor-grpc and --executor-http")
	}
	defer func() { err = errors.Join(err, executor.Stop(stopGrace)) }()
	return errors.Join(use(engine, executor), engine.Err(), executor.Err())
}

// Programs is the folder of the services' programs: the one given, or that of this program.
func Programs(given string) (string, error) {
	if given == "" {
		self, err := os.Executable()
		if err != nil {
			return "", err
		}
		given = filepath.Dir(self)
	}
	for _, name := range []string{"ml-engine", "executor"} {
		if _, err := os.Stat(filepath.Join(given, name)); err != nil {
			return "", WithHint(err, "make run builds all three programs; --bin names their folder")
		}
	}
	return given, nil
}

// serviceFlags are where a service listens.
type serviceFlags struct {
	grpc, http string
}

// stopGrace is how long a service may take to drain before it is killed: its own grace, and some.
const stopGrace = 12 * time.Second

// warmUp is how long the pair may take to answer with a shadow: far more than it needs, for a machine that is busy.
const warmUp = 30 * time.Second

// awaitShadow sends one state until its shadow is answered: connections are made and caches are warm before the clock of
// the stages runs.
func awaitShadow(ctx context.Context, addr string, states []traffic.State) error {
	ctx, cancel := context.WithTimeout(ctx, warmUp)
	defer cancel()
	at := endpoint{addr: addr}
	return at.dial(func(conn *grpc.ClientConn) error {
		client := executorv1.NewDecisionServiceClient(conn)
		for {
			resp, err := client.PredictWithShadow(ctx, &executorv1.PredictWithShadowRequest{
				RequestId: "warm-up", Features: states[0].Named, EventTime: states[0].Time, Source: states[0].Source,
			}, grpc.WaitForReady(true))
			if err != nil {
				return fmt.Errorf("warm up the pair: %w", err)
			}
			if resp.GetShadow() != nil {
				return nil
			}
			if !traffic.Pause(ctx, 50*time.Millisecond) {
				return fmt.Errorf("warm up the pair: no shadow within %v: %s", warmUp, resp.GetShadowError())
			}
		}
	})
}
