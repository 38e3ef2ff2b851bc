package servetest

import (
	"context"
	"math/rand/v2"
	"net"
	"runtime"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
)

// Streams returns the streaming calls that every service has. Each sends one message.
func (s *Service) Streams() map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"health watch": func(ctx context.Context) error {
			_, err := healthpb.NewHealthClient(s.Conn).Watch(ctx, &healthpb.HealthCheckRequest{})
			return err
		},
		"reflection": func(ctx context.Context) error {
			stream, err := reflectionpb.NewServerReflectionClient(s.Conn).ServerReflectionInfo(ctx)
			if err != nil {
				return err
			}
			return stream.Send(&reflectionpb.ServerReflectionRequest{
				MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{},
			})
		},
	}
}

// WantStreamsEnd opens streams, cancels each at a random moment, and checks that no goroutine of the service remains.
func (s *Service) WantStreamsEnd(t *testing.T, streams map[string]func(context.Context) error) {
	t.Helper()
	rng := rand.New(rand.NewPCG(5, 6))
	for name, open := range streams {
		before := runtime.NumGoroutine()
		for range 100 {
			ctx, cancel := context.WithCancel(t.Context())
			if err := open(ctx); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			for range rng.IntN(200) { // from immediately to after the answer, without a timer
				runtime.Gosched()
			}
			cancel()
		}
		// A leak leaves at least 100. Half as many may be unrelated: the first decisions open streams to ml-engine, which stay.
		for runtime.NumGoroutine() > before+50 {
			select {
			case <-t.Context().Done():
				var stacks strings.Builder
				_ = pprof.Lookup("goroutine").WriteTo(&stacks, 1)
				t.Fatalf("%s: %d goroutines, %d before:\n%s", name, runtime.NumGoroutine(), before, stacks.String())
			case <-time.After(5 * time.Millisecond):
			}
		}
	}
}

// StaleSocket creates a socket file like the one that a killed process leaves behind.
func StaleSocket(t testing.TB, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}
