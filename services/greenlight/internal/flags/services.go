package flags

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/spf13/pflag"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/driftfleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleetgroup"
)

// Pair says which services to talk to.
type Pair struct {
	Access

	Engines, Executors []string
	Timeout            time.Duration
	// Fleet is a group, in place of Executors.
	Fleet Fleet
}

// ControlTimeout is how long a service may take to answer a control call.
const ControlTimeout = 5 * time.Second

// Declare declares the flags with the addresses of a pair on this machine, or none.
func (p *Pair) Declare(fs *pflag.FlagSet, c console.Console, engines, executors []string, timeout time.Duration) {
	TargetsVar(fs, &p.Engines, "engine", engines, "gRPC addresses of ml-engine, one per replica")
	TargetsVar(fs, &p.Executors, "executor", executors, "gRPC addresses of executor, one per replica")
	p.declareAccess(fs, c, timeout)
}

// DeclareEngines declares the flags of a command that only calls ml-engines.
func (p *Pair) DeclareEngines(fs *pflag.FlagSet, c console.Console, timeout time.Duration) {
	TargetsVar(fs, &p.Engines, "engine", LocalEngine, "gRPC addresses of ml-engine, one per replica")
	p.declareAccess(fs, c, timeout)
}

// DeclareExecutors declares the flags of a command that only calls executors.
func (p *Pair) DeclareExecutors(fs *pflag.FlagSet, c console.Console, timeout time.Duration) {
	TargetsVar(fs, &p.Executors, "executor", LocalExecutor, "gRPC addresses of executor, one per replica")
	p.declareAccess(fs, c, timeout)
}

// declareAccess declares how the services are reached, and how long they may take.
func (p *Pair) declareAccess(fs *pflag.FlagSet, c console.Console, timeout time.Duration) {
	p.Access.Declare(fs, c)
	fs.DurationVar(&p.Timeout, "timeout", timeout, "how long the services may take to answer")
	console.Require(fs, "timeout", "more than 0", func() bool { return p.Timeout > 0 })
}

// DeclareFleet declares the flags of a group in place of --executor. sign is for commands whose messages must be signed.
func (p *Pair) DeclareFleet(fs *pflag.FlagSet, sign bool) {
	p.Fleet.Declare(fs)
	if sign {
		p.DeclareKey(fs)
	}
}

// CheckExecutors returns an error unless the flags name executors, each once, or a group.
func (p *Pair) CheckExecutors() error {
	if p.Fleet.Given() {
		return p.Fleet.Check()
	}
	return Distinct("executor", p.Executors)
}

// Use connects to the services, and hands them to fn with the time that they have.
func (p *Pair) Use(ctx context.Context, fn func(context.Context, *fleet.Services) error) error {
	return p.Brake(ctx, fleetgroup.Brake{}, fn)
}

// Brake is [Pair.Use] for a command that stops a group: it does so before it waits for the executors.
func (p *Pair) Brake(ctx context.Context, brake fleetgroup.Brake, fn func(context.Context, *fleet.Services) error) error {
	if err := p.Fleet.Check(); err != nil {
		return err
	}
	if p.Fleet.Given() {
		ctx, cancel := context.WithTimeout(ctx, p.Timeout+fleetgroup.Slack)
		defer cancel()
		return fleetgroup.UseServices(ctx, p.Fleet.Address, p.Access.Access, p.Engines, brake, func(services *fleet.Services, _ *fleetgroup.Group) error {
			return fn(ctx, services)
		})
	}
	services, err := fleet.Dial(fleet.Options{Access: p.Access.Access, Engines: p.Engines, Executors: p.Executors})
	if err != nil {
		return console.Usage(err)
	}
	ctx, cancel := context.WithTimeout(ctx, p.Timeout)
	defer cancel()
	return errors.Join(fn(ctx, services), services.Close())
}

// The addresses of a pair on this machine.
var (
	LocalEngine   = []string{"127.0.0.1:4010"}
	LocalExecutor = []string{"127.0.0.1:4020"}
)

// Engines say which ml-engines to ask for their drift, and over how long.
type Engines struct {
	Access

	Addrs   []string
	window  time.Duration
	Timeout time.Duration
}

const (
	week = 7 * 24 * time.Hour
	// driftTimeout is far more than the first answer takes, which draws the noise: some hundred milliseconds.
	driftTimeout = 10 * time.Second
)

// Declare declares the flags.
func (e *Engines) Declare(fs *pflag.FlagSet, c console.Console) {
	e.Access.Declare(fs, c)
	TargetsVar(fs, &e.Addrs, "engine", LocalEngine, "gRPC addresses of ml-engine, one per replica")
	fs.DurationVar(&e.window, "window", week, "length of the window back from now: whole hours, at most 672h")
	fs.DurationVar(&e.Timeout, "timeout", driftTimeout, "how long the answers may take")
	console.Require(fs, "timeout", "more than 0", func() bool { return e.Timeout > 0 })
}

// Validate checks the values.
func (e *Engines) Validate() error {
	if e.window%time.Hour != 0 || e.window < time.Hour || e.window > drift.RingHours*time.Hour {
		return console.Usagef("--window %v: want whole hours from 1 to %d", e.window, drift.RingHours)
	}
	return Distinct("engine", e.Addrs)
}

// Distinct returns an error if there is no address, or if one is repeated: its service would be counted twice.
func Distinct(flag string, addrs []string) error {
	if len(addrs) == 0 {
		return console.Usagef("--%s: no address", flag)
	}
	for i, addr := range addrs {
		if slices.Contains(addrs[:i], addr) {
			return console.Usagef("--%s: %s is given twice, and would be counted twice", flag, addr)
		}
	}
	return nil
}

// Dial connects to all replicas, hands them to use, and closes the connections.
func (e *Engines) Dial(use func([]fleet.Engine) error) error {
	if err := e.Open(); err != nil {
		return err
	}
	services, err := fleet.Connect(e.Connect, e.Addrs, nil)
	if err != nil {
		return console.Usage(err)
	}
	return errors.Join(use(services.Engines), services.Close())
}

// Read asks the replicas within the timeout.
func (e *Engines) Read(ctx context.Context, replicas []fleet.Engine, history bool) (*driftfleet.Report, error) {
	ctx, cancel := context.WithTimeout(ctx, e.Timeout)
	defer cancel()
	return driftfleet.Read(ctx, replicas, e.Hours(), history)
}

// Hours returns the window in hours.
func (e *Engines) Hours() int { return int(e.window / time.Hour) }
