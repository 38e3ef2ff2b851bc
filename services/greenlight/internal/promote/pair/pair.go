// Package pair reaches the services that a model runs on: ml-engines, and the executors beside the trading processes.
package pair

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

// Engine is one ml-engine.
type Engine struct {
	// Addr is its gRPC address, by which it is named.
	Addr    string
	Scoring mlenginev1.ScoringServiceClient
	Models  mlenginev1.ModelRegistryServiceClient
	Drift   mlenginev1.DriftServiceClient
}

// Executor is one executor.
type Executor struct {
	// Addr is its gRPC address, by which it is named.
	Addr     string
	Shadows  executorv1.ShadowServiceClient
	Rollouts executorv1.RolloutServiceClient
}

// Pair is connections to engines and executors. Close it.
type Pair struct {
	Engines   []Engine
	Executors []Executor

	conns []*grpc.ClientConn
}

// Options say how to reach a pair.
type Options struct {
	Access

	// Engines and Executors are gRPC addresses, one per replica. Either may be empty.
	Engines, Executors []string
}

// Dial begins to connect, and does not wait for it: who cannot be reached fails the calls. It fails on an address that is
// none, and on one that is named twice, whose counts would count twice.
func Dial(o Options) (_ *Pair, err error) {
	if err := errors.Join(distinct("ml-engine", o.Engines), distinct("executor", o.Executors)); err != nil {
		return nil, err
	}
	dial, err := o.Dialer()
	if err != nil {
		return nil, err
	}
	p := &Pair{}
	connect := func(addr string) (*grpc.ClientConn, error) {
		conn, err := dial(addr)
		if err == nil {
			p.conns = append(p.conns, conn)
		}
		return conn, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Close())
		}
	}()
	for _, addr := range o.Engines {
		conn, err := connect(addr)
		if err != nil {
			return nil, fmt.Errorf("ml-engine: %w", err)
		}
		p.Engines = append(p.Engines, Engine{
			addr, mlenginev1.NewScoringServiceClient(conn), mlenginev1.NewModelRegistryServiceClient(conn), mlenginev1.NewDriftServiceClient(conn),
		})
	}
	for _, addr := range o.Executors {
		conn, err := connect(addr)
		if err != nil {
			return nil, fmt.Errorf("executor: %w", err)
		}
		p.Executors = append(p.Executors, Executor{
			addr, executorv1.NewShadowServiceClient(conn), executorv1.NewRolloutServiceClient(conn),
		})
	}
	return p, nil
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
func (p *Pair) Close() error {
	var errs []error
	for _, conn := range p.conns {
		errs = append(errs, conn.Close())
	}
	return errors.Join(errs...)
}

// Mode is the mode's word, for example "OBSERVE_ONLY".
func Mode(m executorv1.RolloutMode) string { return strings.TrimPrefix(m.String(), "ROLLOUT_MODE_") }

// Plain is the error of a call for people: the code and what was said, without the form that gRPC gives it and without what
// was wrapped around it. It is still the status that it was.
func Plain(err error) error {
	var call interface{ GRPCStatus() *status.Status }
	if !errors.As(err, &call) {
		return err
	}
	return &failure{call.GRPCStatus(), Hint(err)}
}
