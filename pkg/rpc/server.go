// Package rpc builds the gRPC servers and clients of both services: interceptors, matching keepalive, limits, and errors
// with reasons.
package rpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	grpcprom "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/recovery"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/grpclog"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"

	"github.com/greenlight-ml/greenlight/pkg/telemetry"
)

const (
	// MaxMessage is the default limit of a message that a server or a client receives, in bytes. A larger one gets
	// RESOURCE_EXHAUSTED.
	MaxMessage = 4 << 20
	// SmallMessage is the limit of a server that needs no large messages, in bytes: 1,000 quotes fit.
	SmallMessage = 64 << 10
	// window is the flow-control window of a call and of a connection, in bytes. It is fixed, since gRPC's default grows
	// with the bandwidth for every call.
	window = 64 << 10
	// partialMessages bounds the memory of all partially received messages: 12 of MaxMessage, plus overhead. partialSmall
	// applies where messages are small: one for every possible call.
	partialMessages, partialSmall = 12*MaxMessage + 2<<20, maxCalls * SmallMessage
	// readBuffer is the read buffer of each connection, in bytes.
	readBuffer = 8 << 10
	// maxStreams limits the open calls of one connection; a gRPC client queues the rest. It is a quarter of maxCalls, so that
	// one connection cannot lock out the others. Calls that wait in system buffers are neither answered nor refused in time,
	// so the limit is low. With eight connections at twice the capacity, goodput was 9 % with a limit of 1,000, 56 % with
	// 256, and 100 % with 128: see "overload" in the faults.
	maxStreams = 128
	// maxHeader limits the headers of a call, in bytes as HTTP/2 counts them. gRPC's default is 16 MB.
	maxHeader = 16 << 10
	// handlers is the number of reused goroutines for calls; more concurrent calls get new ones. A new goroutine grows its
	// stack three times during a call, which is a sixth of the CPU time of a small call.
	handlers = 32

	// slowCall is how long a call may take before it is logged.
	slowCall = 100 * time.Millisecond
	// unreadGrace is how long clients have to read the last answers of a server that stops.
	unreadGrace = time.Second

	// minPing is how often a client may ping. Clients ping at twice that interval, so that a dead peer is noticed without
	// calls and the server never mistakes pings for abuse.
	minPing      = 5 * time.Second
	pingInterval = 2 * minPing // the minimum that gRPC allows a client
	pingTimeout  = 5 * time.Second
)

// Settings of the gRPC library that are global to the process and must be made before it is used.

// init turns off gRPC's own log. Peers can cause its lines at any rate, and they would go to standard error between ours.
// The logger can be set only before gRPC is used.
func init() { //nolint:gochecknoinits // gRPC has no other safe moment to set its logger
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard))
}

// bufferSizes are the sizes of gRPC's message buffers, as powers of two. The default has no size between 32 kB and 1 MB, and
// each use clears the whole buffer. So a batch of 1,024 rows (57 kB) would clear 1 MB: see "ml-engine BatchPredict" in the
// benchmark.
var bufferSizes = []uint8{8, 10, 12, 14, 15, 16, 17, 18, 19, 20, 22}

// The codec uses no other pool than the default, which must be set before anything else.
func init() { //nolint:gochecknoinits // gRPC documents that it must be set in init
	pool, err := mem.NewBinaryTieredBufferPool(bufferSizes...)
	if err != nil {
		panic(fmt.Sprintf("rpc: buffers of %v: %v", bufferSizes, err))
	}
	experimental.SetDefaultBufferPool(pool)
}

// ServerOptions configures a [Server].
type ServerOptions struct {
	// Logger receives failed and slow calls. Required.
	Logger *slog.Logger
	// Registerer receives the grpc_server_* metrics. Required.
	Registerer prometheus.Registerer
	// Reflection lets clients list and call the services without the proto files.
	Reflection bool
	// Credentials secure the connections. Without them connections are not encrypted.
	Credentials credentials.TransportCredentials
	// Control, if set, guards the control services of the server.
	Control *Control
	// Limiter, if set, limits the call rate of each client.
	Limiter *Limiter
	// Throttled are the services that share a limit of 512 open calls. The other services have a separate limit of 128, so that
	// operators get through and take no slot of the throttled ones.
	Throttled []string
	// MaxMessage limits a received message, in bytes, both compressed and uncompressed. Default [MaxMessage].
	MaxMessage int
	// Tracer, if set, starts a span for each unary call.
	Tracer *telemetry.Tracer
	// OnRefused, if set, is called for calls that gRPC refused before any handler saw them: RESOURCE_EXHAUSTED for a message
	// over MaxMessage, INTERNAL for bytes that do not decode.
	OnRefused func(method string, code codes.Code)
}

