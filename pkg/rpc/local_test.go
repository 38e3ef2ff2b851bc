package rpc_test

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/greenlight-ml/greenlight/pkg/certs"
	"github.com/greenlight-ml/greenlight/pkg/rpc"
	"github.com/greenlight-ml/greenlight/pkg/testkit/certstest"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

// newLocal serves on a Unix socket and returns its target.
func newLocal(t *testing.T, opts rpc.ControlOptions, tls certs.Server, limiter *rpc.Limiter) (c *controlled, target string) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", filepath.Join(t.TempDir(), "socket"))
	if err != nil {
		t.Fatal(err)
	}
	c = &controlled{}
	c.serve(t, l, opts, tls, limiter)
	return c, "unix:" + l.Addr().String()
}

func dialed(t *testing.T, target string, opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	conn, err := rpc.Dial(target, nil, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// A Unix socket never leaves the machine. Control calls and tokens work as over loopback, and the audit log has the caller.
func TestControlOverASocket(t *testing.T) {
	from := "from=unix"
	if runtime.GOOS == "linux" {
		from = fmt.Sprintf("from=%q", fmt.Sprintf("unix:uid=%d,pid=%d", os.Getuid(), os.Getpid()))
	}
	for name, tt := range map[string]struct {
		opts   rpc.ControlOptions
		client []grpc.DialOption
		code   codes.Code
		who    string
	}{
		"everybody": {rpc.ControlOptions{Insecure: true}, nil, codes.OK, "who=loopback"},
		"a token":   {rpc.ControlOptions{TokenFile: file(t, "alice "+secret)}, []grpc.DialOption{grpc.WithPerRPCCredentials(rpc.Token(file(t, secret)))}, codes.OK, "who=token:alice"},
		"nobody":    {rpc.ControlOptions{}, nil, codes.PermissionDenied, "who=nobody"},
	} {
		t.Run(name, func(t *testing.T) {
			c, target := newLocal(t, tt.opts, certs.Server{}, nil)
			client := mlenginev1.NewModelRegistryServiceClient(dialed(t, target, tt.client...))
			if _, err := client.ActivateModel(t.Context(), &mlenginev1.ActivateModelRequest{Model: "m"}); status.Code(err) != tt.code {
				t.Errorf("got %v, want %v", err, tt.code)
			}
			if log := c.logged(); !strings.Contains(log, tt.who+" ") || !strings.Contains(log, from+" ") {
				t.Errorf("log: got %s, want %s and %s in it", log, tt.who, from)
			}
		})
	}
}

// Over a Unix socket TLS expects a certificate for localhost, unless the client sets another name.
func TestTLSOverASocket(t *testing.T) {
	a := certstest.NewAuthority(t, "ca")
	dir := t.TempDir()
	write := func(name string, raw []byte) string { return certstest.Write(t, dir, name, raw) }
	for name, tt := range map[string]struct {
		certificate, asked string
		code               codes.Code
	}{
		"localhost":             {"localhost", "", codes.OK},
		"another name, set":     {"executor.desk", "executor.desk", codes.OK},
		"another name, not set": {"executor.desk", "", codes.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			own := a.Issue(tt.certificate)
			_, target := newLocal(t, rpc.ControlOptions{}, certs.Server{Cert: write("s.pem", own.Cert), Key: write("s.key", own.Key)}, nil)
			store, err := certs.Client{CA: write("ca.pem", a.PEM)}.Open("", "server", slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			client := mlenginev1.NewScoringServiceClient(dialed(t, target, rpc.Secure(store.Credentials(tt.asked))...))
			if _, err := client.Predict(t.Context(), nil); status.Code(err) != tt.code {
				t.Errorf("got %v, want %v", err, tt.code)
			}
		})
	}
}

// All clients of a Unix socket share one rate limit, with those of 127.0.0.1.
func TestLimitOverASocket(t *testing.T) {
	_, target := newLocal(t, rpc.ControlOptions{}, certs.Server{}, rpc.NewLimiter(1e-6))
	for i, want := range []codes.Code{codes.OK, codes.ResourceExhausted} {
		client := mlenginev1.NewScoringServiceClient(dialed(t, target))
		if _, err := client.Predict(t.Context(), nil); status.Code(err) != want {
			t.Errorf("connection %d: got %v, want %v", i, err, want)
		}
	}
}

// Targets use gRPC's syntax; a path may be relative.
func TestDialASocket(t *testing.T) {
	_, target := newLocal(t, rpc.ControlOptions{}, certs.Server{}, nil)
	path := strings.TrimPrefix(target, "unix:")
	t.Chdir(filepath.Dir(path))
	for _, target := range []string{target, "unix://" + path, "unix:" + filepath.Base(path), "unix:./" + filepath.Base(path)} {
		if _, err := mlenginev1.NewScoringServiceClient(dialed(t, target)).Predict(t.Context(), nil); err != nil {
			t.Errorf("%s: %v", target, err)
		}
	}
}
