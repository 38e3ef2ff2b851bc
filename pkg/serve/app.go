package serve

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"

	"github.com/greenlight-ml/greenlight/pkg/certs"
	"github.com/greenlight-ml/greenlight/pkg/facade"
	"github.com/greenlight-ml/greenlight/pkg/rpc"
	"github.com/greenlight-ml/greenlight/pkg/telemetry"
)

// Service describes what differs between services.
type Service struct {
	// Name is the name of the program in logs and metrics.
	Name string
	// Throttled has the full names of the gRPC services whose open calls are limited, see [rpc.ServerOptions]. Control has the
	// full names of the services that only operators may call.
	Throttled, Control []string
	// MaxMessage limits a received gRPC message, in bytes. Default [rpc.MaxMessage].
	MaxMessage int
	// OnRefused, if set, is called for gRPC calls that no handler sees, see [rpc.ServerOptions].
	OnRefused func(method string, code codes.Code)
}

// App is a service: it listens after New, and serves after Start.
type App struct {
	// Registry has the metrics, Server the gRPC services and Pages the HTTP pages. Add to them before Start.
	Registry *prometheus.Registry
	Server   *rpc.Server
	Pages    *http.ServeMux
	// Limiter limits the call rate of clients; nil is no limit. A service counts the messages of its streams itself.
	Limiter *rpc.Limiter
	// Tracer starts the spans of messages; nil if traces are off.
	Tracer *telemetry.Tracer
	// State describes the state of the service for /readyz. Set it before Start.
	State func() string

	opts       *Options
	logger     *slog.Logger
	grpc, http net.Listener
	web        *http.Server
	stack      Stack
	draining   []closer // close first
}

// New binds the listeners and builds the servers. Call Stop if the service fails before Start.
func New(ctx context.Context, opts *Options, service Service, logger *slog.Logger) (*App, error) {
	secured, err := opts.TLS.Open(logger)
	if err != nil {
		return nil, err
	}
	a := &App{Registry: telemetry.NewRegistry(service.Name), opts: opts, logger: logger}
	a.Keep(secured)
	if err := a.trace(ctx, service.Name); err != nil {
		return nil, errors.Join(err, a.Stop(ctx))
	}
	if err := a.listen(ctx, secured); err != nil {
		return nil, errors.Join(err, a.Stop(ctx))
	}
	a.Limiter = rpc.NewLimiter(opts.MaxRequestRate)
	a.Server = rpc.NewServer(rpc.ServerOptions{
		Logger: logger, Registerer: a.Registry, Reflection: opts.Reflection, Credentials: secured.ServerCredentials(), Limiter: a.Limiter,
		Throttled: service.Throttled, MaxMessage: service.MaxMessage, OnRefused: service.OnRefused,
		Tracer: a.Tracer, Control: rpc.NewControl(opts.Control, logger, service.Control...),
	})
	a.OnStop("gRPC server", func(context.Context) error { // in case it never serves
		a.Server.Stop()
		return nil
	})
	a.Pages = NewPages(a.Registry, func() string { return a.State() })
	if opts.Profiles {
		addProfiles(a.Pages)
	}
	a.web = NewHTTPServer(a.Limiter.LimitHTTP(facade.Guard(a.traced(a.Pages), opts.HTTPAddr, opts.HTTPHosts)), logger)
	secured.SecureHTTP(a.web)
	return a, nil
}

// listen binds both listeners, and checks the flags against their addresses.
func (a *App) listen(ctx context.Context, secured *certs.Store) (err error) {
	if a.grpc, err = a.stack.listenGRPC(ctx, a.opts.GRPCAddr, a.opts.GRPCSocketMode, "--grpc-addr"); err != nil {
		return err
	}
	if err := a.opts.Control.Validate(a.grpc.Addr(), secured.Mutual()); err != nil {
		return Usage(err)
	}
	if a.http, err = a.stack.Listen(ctx, a.opts.HTTPAddr, "--http-addr"); err != nil {
		return err
	}
	rpc.WarnExposed(a.logger, secured != nil, a.grpc.Addr(), a.http.Addr())
	a.grpc = rpc.LimitConnections(a.grpc, "grpc", a.opts.MaxConnections, a.logger, a.Registry)
	a.http = rpc.LimitConnections(a.http, "http", a.opts.MaxConnections, a.logger, a.Registry)
	return nil
}

// Addr returns the bound addresses, for clients to dial.
func (a *App) Addr() (grpc, http string) { return target(a.grpc.Addr()), target(a.http.Addr()) }

// Keep reloads the certificates until the service stops, and registers their metrics. A nil store does nothing.
func (a *App) Keep(store *certs.Store) {
	if store == nil {
		return
	}
	store.RegisterMetrics(a.Registry)
	a.stack.OnStop("certificates of "+store.End(), store.Stop)
	a.stack.Serve("certificates of "+store.End(), store.Run)
}

// OnStop registers the function that closes a part of the service. Parts close in reverse order, after the open calls have
// finished.
func (a *App) OnStop(name string, fn func(context.Context) error) { a.stack.OnStop(name, fn) }

// Go runs a function in the background until the service stops: see [Go].
func (a *App) Go(name string, run func(ctx context.Context)) {
	stop := Go(run)
	a.OnStop(name, func(context.Context) error {
		stop()
		return nil
	})
}

// OnDrain registers a function that ends long calls, such as streams, before the servers wait for the open ones.
func (a *App) OnDrain(name string, fn func(context.Context) error) {
	a.draining = append(a.draining, closer{name, fn})
}

// Start serves, and writes the address file. Stop must follow; see Wait.
func (a *App) Start(ctx context.Context) error {
	// Parts stop in reverse order: first end long calls and drain the others, then close what they use.
	a.stack.OnStop("http", Half(a.web.Shutdown))
	a.stack.OnStop("grpc", Half(a.Server.Drain))
	a.stack.closers = append(a.stack.closers, a.draining...)
	a.stack.Serve("grpc", func() error { return a.Server.Serve(a.grpc) })
	a.stack.Serve("http", func() error { return ServeHTTP(a.web, a.http) })
	a.Server.Ready()
	if err := WriteAddresses(a.opts.AddressFile, map[string]net.Addr{"grpc": a.grpc.Addr(), "http": a.http.Addr()}); err != nil {
		return err
	}
	a.stack.Start(ctx)
	return nil
}

// Wait waits until the context of Start ends or a listener fails, and then stops.
func (a *App) Wait(ctx context.Context) error {
	return a.stack.Wait(ctx, a.opts.ShutdownGrace, a.logger)
}

// Stop closes everything within the shutdown grace. A second call does nothing.
func (a *App) Stop(ctx context.Context) error { return a.stack.Stop(ctx, a.opts.ShutdownGrace) }
