package faults

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/process"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/bench"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/netfault"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/relay"
)

// StageOptions configure a stage.
type StageOptions struct {
	// Bin is the folder of the programs, Dir gets a folder per process, Models is a registry folder that has Artifact.
	Bin, Dir, Models string
	Artifact         *model.Artifact
	// States are the requests. They must fit Artifact, whose schema has the inputs of its baseline.
	States []traffic.State
	// Gated puts a gate on the executor with a shadow: its model decides.
	Gated bool
	// Flags are additional flags of the executors.
	Flags []string
}

func (o StageOptions) services() process.Services {
	return process.Services{Programs: o.Bin, Models: o.Models, Artifact: o.Artifact}
}

func (o StageOptions) validate() error {
	if o.Artifact == nil || len(o.States) == 0 {
		return errors.New("faults: a model and states are required")
	}
	if _, err := process.FindPrograms(o.Bin); err != nil {
		return fmt.Errorf("faults: %w", err)
	}
	return nil
}

// Stage is ml-engine and the proxy in front of it.
type Stage struct {
	opts    StageOptions
	Engine  *Engine
	Proxy   *netfault.Proxy
	relay   *relay.Relay // of faults that want one
	closers []func() error
	pastCPU time.Duration // CPU time of processes that have ended
	running []*Executor
	// alone is the slowest answer of the baseline alone in a slice.
	alone time.Duration
	// untidy, if set, is the clean-up of the last fault, to be done before the next.
	untidy func(context.Context) error
}

// NewStage starts both. If it returns an error, nothing is left running.
func NewStage(ctx context.Context, opts StageOptions) (s *Stage, err error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	s = &Stage{opts: opts}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	dir := filepath.Join(opts.Dir, "engine")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return s, err
	}
	s.Engine = &Engine{services: opts.services(), dir: dir}
	if err := s.Engine.Start(ctx); err != nil {
		return s, err
	}
	s.closers = append(s.closers, s.Engine.Stop)
	if s.Proxy, err = netfault.NewProxy(s.Engine.Addr()); err != nil {
		return s, err
	}
	s.closers = append(s.closers, s.Proxy.Close)
	return s, nil
}

// Close stops everything in reverse order.
func (s *Stage) Close() error {
	var errs []error
	for _, c := range slices.Backward(s.closers) {
		errs = append(errs, c())
	}
	s.closers = nil
	return errors.Join(errs...)
}

// Machine describes the machine and its other load.
func (s *Stage) Machine(w bench.Watch) bench.Machine {
	pids := []int{s.Engine.process.PID()}
	for _, e := range s.running {
		pids = append(pids, e.Process.PID())
	}
	return w.Machine(s.pastCPU+s.Engine.pastCPU, pids...)
}

// Engine is an ml-engine that keeps its addresses over a restart.
type Engine struct {
	services process.Services
	dir      string
	at       process.Listen // its addresses after the first start
	process  *process.Process
	frozen   bool
	pastCPU  time.Duration
}

// Addr returns its gRPC address.
func (e *Engine) Addr() string { return e.at.GRPC }

// Start starts it; also after a Kill.
func (e *Engine) Start(ctx context.Context) error {
	p, err := e.services.Engine(ctx, e.dir, e.at, "--insecure-control")
	if err != nil {
		return err
	}
	e.process, e.at = p, process.Listen{GRPC: p.Addr("grpc"), HTTP: p.Addr("http")}
	return nil
}

// ended reports whether there is no process.
func (e *Engine) ended() bool { return e.process.Err() != nil }

// Kill kills it with SIGKILL. A second call does nothing.
func (e *Engine) Kill() error {
	if e.ended() {
		return nil
	}
	used, _ := bench.CPU(e.process.PID())
	e.pastCPU += used
	return e.process.Kill()
}

// Freeze suspends it with SIGSTOP: its connections stay open, and nothing is answered. Thaw resumes it.
func (e *Engine) Freeze() error {
	e.frozen = true
	return e.process.Signal(syscall.SIGSTOP)
}

// Thaw ends Freeze.
func (e *Engine) Thaw() error {
	e.frozen = false
	return e.process.Signal(syscall.SIGCONT)
}

// Stop stops it gracefully. It does nothing after a Kill.
func (e *Engine) Stop() error {
	if e.ended() {
		return nil
	}
	if e.frozen {
		if err := e.Thaw(); err != nil {
			return err
		}
	}
	return e.process.Stop(process.StopGrace)
}

// ExecutorOptions configure an executor.
type ExecutorOptions struct {
	// Name is the name of its folder.
	Name string
	// Engine is its --engine-addr; empty is the proxy.
	Engine string
	// Listen has the addresses to listen on.
	Listen process.Listen
	// Percent is the share of requests with a shadow, [0,100].
	Percent int
	// Gated lets its model decide.
	Gated bool
	// Flags are additional flags.
	More []string
}

// StartExecutor starts an executor and connects to it. The stage stops it, or StopExecutor before that.
func (s *Stage) StartExecutor(ctx context.Context, o ExecutorOptions) (*Executor, error) {
	if o.Engine == "" {
		o.Engine = s.Proxy.Addr()
	}
	dir := filepath.Join(s.opts.Dir, o.Name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	flags := append([]string{"--sample-percent", fmt.Sprint(o.Percent), "--insecure-control"}, s.opts.Flags...)
	if o.Gated {
		flags = append(flags, s.gateFlags(o.Name)...)
	}
	p, err := s.opts.services().Executor(ctx, dir, o.Engine, o.Listen, append(flags, o.More...)...)
	if err != nil {
		return nil, err
	}
	e, err := newExecutor(o.Name, p, s.opts)
	if err != nil {
		return nil, errors.Join(err, p.Stop(process.StopGrace))
	}
	if o.Gated {
		e.guard = newGuard(s.opts)
	}
	s.running = append(s.running, e)
	s.closers = append(s.closers, func() error { return s.StopExecutor(e) })
	return e, nil
}

// StopExecutor stops it. A second call does nothing.
func (s *Stage) StopExecutor(e *Executor) error {
	i := slices.Index(s.running, e)
	if i < 0 {
		return nil
	}
	s.running = slices.Delete(s.running, i, i+1)
	used, _ := bench.CPU(e.Process.PID())
	s.pastCPU += used
	return errors.Join(e.Process.Stop(process.StopGrace), e.conn.Close()) // calls in flight are answered first
}