// Server is a gRPC server with health, metrics, panic recovery and logging.
type Server struct {
	*grpc.Server

	Health    *health.Server
	metrics   *grpcprom.ServerMetrics
	onRefused func(method string, code codes.Code)
	admission *admission
	control   *Control
	draining  chan struct{}
	drain     sync.Once // closes draining
}

// NewServer returns a server without services. Register them, then call [Server.Ready].
func NewServer(opts ServerOptions) *Server {
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
		Name: "grpc_server_panics_recovered_total", Help: "Panics in handlers, which were answered with INTERNAL.",
	})
	onPanic := recovery.WithRecoveryHandlerContext(func(_ context.Context, p any) error {
		panics.Inc()
		opts.Logger.Error("handler panicked", "panic", p, "stack", panicStack())
		return status.Error(codes.Internal, "internal error")
	})
	unary := []grpc.UnaryServerInterceptor{metrics.UnaryServerInterceptor(), logCalls(opts.Logger)}
	if opts.Tracer != nil {
		unary = append([]grpc.UnaryServerInterceptor{traceCalls(opts.Tracer)}, unary...)
	}
	c := newAdmission(opts.Throttled, opts.MaxMessage, opts.Registerer)
	s := &Server{Health: health.NewServer(), metrics: metrics, onRefused: opts.OnRefused, admission: c, control: opts.Control, draining: make(chan struct{})}
	stream := []grpc.StreamServerInterceptor{countStreams(metrics), s.endOnDrain}
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
		// There is no MaxConnectionAge: a client reconnects only with its next call, so the first decision after a quiet hour
		// would wait for a handshake. Pings detect a dead peer.
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

// Ready must be called once all services are registered. It creates their metric series at zero, and reports each service
// and the server as serving.
func (s *Server) Ready() {
	s.metrics.InitializeMetrics(s.Server)
	s.Health.SetServingStatus("", healthpb.HealthCheckResponse_SERVING)
	for name := range s.GetServiceInfo() {
		s.Health.SetServingStatus(name, healthpb.HealthCheckResponse_SERVING)
	}
}

// Serve answers calls until the server is stopped. It returns nil then, even if the server was stopped before it began.
func (s *Server) Serve(l net.Listener) error {
	if err := s.Server.Serve(identified(l)); !errors.Is(err, grpc.ErrServerStopped) {
		return err
	}
	return nil
}

// Drain reports NOT_SERVING, refuses new calls and waits for open ones. When ctx ends first, it cancels them. Clients have
// a second to read the last answers: without that limit, one that does not read would use up the whole grace period of a
// stop.
func (s *Server) Drain(ctx context.Context) error {
	s.Health.Shutdown()
	s.drain.Do(func() { close(s.draining) })
	// GracefulStop takes no deadline, so the function that cancels it must be registered first.
	defer context.AfterFunc(ctx, s.Stop)()
	drained := make(chan struct{})
	var unread sync.WaitGroup
	unread.Go(func() { s.dropUnread(drained) })
	s.GracefulStop()
	close(drained)
	unread.Wait()
	return ctx.Err()
}

// dropUnread stops the server once no call has been open for unreadGrace, even if clients have not read their answers. It
// returns when the server is drained.
func (s *Server) dropUnread(drained <-chan struct{}) {
	const ticks = 10
	tick := time.NewTicker(unreadGrace / ticks)
	defer tick.Stop()
	for idle := 0; idle < ticks; idle++ {
		select {
		case <-drained:
			return
		case <-tick.C:
			if s.admission.open() > 0 {
				idle = 0
			}
		}
	}
	s.Stop()
}

