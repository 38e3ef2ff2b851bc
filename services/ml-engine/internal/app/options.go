package app

import (
	"errors"
	"flag"
	"fmt"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/certs"
	"github.com/greenlight-ml/greenlight/pkg/facade"
	"github.com/greenlight-ml/greenlight/pkg/lifecycle"
	"github.com/greenlight-ml/greenlight/pkg/rpc"
)

// Options configures ml-engine.
type Options struct {
	// Models is the registry folder, Model the entry to serve: "name/version" or a version that one name alone has.
	Models, Model string
	// RequireSignature is a file of public keys: a model that none of them has signed is not served. Empty requires none.
	RequireSignature string
	// GRPCAddr and HTTPAddr are where to listen; port 0 takes a free one. GRPCAddr may be a Unix socket, "unix:path", and
	// GRPCSocketMode says who may connect to it.
	GRPCAddr, HTTPAddr string
	GRPCSocketMode     lifecycle.SocketMode
	// HTTPHosts are names by which clients reach the HTTP address, besides localhost and addresses of IP.
	HTTPHosts facade.Hosts
	// AddressFile, if set, gets the addresses that were bound.
	AddressFile string
	// Reflection lets people explore the service with grpcurl.
	Reflection bool
	// Profiles serves /debug/pprof/ beside the other pages.
	Profiles bool
	// StateDir is the folder where the active model, the one before and the counts of drift outlive a restart; empty is
	// none. DriftClock says what hour a vector is counted in: that of its arrival, or of its event.
	StateDir, DriftClock string
	// MaxEventAhead is by how much the time of an event may be ahead of this machine's clock; 0 is no limit.
	MaxEventAhead time.Duration
	// TLS secures both listeners.
	TLS certs.Server
	// Control says who may swap models.
	Control rpc.ControlOptions
	// MaxRequestRate is how many calls a second each client address may begin; 0 is no limit.
	MaxRequestRate float64
	// MaxConnections is how many connections each listener may have open; 0 is no limit.
	MaxConnections int
	// ShutdownGrace is how long calls under way may take to finish after a signal.
	ShutdownGrace time.Duration
}

// Flags declares the options as flags.
func Flags(fs *flag.FlagSet) *Options {
	o := &Options{GRPCSocketMode: lifecycle.DefaultSocketMode}
	fs.StringVar(&o.Models, "models", "models", "registry `folder`, laid out as <name>/<version>/")
	fs.StringVar(&o.Model, "model", "", "`model` to serve at the first start: name/version, or a version that one name alone has (required); an activation in --state-dir outlives a restart")
	fs.StringVar(&o.RequireSignature, "require-signature", "", "`file` with public keys, PEM: a model whose manifest none of them has signed is not served")
	fs.StringVar(&o.GRPCAddr, "grpc-addr", "127.0.0.1:4010", "`address` of the gRPC listener: host:port, or unix:path for a Unix socket")
	fs.Var(&o.GRPCSocketMode, "grpc-socket-mode", "`mode` of that socket's file, octal: who may write to it may connect")
	fs.StringVar(&o.HTTPAddr, "http-addr", "127.0.0.1:4011", "`address` of the HTTP listener")
	fs.Var(&o.HTTPHosts, "http-host", "`name` by which clients reach the HTTP address, such as that of a Kubernetes service; several by commas; a POST to any name but these, localhost and IP addresses is refused, since a web page may have sent it")
	fs.StringVar(&o.AddressFile, "address-file", "", "`file` that gets the bound addresses, for whoever asked for port 0")
	fs.BoolVar(&o.Reflection, "reflection", true, "serve gRPC reflection")
	fs.BoolVar(&o.Profiles, "profiles", false, "serve CPU and memory profiles at /debug/pprof/ of the HTTP address, to whoever reaches it")
	o.TLS.Declare(fs)
	o.Control.Declare(fs, "ModelRegistryService")
	fs.Float64Var(&o.MaxRequestRate, "max-request-rate", 0, "calls a `second` that each client address may begin, over gRPC and HTTP; 0 is no limit")
	fs.IntVar(&o.MaxConnections, "max-connections", rpc.DefaultMaxConnections, "connections that each listener may have open; more are refused; 0 is no limit")
	fs.StringVar(&o.StateDir, "state-dir", "", "`folder` where the active model, the one before and the counts of drift outlive a restart; none when empty")
	fs.StringVar(&o.DriftClock, "drift-clock", arrivalClock, "`clock` by which drift is counted: arrival, or event (the time in the request) for a replay of past data")
	fs.DurationVar(&o.MaxEventAhead, "max-event-ahead", time.Minute, "with --drift-clock event, by how much the time of an event may be ahead of this machine's clock; one further ahead is ignored; 0 is no limit")
	fs.DurationVar(&o.ShutdownGrace, "shutdown-grace", 10*time.Second, "how long calls under way may take to finish after a signal")
	return o
}

// The clocks of --drift-clock.
const (
	arrivalClock = "arrival"
	eventClock   = "event"
)

func (o *Options) validate() error {
	if o.DriftClock != arrivalClock && o.DriftClock != eventClock {
		return fmt.Errorf("--drift-clock %q: want %s or %s", o.DriftClock, arrivalClock, eventClock)
	}
	if o.MaxEventAhead < 0 {
		return fmt.Errorf("--max-event-ahead %v: want 0 or more", o.MaxEventAhead)
	}
	if o.Model == "" {
		return errors.New("no model: give --model (greenlight train makes one)")
	}
	if err := o.TLS.Validate(); err != nil {
		return err
	}
	if err := lifecycle.CheckListen(o.GRPCAddr, "--grpc-addr", true); err != nil {
		return err
	}
	if err := lifecycle.CheckListen(o.HTTPAddr, "--http-addr", false); err != nil {
		return err
	}
	if err := rpc.ValidateMaxConnections(o.MaxConnections); err != nil {
		return err
	}
	if !(o.MaxRequestRate >= 0) {
		return fmt.Errorf("--max-request-rate %v: want 0 or more", o.MaxRequestRate)
	}
	if o.ShutdownGrace <= 0 {
		return errors.New("--shutdown-grace must be positive")
	}
	return nil
}
