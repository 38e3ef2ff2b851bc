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

// Pair has the flags that name the services to call.
type Pair struct {
	Access

	Engines, Executors []string
	Timeout            time.Duration
	// Fleet is a group, instead of Executors.
	Fleet Fleet
}

const (
	// ControlTimeout is how long a service may take to answer a control call.
	ControlTimeout = 5 * time.Second
	// BrakeTimeout is how long a stop or a rollback waits for a service that does not answer. Healthy services answer within
	// milliseconds.
	BrakeTimeout = 2 * time.Second
)

// Declare declares the flags. engines and executors are the default addresses.
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

// declareAccess declares the flags for reaching the services and for the timeout.
func (p *Pair) declareAccess(fs *pflag.FlagSet, c console.Console, timeout time.Duration) {
	p.Access.Declare(fs, c)
	fs.DurationVar(&p.Timeout, "timeout", timeout, "how long the services may take to answer")
	console.Require(fs, "timeout", "more than 0", func() bool { return p.Timeout > 0 })
}

// DeclareFleet declares the flags of a group, which replace --executor. sign is for commands whose messages must be signed.
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

// Use connects to the services and calls fn with a context that ends after the timeout.
func (p *Pair) Use(ctx context.Context, fn func(context.Context, *fleet.Services) error) error {
	return p.Brake(ctx, fleetgroup.Brake{}, func(ctx context.Context, services *fleet.Services, _ *fleetgroup.Group) error {
		return fn(ctx, services)
	})
}

// Brake is [Pair.Use] for a command that stops a group. It sends the stop before it waits for the executors. fn also receives
// the group; nil without one.
func (p *Pair) Brake(ctx context.Context, brake fleetgroup.Brake, fn func(context.Context, *fleet.Services, *fleetgroup.Group) error) error {
	limit := p.Timeout
	if p.Fleet.Given() {
		limit += fleetgroup.Slack
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return p.Reach(ctx, brake, func(services *fleet.Services, g *fleetgroup.Group) error { return fn(ctx, services, g) })
}

// Reach is [Pair.Brake] without a timeout.
func (p *Pair) Reach(ctx context.Context, brake fleetgroup.Brake, fn func(*fleet.Services, *fleetgroup.Group) error) error {
	if err := p.Fleet.Check(); err != nil {
		return err
	}
	if p.Fleet.Given() {
		return fleetgroup.UseServices(ctx, p.Fleet.Address, p.Access.Access, p.Engines, brake, fn)
	}
	services, err := fleet.Dial(fleet.Options{Access: p.Access.Access, Engines: p.Engines, Executors: p.Executors})
	if err != nil {
		return console.Usage(err)
	}
	return errors.Join(fn(services, nil), services.Close())
}

// The addresses of a pair on this machine.
var (
	LocalEngine   = []string{"127.0.0.1:4010"}
	LocalExecutor = []string{"127.0.0.1:4020"}
)

// Engines has the flags that name the ml-engines to ask for their drift, and the window.
type Engines struct {
	Access

	Addrs   []string
	window  time.Duration
	Timeout time.Duration
}

const (
	week = 7 * 24 * time.Hour
	// driftTimeout is far more than the first answer takes: a few hundred milliseconds, because it computes the noise.
	driftTimeout = 10 * time.Second
)

// Declare declares the flags.
func (e *Engines) Declare(fs *pflag.FlagSet, c console.Console) {
	e.Access.Declare(fs, c)
	TargetsVar(fs, &e.Addrs, "engine", LocalEngine, "gRPC addresses of ml-engine, one per replica")
	fs.DurationVar(&e.window, "window", week, "length of the window that ends now: whole hours, at most 672h")
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

// Distinct returns an error if there is no address, or if one is repeated: that service would be counted twice.
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

// Dial connects to all replicas, calls use with them, and closes the connections.
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