// logCalls logs failures on the server's side and slow calls. The middleware's logging package is not used, since it builds
// the log fields of every call before it decides whether to log.
func logCalls(logger *slog.Logger) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		start := time.Now()
		resp, err := handler(ctx, req)
		took := time.Since(start)
		if err == nil && took <= slowCall {
			return resp, nil
		}
		switch code := status.Code(err); code {
		case codes.Internal, codes.Unknown, codes.DataLoss, codes.Unavailable:
			logger.ErrorContext(ctx, "call failed", "method", info.FullMethod, "code", code.String(), "took", took, "error", err)
		default:
			if took > slowCall {
				logger.WarnContext(ctx, "call was slow", "method", info.FullMethod, "code", code.String(), "took", took)
			}
		}
		return resp, err
	}
}

// traceCalls starts a span for each call, except to gRPC's own services. Streams are not traced: they may be open for hours,
// and the services trace their messages.
func traceCalls(t *telemetry.Tracer) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
		if strings.HasPrefix(info.FullMethod, "/grpc.") {
			return handler(ctx, req)
		}
		parent := ""
		if sent := metadata.ValueFromIncomingContext(ctx, telemetry.TraceHeader); len(sent) == 1 {
			parent = sent[0]
		}
		ctx, span := t.Serve(ctx, info.FullMethod[1:], parent)
		if span != nil {
			defer func() { telemetry.EndSpan(span, err) }()
		}
		return handler(ctx, req)
	}
}

// countStreams counts streams, and the messages of those that send in one direction only. Where each message has an answer,
// the service counts answers by code, and counting here too would take a map lookup for each.
func countStreams(metrics *grpcprom.ServerMetrics) grpc.StreamServerInterceptor {
	count := metrics.StreamServerInterceptor()
	return func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		return count(srv, ss, info, func(srv any, counted grpc.ServerStream) error {
			if info.IsClientStream && info.IsServerStream {
				counted = ss
			}
			return handler(srv, counted)
		})
	}
}

// endOnDrain ends the streams of gRPC's own services, health and reflection, when the server drains. Their clients may keep
// them open forever, so a single health watcher would use up the whole grace period of a stop.
func (s *Server) endOnDrain(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if !strings.HasPrefix(info.FullMethod, "/grpc.") {
		return handler(srv, ss)
	}
	// The return of this function ends the stream's context, and with it the handler.
	done := make(chan error, 1)
	go func() { done <- handler(srv, ss) }()
	select {
	case err := <-done:
		return err
	case <-s.draining:
		return status.Error(codes.Unavailable, "the server is stopping: reconnect when it is back")
	}
}

// RegisterService implements grpc.ServiceRegistrar. It wraps unary methods to report calls whose message gRPC refuses.
// Interceptors never see those, since a generated method decodes its message before it calls them. A stats.Handler would
// see them too, but makes every call about 10 % slower: gRPC copies the header and emits seven events per call.
func (s *Server) RegisterService(desc *grpc.ServiceDesc, impl any) {
	if s.onRefused != nil {
		reporting := *desc
		reporting.Methods = slices.Clone(desc.Methods)
		for i, m := range reporting.Methods {
			reporting.Methods[i].Handler = reportRefusals(m.Handler, "/"+desc.ServiceName+"/"+m.MethodName, s.onRefused)
		}
		desc = &reporting
	}
	s.Server.RegisterService(s.admission.counted(desc), impl)
}

func reportRefusals(handler grpc.MethodHandler, method string, report func(string, codes.Code)) grpc.MethodHandler {
	return func(impl any, ctx context.Context, read func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
		return handler(impl, ctx, func(message any) error {
			err := read(message)
			// Other codes do not come from gRPC: the caller canceled or the connection broke before the message arrived.
			if code := status.Code(err); code == codes.ResourceExhausted || code == codes.Internal {
				report(method, code)
			}
			return err
		}, interceptor)
	}
}

// panicStack returns the stack of a handler that panicked, without the frames of the recovery.
func panicStack() string {
	stack := debug.Stack()
	if i := bytes.Index(stack, []byte("\npanic(")); i >= 0 {
		stack = stack[i+1:]
	}
	return string(stack)
}
