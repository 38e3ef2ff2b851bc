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
	// Models is the registry folder, Model the entry to serve: "name/version", or a version that only one name has.
	Models, Model string
	// RequireSignature is a file of public keys. Only models signed with one of them are served. Empty requires no signature.
	RequireSignature string
	// GRPCAddr and HTTPAddr are the listen addresses; port 0 takes a free one. GRPCAddr may be a Unix socket, "unix:path",
	// with the file mode GRPCSocketMode.
	GRPCAddr, HTTPAddr string
	GRPCSocketMode     lifecycle.SocketMode
	// HTTPHosts are host names of the HTTP address that clients use, in addition to localhost and IP addresses.
	HTTPHosts facade.Hosts
	// AddressFile, if set, receives the bound addresses.
	AddressFile string
	// Reflection lets people explore the service with grpcurl.
	Reflection bool
	// Profiles serves /debug/pprof/ on the HTTP address.
	Profiles bool
	// StateDir is the folder that keeps the active model, the previous one and the drift counts across restarts. Empty keeps
	// nothing. DriftClock selects the hour in which a row is counted: that of its arrival, or of its event.
	StateDir, DriftClock string
	// MaxEventAhead is how far the time of an event may be ahead of this machine's clock; 0 is no limit.
	MaxEventAhead time.Duration
	// TLS secures both listeners.
	TLS certs.Server
	// Control configures who may swap models.
	Control rpc.ControlOptions
	// MaxRequestRate limits the calls per second of each client address; 0 is no limit.
	MaxRequestRate float64
	// MaxConnections limits the open connections of each listener; 0 is no limit.
	MaxConnections int
	// ShutdownGrace is how long open calls may take to finish after a signal.
	ShutdownGrace time.Duration
}

// Flags declares the options as flags.
func Flags(fs *flag.FlagSet) *Options {
	o := &Options{GRPCSocketMode: lifecycle.DefaultSocketMode}
	fs.StringVar(&o.Models, "models", "models", "registry `folder`, laid out as <name>/<version>/")
	fs.StringVar(&o.Model, "model", "", "`model` to serve at the first start: name/version, or a version that only one name has (required); with --state-dir a later activation survives a restart")
	fs.StringVar(&o.RequireSignature, "require-signature", "", "`file` with public keys (PEM); only models signed with one of them are served")
	fs.StringVar(&o.GRPCAddr, "grpc-addr", "127.0.0.1:4010", "`address` of the gRPC listener: host:port, or unix:path for a Unix socket")
	fs.Var(&o.GRPCSocketMode, "grpc-socket-mode", "octal file `mode` of that socket; write permission allows connecting")
	fs.StringVar(&o.HTTPAddr, "http-addr", "127.0.0.1:4011", "`address` of the HTTP listener")
	fs.Var(&o.HTTPHosts, "http-host", "host `name` that clients use for the HTTP address, such as a Kubernetes service name; separate several with commas; a POST to any other name, except localhost and IP addresses, is refused, since a web page could have sent it")
	fs.StringVar(&o.AddressFile, "address-file", "", "`file` that receives the bound addresses, for use with port 0")
	fs.BoolVar(&o.Reflection, "reflection", true, "serve gRPC reflection")
	fs.BoolVar(&o.Profiles, "profiles", false, "serve CPU and memory profiles at /debug/pprof/ of the HTTP address, without authentication")
	o.TLS.Declare(fs)
	o.Control.Declare(fs, "ModelRegistryService")
	fs.Float64Var(&o.MaxRequestRate, "max-request-rate", 0, "calls per `second` that each client address may begin, over gRPC and HTTP together; 0 is no limit")
	fs.IntVar(&o.MaxConnections, "max-connections", rpc.DefaultMaxConnections, "connections that each listener may have open; more are refused; 0 is no limit")
	fs.StringVar(&o.StateDir, "state-dir", "", "`folder` that keeps the active model, the previous one and the drift counts across restarts; empty is off")
	fs.StringVar(&o.DriftClock, "drift-clock", arrivalClock, "`clock` by which drift is counted: arrival, or event (the time in the request) for a replay of past data")
	fs.DurationVar(&o.MaxEventAhead, "max-event-ahead", time.Minute, "with --drift-clock event, how far the time of an event may be ahead of this machine's clock; a time further ahead is ignored; 0 is no limit")
	fs.DurationVar(&o.ShutdownGrace, "shutdown-grace", 10*time.Second, "how long open calls may take to finish after a signal")
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
