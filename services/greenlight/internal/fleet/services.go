// Package fleet reaches running ml-engines and executors, validates their answers, and reads their counters.
package fleet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/greenlight-ml/greenlight/pkg/oip/gen/inference"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

// Engine is one ml-engine.
type Engine struct {
	// Addr is its gRPC address, which names it.
	Addr    string
	Scoring mlenginev1.ScoringServiceClient
	Models  mlenginev1.ModelRegistryServiceClient
	Drift   mlenginev1.DriftServiceClient
	// Inference calls the Open Inference Protocol, to recognize a model server. It may be nil.
	Inference inference.GRPCInferenceServiceClient
}

// NewEngine returns the ml-engine at the address, with a connection to it.
func NewEngine(addr string, conn grpc.ClientConnInterface) Engine {
	return Engine{
		addr, mlenginev1.NewScoringServiceClient(conn), mlenginev1.NewModelRegistryServiceClient(conn), mlenginev1.NewDriftServiceClient(conn),
		inference.NewGRPCInferenceServiceClient(conn),
	}
}

// Executor is one executor.
type Executor struct {
	// Addr is its gRPC address, which names it.
	Addr      string
	Decisions executorv1.DecisionServiceClient
	Shadows   executorv1.ShadowServiceClient
	Rollouts  executorv1.RolloutServiceClient
}

// NewExecutor returns the executor at the address, with a connection to it.
func NewExecutor(addr string, conn grpc.ClientConnInterface) Executor {
	return Executor{
		addr, executorv1.NewDecisionServiceClient(conn), executorv1.NewShadowServiceClient(conn), executorv1.NewRolloutServiceClient(conn),
	}
}

// Services are connections to engines and executors. Close them after use.
type Services struct {
	Engines   []Engine
	Executors []Executor
	// Recorded, which may be nil, returns the executors whose records count, including those that are gone.
	Recorded func(context.Context) ([]Executor, error)

	conns []*grpc.ClientConn
}

// Options name the services and how to reach them.
type Options struct {
	Access

	// Engines and Executors are gRPC addresses, one per replica. Either may be empty.
	Engines, Executors []string
}

// Dial connects in the background. Calls to a service that cannot be reached fail. Dial returns an error if an address is
// invalid, or is given twice, because that service would count twice.
func Dial(o Options) (*Services, error) {
	dial, err := o.Dialer()
	if err != nil {
		return nil, err
	}
	return Connect(dial, o.Engines, o.Executors)
}

// Connect is [Dial] with an existing dialer.
func Connect(dial Dialer, engines, executors []string) (_ *Services, err error) {
	if err := errors.Join(distinct("ml-engine", engines), distinct("executor", executors)); err != nil {
		return nil, err
	}
	s := &Services{}
	connect := func(addr string) (*grpc.ClientConn, error) {
		conn, err := dial(addr)
		if err == nil {
			s.conns = append(s.conns, conn)
		}
		return conn, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	for _, addr := range engines {
		conn, err := connect(addr)
		if err != nil {
			return nil, fmt.Errorf("ml-engine: %w", err)
		}
		s.Engines = append(s.Engines, NewEngine(addr, conn))
	}
	for _, addr := range executors {
		conn, err := connect(addr)
		if err != nil {
			return nil, fmt.Errorf("executor: %w", err)
		}
		s.Executors = append(s.Executors, NewExecutor(addr, conn))
	}
	return s, nil
}

func distinct(what string, addrs []string) error {
	for i, addr := range addrs {
		switch {
		case strings.TrimSpace(addr) == "":
			return fmt.Errorf("%s: an address is empty", what)
		case slices.Contains(addrs[:i], addr):
			return fmt.Errorf("%s: %s is named twice", what, addr)
		}
	}
	return nil
}

// Close closes the connections.
func (s *Services) Close() error {
	var errs []error
	for _, conn := range s.conns {
		errs = append(errs, conn.Close())
	}
	return errors.Join(errs...)
}

// Recorders returns the executors whose records count.
func (s *Services) Recorders(ctx context.Context) ([]Executor, error) {
	if s.Recorded == nil {
		return s.Executors, nil
	}
	return s.Recorded(ctx)
}

// Mode returns the short name of a mode, for example "OBSERVE_ONLY".
func Mode(m executorv1.RolloutMode) string { return strings.TrimPrefix(m.String(), "ROLLOUT_MODE_") }

// Breaker returns the short name of a state, for example "CLOSED".
func Breaker(s executorv1.BreakerState) string {
	return strings.TrimPrefix(s.String(), "BREAKER_STATE_")
}

// Plain returns the error of a call for people: its code and message, without gRPC's format and without wrapping.
// status.Code still finds the code.
func Plain(err error) error {
	var call interface{ GRPCStatus() *status.Status }
	if !errors.As(err, &call) {
		return err
	}
	return &failure{call.GRPCStatus(), Hint(err)}
}
