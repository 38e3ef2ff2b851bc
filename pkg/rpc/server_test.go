package rpc_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/greenlight-ml/greenlight/pkg/rpc"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

// stub is a ScoringService made of functions.
type stub struct {
	mlenginev1.UnimplementedScoringServiceServer

	predict func(context.Context, *mlenginev1.PredictRequest) (*mlenginev1.PredictResponse, error)
}

func (s *stub) Predict(ctx context.Context, req *mlenginev1.PredictRequest) (*mlenginev1.PredictResponse, error) {
	return s.predict(ctx, req)
}

func (*stub) StreamPredict(stream grpc.BidiStreamingServer[mlenginev1.BatchPredictRequest, mlenginev1.BatchPredictResponse]) error {
	for {
		req, err := stream.Recv()
		if err != nil {
			return err
		}
		if err := stream.Send(&mlenginev1.BatchPredictResponse{Sequence: req.GetSequence()}); err != nil {
			return err
		}
	}
}

// pair is a server and a client of this package, connected in memory.
type pair struct {
	server  *rpc.Server
	conn    *grpc.ClientConn
	client  mlenginev1.ScoringServiceClient
	reg     *prometheus.Registry
	refused []codes.Code
	served  chan error

	mu  sync.Mutex
	log bytes.Buffer
}

func (p *pair) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(b)
}

func (p *pair) logged() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

func newPair(t *testing.T, s *stub) *pair {
	t.Helper()
	p := &pair{reg: prometheus.NewRegistry(), served: make(chan error, 1)}
	p.server = rpc.NewServer(rpc.ServerOptions{
		Logger: slog.New(slog.NewTextHandler(p, nil)), Registerer: p.reg, Reflection: true,
		OnRefused: func(method string, code codes.Code) {
			p.mu.Lock()
			defer p.mu.Unlock()
			if method == mlenginev1.ScoringService_Predict_FullMethodName {
				p.refused = append(p.refused, code)
			}
		},
	})
	mlenginev1.RegisterScoringServiceServer(p.server, s)
	p.server.Ready()
	l := bufconn.Listen(1 << 20)
	go func() { p.served <- p.server.Serve(l) }()
	conn, err := rpc.Dial("passthrough:///bufnet", p.reg, grpc.WithContextDialer(
		func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	p.conn, p.client = conn, mlenginev1.NewScoringServiceClient(conn)
	t.Cleanup(func() {
		_ = conn.Close()
		p.server.Stop()
		_ = l.Close()
	})
	return p
}

func answer(context.Context, *mlenginev1.PredictRequest) (*mlenginev1.PredictResponse, error) {
	return &mlenginev1.PredictResponse{}, nil
}

func TestPanicIsInternal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, &stub{predict: func(context.Context, *mlenginev1.PredictRequest) (*mlenginev1.PredictResponse, error) {
			panic("secret")
		}})
		_, err := p.client.Predict(t.Context(), &mlenginev1.PredictRequest{})
		if s := status.Convert(err); s.Code() != codes.Internal || strings.Contains(s.Message(), "secret") {
			t.Errorf("got %v, want INTERNAL without the panic's text", err)
		}
		if !strings.Contains(p.logged(), "secret") || !strings.Contains(p.logged(), "server_test.go") {
			t.Errorf("log: got %q, want the panic with its stack", p.logged())
		}
		if err := testutil.GatherAndCompare(p.reg, strings.NewReader(`
# HELP grpc_server_panics_recovered_total Panics in handlers, which were answered with INTERNAL.
# TYPE grpc_server_panics_recovered_total counter
grpc_server_panics_recovered_total 1
`), "grpc_server_panics_recovered_total"); err != nil {
			t.Error(err)
		}
	})
}

// raw is a codec that sends bytes unchanged.
type raw struct{}

func (raw) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}
func (raw) Unmarshal(mem.BufferSlice, any) error { return nil }
func (raw) Name() string                         { return "proto" }

func TestRefusalsAreReported(t *testing.T) {
	huge := &mlenginev1.PredictRequest{RequestId: strings.Repeat("x", rpc.MaxMessage+1)}
	for name, tt := range map[string]struct {
		call    func(ctx context.Context, p *pair) error
		handler func(context.Context, *mlenginev1.PredictRequest) (*mlenginev1.PredictResponse, error)
		code    codes.Code
		refused int
	}{
		"fine": {
			call: func(ctx context.Context, p *pair) error { _, err := p.client.Predict(ctx, nil); return err },
			code: codes.OK,
		},
		"message too large": {
			call: func(ctx context.Context, p *pair) error { _, err := p.client.Predict(ctx, huge); return err },
			code: codes.ResourceExhausted, refused: 1,
		},
		"bytes that are no message": {
			call: func(ctx context.Context, p *pair) error {
				return p.conn.Invoke(ctx, mlenginev1.ScoringService_Predict_FullMethodName, []byte{0xff}, new(any), grpc.ForceCodecV2(raw{}))
			},
			code: codes.Internal, refused: 1,
		},
		"the handler's own resource_exhausted": {
			call: func(ctx context.Context, p *pair) error { _, err := p.client.Predict(ctx, nil); return err },
			handler: func(context.Context, *mlenginev1.PredictRequest) (*mlenginev1.PredictResponse, error) {
				return nil, status.Error(codes.ResourceExhausted, "too many")
			},
			code: codes.ResourceExhausted,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &stub{predict: answer}
				if tt.handler != nil {
					s.predict = tt.handler
				}
				p := newPair(t, s)
				if got := status.Code(tt.call(t.Context(), p)); got != tt.code {
					t.Errorf("code: got %v, want %v", got, tt.code)
				}
				synctest.Wait()
				p.mu.Lock()
				defer p.mu.Unlock()
				if len(p.refused) != tt.refused || (tt.refused > 0 && p.refused[0] != tt.code) {
					t.Errorf("refused: got %v, want %d", p.refused, tt.refused)
				}
			})
		})
	}
}

