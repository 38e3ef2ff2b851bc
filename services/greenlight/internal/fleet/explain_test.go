package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/greenlight-ml/greenlight/pkg/certs"
	"github.com/greenlight-ml/greenlight/pkg/testkit/certstest"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// answers is a rollout service that returns the same error for every call.
type answers struct {
	executorv1.UnimplementedRolloutServiceServer

	err error
}

func (a answers) GetRollout(context.Context, *executorv1.GetRolloutRequest) (*executorv1.GetRolloutResponse, error) {
	return nil, a.err
}

// listen returns a listener on loopback, and stops what serves it at the end of the test.
func listen(t *testing.T, serve func(net.Listener) error, stop func()) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = serve(l)
	}()
	t.Cleanup(func() {
		stop()
		_ = l.Close()
		<-done
	})
	return l.Addr().String()
}

func store(t *testing.T, tls certs.Server) *certs.Store {
	t.Helper()
	s, err := tls.Open(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func grpcServer(t *testing.T, tls certs.Server, register func(grpc.ServiceRegistrar)) string {
	t.Helper()
	var opts []grpc.ServerOption
	if c := store(t, tls).ServerCredentials(); c != nil {
		opts = append(opts, grpc.Creds(c))
	}
	s := grpc.NewServer(opts...)
	register(s)
	return listen(t, s.Serve, s.Stop)
}

func httpServer(t *testing.T, tls certs.Server) string {
	t.Helper()
	s := &http.Server{Handler: http.NotFoundHandler(), ReadHeaderTimeout: time.Second}
	secured := store(t, tls)
	secured.SecureHTTP(s)
	s.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	return listen(t, func(l net.Listener) error {
		if secured != nil {
			return s.ServeTLS(l, "", "")
		}
		return s.Serve(l)
	}, func() { _ = s.Close() })
}

// refusal is an error of a service with an ErrorInfo.
func refusal(t *testing.T, code codes.Code, reason string) error {
	t.Helper()
	s, err := status.New(code, "refused").WithDetails(&errdetails.ErrorInfo{Reason: reason, Domain: "greenlight"})
	if err != nil {
		t.Fatal(err)
	}
	return s.Err()
}

// Every way in which a call can fail has one sentence about what happened and one about what to do.
func TestExplanations(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca, other := certstest.NewAuthority(t, "desk"), certstest.NewAuthority(t, "stranger")
	write := func(name string, p certstest.Pair) (cert, key string) {
		return certstest.Write(t, dir, name+".pem", p.Cert), certstest.Write(t, dir, name+".key", p.Key)
	}
	server := func(name string, p certstest.Pair) (s certs.Server) {
		s.Cert, s.Key = write(name, p)
		return s
	}
	trusted, strange := certstest.Write(t, dir, "ca.pem", ca.PEM), certstest.Write(t, dir, "other.pem", other.PEM)
	past := time.Now().Add(-time.Hour)
	tls, named := server("server", ca.Issue("127.0.0.1", "localhost")), server("named", ca.Issue("elsewhere.desk"))
	expired := server("expired", ca.IssueFor(past.Add(-time.Hour), past, "127.0.0.1"))
	mutual := tls
	mutual.ClientCA = trusted
	client := func(name string, p certstest.Pair) Access {
		cert, key := write(name, p)
		return Access{TLS: certs.Client{CA: trusted, Cert: cert, Key: key}}
	}
	known := client("client", ca.Issue("spiffe://desk/operator"))
	plain, secure := Access{}, Access{TLS: certs.Client{CA: trusted}}
	rollouts := func(err error) func(grpc.ServiceRegistrar) {
		return func(s grpc.ServiceRegistrar) { executorv1.RegisterRolloutServiceServer(s, answers{err: err}) }
	}
	fine := rollouts(nil)
	quiet := func() string {
		done := make(chan struct{})
		return listen(t, func(l net.Listener) error {
			for {
				c, err := l.Accept()
				if err != nil {
					return err
				}
				go func() { <-done; _ = c.Close() }()
			}
		}, func() { close(done) })
	}
	gone := listen(t, func(l net.Listener) error { return l.Close() }, func() {})
	other2 := secure
	other2.TLS.CA = strange
	shortToken := certstest.Write(t, dir, "short", []byte("s3cret\n"))
	wrongName := secure
	wrongName.TLS.ServerName = "x.desk"

	for _, c := range []struct {
		name, addr string
		access     Access
		code       codes.Code
		what, hint string
	}{
		{"nothing listens", gone, plain, codes.Unavailable, "nothing is listening at ADDR", "start it"},
		{"no socket", "unix:" + filepath.Join(dir, "none"), plain, codes.Unavailable, "nothing is listening at ADDR", "start it"},
		{"no host", "nowhere.invalid:4010", plain, codes.Unavailable, "the host name in ADDR cannot be resolved", "correct the host"},
		{"a URL", "http://127.0.0.1:4010", plain, codes.Unavailable, "ADDR is not a gRPC address", "HOST:PORT, without http://"},
		{"no flags of TLS", grpcServer(t, tls, fine), plain, codes.Unavailable, "ADDR closed the connection immediately: it looks like a service with TLS", "give --tls-ca"},
		{"no flags of mutual TLS", grpcServer(t, mutual, fine), plain, codes.Unavailable, "it looks like a service with TLS", "--tls-cert and --tls-key"},
		{"TLS to a plain service", grpcServer(t, certs.Server{}, fine), secure, codes.Unavailable, "ADDR does not speak TLS", "remove the --tls-* flags"},
		{"another authority", grpcServer(t, tls, fine), other2, codes.Unavailable, "the certificate of ADDR is not signed by an authority in --tls-ca", "with --tls-ca"},
		{"expired", grpcServer(t, expired, fine), secure, codes.Unavailable, "the certificate of ADDR is not valid now: certificate has expired or is not yet valid: current time", "new certificate"},
		{"no name", grpcServer(t, named, fine), secure, codes.Unavailable, "the certificate of ADDR is for another name: cannot validate certificate for 127.0.0.1", "--tls-server-name"},
		{"another name", grpcServer(t, tls, fine), wrongName, codes.Unavailable, "is for another name: certificate is valid for localhost, not x.desk", "--tls-server-name"},
		{"no client certificate", grpcServer(t, mutual, fine), secure, codes.Unavailable, "client certificate", "--tls-cert and --tls-key"},
		{"client of another authority", grpcServer(t, mutual, fine), client("strange", other.Issue("spiffe://desk/operator")), codes.Unavailable, "accept the certificate in --tls-cert", "--tls-client-ca"},
		{"expired client", grpcServer(t, mutual, fine), client("late", ca.IssueFor(past.Add(-time.Hour), past, "spiffe://desk/operator")), codes.Unavailable, "accept the certificate in --tls-cert", "its dates"},
		{"an HTTP port", httpServer(t, certs.Server{}), plain, codes.Unavailable, "ADDR speaks HTTP, not gRPC", "4010 for ml-engine"},
		{"TLS to an HTTP port", httpServer(t, certs.Server{}), secure, codes.Unavailable, "ADDR does not speak TLS", "not its gRPC port"},
		{"an HTTPS port", httpServer(t, tls), secure, codes.Unavailable, "ADDR speaks TLS, but not gRPC", "4010 for ml-engine"},
		{"an HTTPS port without TLS", httpServer(t, tls), plain, codes.Unavailable, "it looks like a service with TLS", "give --tls-ca"},
		{"a silent port", quiet(), plain, codes.DeadlineExceeded, "ADDR did not answer with gRPC in time", "another program"},
		{"another service", grpcServer(t, certs.Server{}, func(grpc.ServiceRegistrar) {}), plain, codes.Unimplemented, "ADDR is not an executor", "are they swapped?"},
		{
			"no token", grpcServer(t, mutual, rollouts(status.Error(codes.Unauthenticated, "this call needs an operator's token"))), known,
			codes.Unauthenticated, "this call needs an operator's token", "--control-token-file",
		},
		{
			"denied", grpcServer(t, certs.Server{}, rollouts(status.Error(codes.PermissionDenied, "this is not an operator's token"))), plain,
			codes.PermissionDenied, "this is not an operator's token", "an operator of this service",
		},
		{
			"control is off", grpcServer(t, certs.Server{}, rollouts(status.Error(codes.PermissionDenied, "control is off: start the server with"))), plain,
			codes.PermissionDenied, "control is off", "start the service with --control-token-file",
		},
		{"no token file", grpcServer(t, certs.Server{}, fine), Access{TokenFile: filepath.Join(dir, "none")}, codes.Unauthenticated, "the token was not sent: token: open", "a file with one token"},
		{
			"a short token", grpcServer(t, certs.Server{}, fine),
			Access{TokenFile: shortToken},
			codes.Unauthenticated, `create one with "openssl rand -hex 24"`, "a file with one token",
		},
		{
			"a lease is held", grpcServer(t, certs.Server{}, rollouts(refusal(t, codes.FailedPrecondition, "LEASE_HELD"))), plain,
			codes.FailedPrecondition, "refused", "greenlight canary abort",
		},
		{
			"the revision has changed", grpcServer(t, certs.Server{}, rollouts(refusal(t, codes.Aborted, "REVISION_CHANGED"))), plain,
			codes.Aborted, "refused", "greenlight rollout get",
		},
		{
			"no such model", grpcServer(t, certs.Server{}, rollouts(refusal(t, codes.NotFound, "MODEL_NOT_FOUND"))), plain,
			codes.NotFound, "refused", "greenlight model list",
		},
		{
			"no such symbol", grpcServer(t, certs.Server{}, rollouts(refusal(t, codes.NotFound, "SYMBOL_UNKNOWN"))), plain,
			codes.NotFound, "refused", "as it is in the quotes",
		},
		{"slow", grpcServer(t, certs.Server{}, rollouts(status.Error(codes.DeadlineExceeded, "context deadline exceeded"))), plain, codes.DeadlineExceeded, "ADDR did not answer in time", "--timeout"},
		{
			"what a remote says", grpcServer(t, certs.Server{}, rollouts(status.Error(codes.NotFound, "no such model\x1b[2J\r"+strings.Repeat("x", 4000)))), plain,
			codes.NotFound, "NotFound: no such model\uFFFD[2J\uFFFDxxx", "",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p, err := Dial(Options{Access: c.access, Executors: []string{c.addr}})
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			timeout := 20 * time.Second
			if c.name == "a silent port" {
				timeout = 100 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			defer cancel()
			_, err = p.Executors[0].Rollouts.GetRollout(ctx, &executorv1.GetRolloutRequest{})
			what := strings.ReplaceAll(c.what, "ADDR", c.addr)
			if status.Code(err) != c.code || !strings.Contains(fmt.Sprint(err), what) || strings.Contains(fmt.Sprint(err), "desc =") {
				t.Errorf("got %v, want %v and %q", err, c.code, what)
			}
			if hint := Hint(fmt.Errorf("wrapped: %w", err)); !strings.Contains(hint, c.hint) || c.hint == "" && hint != "" {
				t.Errorf("hint %q, want %q", hint, c.hint)
			}
			if denied := c.code == codes.PermissionDenied || c.code == codes.Unauthenticated; Denied(err) != denied {
				t.Errorf("denied: got %t, want %t", Denied(err), denied)
			}
			if len(err.Error()) > 1100 {
				t.Errorf("%d bytes of error", len(err.Error()))
			}
		})
	}
	if Hint(errors.New("another")) != "" || Hint(nil) != "" {
		t.Error("an error without a failed call has a hint")
	}
}
