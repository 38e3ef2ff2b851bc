package serve

import (
	"errors"
	"flag"
	"fmt"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/certs"
	"github.com/greenlight-ml/greenlight/pkg/facade"
	"github.com/greenlight-ml/greenlight/pkg/rpc"
)

// Options are the flags that every service has.
type Options struct {
	// GRPCAddr and HTTPAddr are the listen addresses; port 0 takes a free one. GRPCAddr may be a Unix socket, "unix:path",
	// with the file mode GRPCSocketMode.
	GRPCAddr, HTTPAddr string
	GRPCSocketMode     SocketMode
	// HTTPHosts are host names of the HTTP address that clients use, in addition to localhost and IP addresses.
	HTTPHosts facade.Hosts
	// AddressFile, if set, receives the bound addresses.
	AddressFile string
	// Reflection lets clients explore the service, for example with grpcurl.
	Reflection bool
	// Profiles serves /debug/pprof/ on the HTTP address.
	Profiles bool
	// TLS secures both listeners.
	TLS certs.Server
	// Control configures who may call the control services.
	Control rpc.ControlOptions
	// Tracing configures the export of traces.
	Tracing Tracing
	// MaxRequestRate limits the calls, and the messages of Decide, per second of each client address; 0 is no limit.
	MaxRequestRate float64
	// MaxConnections limits the open connections of each listener; 0 is no limit.
	MaxConnections int
	// ShutdownGrace is how long open calls and other work may take to finish after a signal.
	ShutdownGrace time.Duration
}

// Declare declares the options as flags. grpcAddr and httpAddr are the default addresses, and control names the control
// services in the help.
func (o *Options) Declare(fs *flag.FlagSet, grpcAddr, httpAddr, control string) {
	o.GRPCSocketMode = DefaultSocketMode
	fs.StringVar(&o.GRPCAddr, "grpc-addr", grpcAddr, "`address` of the gRPC listener: host:port, or unix:path for a Unix socket")
	fs.Var(&o.GRPCSocketMode, "grpc-socket-mode", "octal file `mode` of a Unix socket; write permission allows connecting")
	fs.StringVar(&o.HTTPAddr, "http-addr", httpAddr, "`address` of the HTTP listener")
	fs.Var(&o.HTTPHosts, "http-host", "host `name` that clients use for the HTTP address, such as a Kubernetes service name; separate several with commas; a POST to any other name, except localhost and IP addresses, is refused, since a web page could have sent it")
	fs.StringVar(&o.AddressFile, "address-file", "", "`file` that receives the bound addresses, for use with port 0")
	fs.BoolVar(&o.Reflection, "reflection", true, "serve gRPC reflection")
	fs.BoolVar(&o.Profiles, "profiles", false, "serve CPU and memory profiles at /debug/pprof/ of the HTTP address, without authentication")
	o.TLS.Declare(fs)
	o.Control.Declare(fs, control)
	o.Tracing.Declare(fs)
	fs.Float64Var(&o.MaxRequestRate, "max-request-rate", 0, "`rate` of calls, and of messages of Decide, that each client address may start per second, over gRPC and HTTP together; 0 is no limit")
	fs.IntVar(&o.MaxConnections, "max-connections", rpc.DefaultMaxConnections, "connections that each listener may have open; more are refused; 0 is no limit")
	fs.DurationVar(&o.ShutdownGrace, "shutdown-grace", 10*time.Second, "how long open calls and other work may take to finish after a signal")
}

// Validate returns an error for values that are wrong on any machine.
func (o *Options) Validate() error {
	if err := o.TLS.Validate(); err != nil {
		return err
	}
	if err := checkListen(o.GRPCAddr, "--grpc-addr", true); err != nil {
		return err
	}
	if err := checkListen(o.HTTPAddr, "--http-addr", false); err != nil {
		return err
	}
	if err := o.Tracing.Validate(); err != nil {
		return err
	}
	switch {
	case o.MaxConnections < 0:
		return fmt.Errorf("--max-connections %d: want 0 or more", o.MaxConnections)
	case !(o.MaxRequestRate >= 0):
		return fmt.Errorf("--max-request-rate %v: want 0 or more", o.MaxRequestRate)
	case o.ShutdownGrace <= 0:
		return errors.New("--shutdown-grace must be positive")
	}
	return nil
}