func TestHealthPerService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, &stub{predict: answer})
		health := healthpb.NewHealthClient(p.conn)
		for _, service := range []string{"", mlenginev1.ScoringService_ServiceDesc.ServiceName} {
			got, err := health.Check(t.Context(), &healthpb.HealthCheckRequest{Service: service})
			if err != nil || got.GetStatus() != healthpb.HealthCheckResponse_SERVING {
				t.Errorf("service %q: got %v, %v; want serving", service, got, err)
			}
		}
		if _, err := health.Check(t.Context(), &healthpb.HealthCheckRequest{Service: "no.such"}); status.Code(err) != codes.NotFound {
			t.Errorf("unknown service: got %v, want NOT_FOUND", err)
		}
	})
}

func TestDrain(t *testing.T) {
	for name, tt := range map[string]struct {
		call, grace, took time.Duration
		code              codes.Code
		err               error
	}{
		"the call finishes":    {call: 3 * time.Second, grace: 10 * time.Second, took: 3 * time.Second},
		"the call is cut off":  {call: time.Minute, grace: 10 * time.Second, took: 10 * time.Second, code: codes.Unavailable, err: context.DeadlineExceeded},
		"there is no call":     {grace: time.Second},
		"there is no grace":    {call: time.Second, code: codes.Unavailable, err: context.DeadlineExceeded},
		"grace without a call": {grace: 0, err: context.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPair(t, &stub{predict: func(ctx context.Context, _ *mlenginev1.PredictRequest) (*mlenginev1.PredictResponse, error) {
					select {
					case <-time.After(tt.call):
					case <-ctx.Done():
					}
					return &mlenginev1.PredictResponse{}, nil
				}})
				result := make(chan error, 1)
				if tt.call > 0 {
					go func() {
						_, err := p.client.Predict(t.Context(), nil)
						result <- err
					}()
					synctest.Wait()
				}
				ctx, cancel := context.WithTimeout(t.Context(), tt.grace)
				defer cancel()
				start := time.Now()
				if err := p.server.Drain(ctx); !errors.Is(err, tt.err) {
					t.Errorf("drain: got %v, want %v", err, tt.err)
				}
				if took := time.Since(start); took != tt.took {
					t.Errorf("drain took %v, want %v", took, tt.took)
				}
				if tt.call > 0 {
					if got := status.Code(<-result); got != tt.code {
						t.Errorf("the call: got %v, want %v", got, tt.code)
					}
				}
				if err := <-p.served; err != nil {
					t.Errorf("serve: got %v, want nil after a drain", err)
				}
			})
		})
	}
}

// A server that is stopped before it serves has not failed.
func TestServeAfterStop(t *testing.T) {
	s := rpc.NewServer(rpc.ServerOptions{Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	s.Stop()
	if err := s.Serve(bufconn.Listen(1)); err != nil {
		t.Errorf("got %v, want nil", err)
	}
}

func TestLogsFailuresAndSlowCalls(t *testing.T) {
	for name, tt := range map[string]struct {
		took time.Duration
		err  error
		want string
	}{
		"fine":                   {time.Millisecond, nil, ""},
		"slow":                   {time.Second, nil, "call was slow"},
		"failed":                 {0, status.Error(codes.Internal, "broken"), "call failed"},
		"the caller's fault":     {0, status.Error(codes.InvalidArgument, "bad"), ""},
		"the caller's, but slow": {time.Second, status.Error(codes.InvalidArgument, "bad"), "call was slow"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPair(t, &stub{predict: func(context.Context, *mlenginev1.PredictRequest) (*mlenginev1.PredictResponse, error) {
					time.Sleep(tt.took)
					return &mlenginev1.PredictResponse{}, tt.err
				}})
				_, _ = p.client.Predict(t.Context(), nil)
				if got := p.logged(); (tt.want == "") != (got == "") || !strings.Contains(got, tt.want) {
					t.Errorf("log: got %q, want %q", got, tt.want)
				}
			})
		})
	}
}
