// Package rpc builds the gRPC servers and clients of the pair alike: interceptors, keepalive that the two ends agree on,
// limits, errors with reasons.
package rpc

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	grpcprom "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/recovery"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"
)

const (
	// MaxMessage is the largest message that a server receives unless its options have a smaller one, and the largest response
	// that a client does, in bytes; a larger one is RESOURCE_EXHAUSTED.
	MaxMessage = 4 << 20
	// SmallMessage is the largest message of a server that needs no large ones, in bytes: 1,000 quotes fit.
	SmallMessage = 64 << 10
	// window is how much a client may send of a call, and of a connection, before it is read. It is fixed: gRPC's own would grow
	// with the bandwidth, for each of the calls.
	window = 64 << 10
	// partialMessages bounds the memory of all messages that have arrived in part: 12 of MaxMessage, and what goes with them.
	// partialSmall does where messages are small: as many as there may be calls.
	partialMessages, partialSmall = 12*MaxMessage + 2<<20, maxCalls * SmallMessage
	// readBuffer is how much is read of a connection at once, in bytes, as each has such a buffer.
	readBuffer = 8 << 10
	// MaxRequestID bounds a request's request_id, in bytes.
	MaxRequestID = 256
	// MaxSymbol bounds a request's symbol, in bytes.
	MaxSymbol = 64
	// maxStreams is how many calls one connection may have under way; a client of gRPC has more wait for their turn. So many
	// are a quarter of what may be open, so that one connection cannot crowd out the others, and a small part of what the
	// buffers of the system hold: what waits there is neither answered nor refused in time. With 1,000 of each of eight
	// connections, a load of twice what can be answered had 9 % of the goodput left, with 256 it had 56 %, with 128 all of it:
	// see "overload" in the faults.
	maxStreams = 128
	// maxHeader is how large the headers of a call may be, in bytes as HTTP/2 counts them. gRPC's own limit is 16 MB.
	maxHeader = 16 << 10
	// handlers is how many goroutines are kept for calls; calls beyond so many at once get one of their own. A new
	// goroutine grows its stack three times on the way through a call, which is a sixth of the CPU time of a small one.
	handlers = 32

	// A client may ping this often, and does so at twice the interval, so that a dead peer is noticed while no call
	// is under way and the server never takes a ping for abuse.
	minPing      = 5 * time.Second
	pingInterval = 2 * minPing // the least that gRPC lets a client have
	pingTimeout  = 5 * time.Second
)

// ServerOptions configures a [Server].
type ServerOptions struct {
	// Logger is told of failed and slow calls. Required.
	Logger *slog.Logger
	// Registerer gets the grpc_server_* metrics. Required.
	Registerer prometheus.Registerer
	// Reflection lets people list and call the services without the contract at hand.
	Reflection bool
	// SlowCall is how long a call may take before it is logged. Default 100 ms.
	SlowCall time.Duration
	// Credentials secure the connections; without them they are in the clear.
	Credentials credentials.TransportCredentials
	// Control, if set, guards the control services among those of the server.
	Control *Control
	// Limiter, if set, bounds the calls of each client.
	Limiter *Limiter
	// Crowded names the service of which no more than 512 calls may be open. The others have 128 of their own: operators must
	// get through, and take no place of the crowded service.
	Crowded string
	// MaxMessage is the largest message that is received, in bytes, packed and unpacked. Default [MaxMessage].
	MaxMessage int
	// OnRefused, if set, is told of calls that gRPC itself refused before any handler saw them: RESOURCE_EXHAUSTED for a
	// message over MaxMessage, INTERNAL for bytes that are not the message.
	OnRefused func(method string, code codes.Code)
}

// Server is a gRPC server with health, metrics, recovery and logging in place.
type Server struct {
	*grpc.Server

	Health    *health.Server
	metrics   *grpcprom.ServerMetrics
	onRefused func(method string, code codes.Code)
	crowd     *crowd
	draining  chan struct{}
	drain     sync.Once // closes draining
}

