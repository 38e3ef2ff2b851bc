package faults

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/greenlight-ml/greenlight/services/greenlight/internal/process"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/netfault"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/relay"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/rig"
)

// StageOptions configure a stage.
type StageOptions struct {
	process.Services

	// Dir holds a folder for each process.
	Dir string
	// States are the requests. They must fit Artifact, whose schema has the inputs of its baseline.
	States []traffic.State
	// Gated sets a gate on the executor with a shadow: its model decides.
	Gated bool
	// Flags are additional flags of the executors.
	Flags []string
}

// Stage is ml-engine and the proxy in front of it.
type Stage struct {
	rig.Rig

	opts   StageOptions
	Engine *Engine
	Proxy  *netfault.Proxy
	relay  *relay.Relay // for faults that need one
	// alone is the slowest answer of the baseline alone in a slice.
	alone time.Duration
	// untidy, if set, is the pending clean-up of the last fault, to be done before the next fault.
	untidy func(context.Context) error
}

// NewStage starts both. If it returns an error, nothing is left running.
func NewStage(ctx context.Context, opts StageOptions) (s *Stage, err error) {
	if opts.Artifact == nil || len(opts.States) == 0 {
		return nil, errors.New("faults: a model and states are required")
	}
	s = &Stage{Rig: rig.Rig{Services: opts.Services, Dir: opts.Dir}, opts: opts}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	s.Engine = &Engine{stage: s}
	if err := s.Engine.Start(ctx); err != nil {
		return s, err
	}
	if s.Proxy, err = netfault.NewProxy(s.Engine.Addr("grpc")); err != nil {
		return s, err
	}
	s.OnClose(s.Proxy.Close)
	return s, nil
}

// Engine is an ml-engine that keeps its addresses across restarts. Kill and Signal act on its process.
type Engine struct {
	*process.Process

	stage *Stage
}

// Start starts it, also after a Kill.
func (e *Engine) Start(ctx context.Context) (err error) {
	var at process.Listen
	if e.Process != nil {
		at = process.Listen{GRPC: e.Addr("grpc"), HTTP: e.Addr("http")}
	}
	p, err := e.stage.StartEngine(ctx, "engine", at, "--insecure-control")
	if err == nil {
		e.Process = p
	}
	return err
}

// Freeze suspends it with SIGSTOP: its connections stay open, but nothing is answered. Thaw resumes it.
func (e *Engine) Freeze() error { return e.Signal(syscall.SIGSTOP) }

// Thaw ends Freeze.
func (e *Engine) Thaw() error { return e.Signal(syscall.SIGCONT) }

// ExecutorOptions configure an executor.
type ExecutorOptions struct {
	// Name is the name of its folder.
	Name string
	// Engine is its --engine-addr; the proxy if empty.
	Engine string
	// Listen holds the addresses to listen on.
	Listen process.Listen
	// Percent is the share of requests with a shadow, [0,100].
	Percent int
	// Gated lets its model decide.
	Gated bool
	// More are additional flags.
	More []string
}

// NewExecutor starts an executor and connects to it. The executor runs until its End, or until the stage ends.
func (s *Stage) NewExecutor(ctx context.Context, o ExecutorOptions) (*Executor, error) {
	flags := append([]string{"--sample-percent", fmt.Sprint(o.Percent), "--insecure-control"}, s.opts.Flags...)
	if o.Gated {
		flags = append(flags, "--allow-gated", "--state-dir", filepath.Join(s.Dir, o.Name, "state"))
	}
	p, err := s.StartExecutor(ctx, o.Name, cmp.Or(o.Engine, s.Proxy.Addr()), o.Listen, append(flags, o.More...)...)
	if err != nil {
		return nil, err
	}
	e, err := newExecutor(o.Name, p, s.opts)
	if err != nil {
		return nil, err
	}
	if o.Gated {
		e.guard = newGuard(s.opts)
	}
	e.End = sync.OnceValue(func() error { return errors.Join(s.Stop(p), e.conn.Close()) }) // calls in flight are answered first
	s.OnClose(e.End)
	return e, nil
}