// NewServer returns a server without services. Register them, then call [Server.Ready].
func NewServer(opts ServerOptions) *Server {
	if opts.SlowCall == 0 {
		opts.SlowCall = 100 * time.Millisecond
	}
	partial := int64(partialMessages)
	if opts.MaxMessage == 0 {
		opts.MaxMessage = MaxMessage
	}
	if opts.MaxMessage <= SmallMessage {
		partial = partialSmall
	}
	metrics := grpcprom.NewServerMetrics()
	opts.Registerer.MustRegister(metrics)
	panics := promauto.With(opts.Registerer).NewCounter(prometheus.CounterOpts{
		Name: "grpc_server_panics_recovered_total", Help: "Panics of handlers that were turned into INTERNAL.",
	})
	onPanic := recovery.WithRecoveryHandlerContext(func(_ context.Context, p any) error {
		panics.Inc()
		opts.Logger.Error("handler panicked", "panic", p, "stack", panicStack())
		return status.Error(codes.Internal, "internal error")
	})
	unary := []grpc.UnaryServerInterceptor{metrics.UnaryServerInterceptor(), logCalls(opts.Logger, opts.SlowCall)}
	c := newCrowd(opts.Crowded, opts.MaxMessage, opts.Registerer)
	s := &Server{Health: health.NewServer(), metrics: metrics, onRefused: opts.OnRefused, crowd: c, draining: make(chan struct{})}
	stream := []grpc.StreamServerInterceptor{metrics.StreamServerInterceptor(), s.endOnDrain}
	if opts.Limiter != nil {
		limit := limited{opts.Limiter, opts.Control}
		unary, stream = append(unary, limit.unary), append(stream, limit.stream)
	}
	if opts.Control != nil {
		unary, stream = append(unary, opts.Control.unary), append(stream, opts.Control.stream)
	}
	serverOpts := []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(append(unary, recovery.UnaryServerInterceptor(onPanic))...),
		grpc.ChainStreamInterceptor(append(stream, recovery.StreamServerInterceptor(onPanic))...),
		grpc.MaxHeaderListSize(maxHeader),
		grpc.MaxRecvMsgSize(opts.MaxMessage),
		grpc.StaticStreamWindowSize(window),
		grpc.StaticConnWindowSize(window),
		grpc.ReadBufferSize(readBuffer),
		grpc.Creds(newWire(partial, opts.Logger, opts.Registerer).credentials(opts.Credentials)),
		grpc.InTapHandle(c.tap),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.NumStreamWorkers(handlers),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minPing, PermitWithoutStream: true}),
		// There is no MaxConnectionAge: a client whose connection is taken away connects anew only with its next call, so the
		// first decision after a quiet hour would wait for a handshake. A peer that is gone is noticed by the pings.
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: pingInterval, Timeout: pingTimeout}),
		grpc.ConnectionTimeout(10 * time.Second),
	}
	s.Server = grpc.NewServer(serverOpts...)
	healthpb.RegisterHealthServer(s, s.Health)
	if opts.Reflection {
		reflection.Register(s)
	}
	return s
}

// Ready is called once all services are registered: it creates their metric series at zero and reports each of them,
// and the server as a whole, as serving.
func (s *Server) Ready() {
	s.metrics.InitializeMetrics(s.Server)
	s.Health.SetServingStatus("", healthpb.HealthCheckResponse_SERVING)
	for name := range s.GetServiceInfo() {
		s.Health.SetServingStatus(name, healthpb.HealthCheckResponse_SERVING)
	}
}

// Serve answers calls until the server is stopped, and returns nil then, also when it was stopped before it began.
func (s *Server) Serve(l net.Listener) error {
	if err := s.Server.Serve(identified(l)); !errors.Is(err, grpc.ErrServerStopped) {
		return err
	}
	return nil
}

// Busy reports whether there is no time, or no room, for anything but answers: so many calls of the crowded service wait to
// begin, or so many are open.
func (s *Server) Busy() bool {
	return s.crowd.waiting.Load() > busyCrowd || s.crowd.own.open.Load() > busyCalls
}

// Drain reports NOT_SERVING, refuses new calls and waits for those under way; when ctx ends first it cuts them off.
func (s *Server) Drain(ctx context.Context) error {
	s.Health.Shutdown()
	s.drain.Do(func() { close(s.draining) })
	// GracefulStop knows no deadline, so the timer that cuts it off must run before it is called.
	defer context.AfterFunc(ctx, s.Stop)()
	s.GracefulStop()
	return ctx.Err()
}

// logCalls logs failures that are the server's fault and calls that are slow. It is written here, and not taken from the
// middleware's logging package, because that one builds its fields for every call before it knows whether it will log.
func logCalls(logger *slog.Logger, slow time.Duration) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		start := time.Now()
		resp, err := handler(ctx, req)
		took := time.Since(start)
		if err == nil && took <= slow {
			return resp, nil
		}
		switch code := status.Code(err); code {
		case codes.Internal, codes.Unknown, codes.DataLoss, codes.Unavailable:
			logger.ErrorContext(ctx, "call failed", "method", info.FullMethod, "code", code.String(), "took", took, "error", err)
		default:
			if took > slow {
				logger.WarnContext(ctx, "call was slow", "method", info.FullMethod, "code", code.String(), "took", took)
			}
		}
		return resp, err
	}
}
