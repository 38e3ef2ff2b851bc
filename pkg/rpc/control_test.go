package rpc_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/greenlight-ml/greenlight/pkg/certs"
	"github.com/greenlight-ml/greenlight/pkg/rpc"
	"github.com/greenlight-ml/greenlight/pkg/telemetry"
	"github.com/greenlight-ml/greenlight/pkg/testkit/certstest"
	"github.com/greenlight-ml/greenlight/pkg/testkit/telemetrytest"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

// models is a control service that answers with its caller.
type models struct {
	mlenginev1.UnimplementedModelRegistryServiceServer
}

func (models) ActivateModel(ctx context.Context, req *mlenginev1.ActivateModelRequest) (*mlenginev1.ActivateModelResponse, error) {
	if req.GetModel() == "bad" {
		return nil, status.Error(codes.FailedPrecondition, "it does not verify")
	}
	return &mlenginev1.ActivateModelResponse{Active: &mlenginev1.ActiveModel{Name: rpc.Caller(ctx)}}, nil
}

// from is a connection with that remote address.
type from struct {
	net.Conn

	addr net.Addr
}

func (f from) RemoteAddr() net.Addr { return f.addr }

// network is a listener whose connections have a given remote address, with its dialer.
type network struct {
	*bufconn.Listener

	addr net.Addr
}

func (n network) Accept() (net.Conn, error) {
	c, err := n.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return from{c, n.addr}, nil
}

// Addr implements net.Listener; it returns the remote address of the connections.
func (n network) Addr() net.Addr { return n.addr }

func (n network) dial(ctx context.Context, _ string) (net.Conn, error) {
	c, err := n.DialContext(ctx)
	if err != nil {
		return nil, err
	}
	return from{c, n.addr}, nil
}

var (
	here      = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 50000}
	elsewhere = &net.TCPAddr{IP: net.IPv4(10, 1, 2, 3), Port: 50000}
)

// controlled is a server with a control service and an open service.
type controlled struct {
	network

	mu  sync.Mutex
	log bytes.Buffer
}

func (c *controlled) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.log.Write(b)
}

func (c *controlled) logged() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.log.String()
}

func newControlled(t testing.TB, addr net.Addr, opts rpc.ControlOptions, tls certs.Server, limiter *rpc.Limiter) *controlled {
	t.Helper()
	c := &controlled{network: network{bufconn.Listen(1 << 20), addr}}
	c.serve(t, c, opts, tls, limiter)
	return c
}

func (c *controlled) serve(t testing.TB, l net.Listener, opts rpc.ControlOptions, tls certs.Server, limiter *rpc.Limiter) {
	t.Helper()
	logger, err := telemetry.NewLogger(c, "info", "text")
	if err != nil {
		t.Fatal(err)
	}
	store, err := tls.Open(logger)
	if err != nil {
		t.Fatal(err)
	}
	if err := opts.Validate(l.Addr(), store.Mutual()); err != nil {
		t.Fatal(err)
	}
	server := rpc.NewServer(rpc.ServerOptions{
		Logger: logger, Registerer: prometheus.NewRegistry(), Credentials: store.ServerCredentials(), Limiter: limiter,
		Control: rpc.NewControl(opts, logger, mlenginev1.ModelRegistryService_ServiceDesc.ServiceName),
	})
	mlenginev1.RegisterModelRegistryServiceServer(server, models{})
	mlenginev1.RegisterScoringServiceServer(server, &stub{predict: answer})
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}

func (c *controlled) client(t testing.TB, opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	conn, err := rpc.Dial("passthrough:///server.test", nil, append(opts, grpc.WithContextDialer(c.dial))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func file(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const secret = "correct-horse-battery"

// Who may call a control service, by credentials and connection, and the audit line of each call.
func TestControl(t *testing.T) {
	a := certstest.NewAuthority(t, "ca")
	dir := t.TempDir()
	write := func(name string, raw []byte) string { return certstest.Write(t, dir, name, raw) }
	own := a.Issue("server.test")
	tls := certs.Server{Cert: write("s.pem", own.Cert), Key: write("s.key", own.Key)}
	mutual := tls
	mutual.ClientCA = write("ca.pem", a.PEM)
	tokens := file(t, "# of the operators\nbob bobs-very-own-token\n\n  alice   "+secret+"\n")
	sans := []string{"spiffe://desk/operator", "operator.desk"}
	show := func(names ...string) grpc.DialOption {
		client := certs.Client{CA: write("ca.pem", a.PEM)}
		if len(names) > 0 {
			p, dir := a.Issue(names...), t.TempDir()
			client.Cert, client.Key = certstest.Write(t, dir, "c.pem", p.Cert), certstest.Write(t, dir, "c.key", p.Key)
		}
		store, err := client.Open("", "server", slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return rpc.Secure(store.Credentials(""))[0]
	}
	type opts = []grpc.DialOption
	bearer := func(s string) grpc.DialOption { return grpc.WithPerRPCCredentials(rpc.Token(file(t, s))) }
	var audit strings.Builder
	for _, tt := range []struct {
		name   string
		addr   net.Addr
		tls    certs.Server
		opts   rpc.ControlOptions
		client opts
		model  string
		code   codes.Code
		caller string
	}{
		{"off", here, certs.Server{}, rpc.ControlOptions{}, opts{bearer(secret)}, "m", codes.PermissionDenied, ""},
		{"everybody on loopback", here, certs.Server{}, rpc.ControlOptions{Insecure: true}, nil, "m", codes.OK, "loopback"},
		{"token on loopback", here, certs.Server{}, rpc.ControlOptions{TokenFile: tokens}, opts{bearer(secret)}, "m", codes.OK, "token:alice"},
		{"token without a name", here, certs.Server{}, rpc.ControlOptions{TokenFile: file(t, secret)}, opts{bearer("me " + secret)}, "m", codes.OK, "token"},
		{"wrong token", here, certs.Server{}, rpc.ControlOptions{TokenFile: tokens}, opts{bearer("guess-after-guess")}, "m", codes.PermissionDenied, ""},
		{"name as a token", here, certs.Server{}, rpc.ControlOptions{TokenFile: tokens}, opts{bearer("alice-alice-alice")}, "m", codes.PermissionDenied, ""},
		{"no token", here, certs.Server{}, rpc.ControlOptions{TokenFile: tokens}, nil, "m", codes.Unauthenticated, ""},
		{"empty token file", here, certs.Server{}, rpc.ControlOptions{TokenFile: file(t, "# none\n")}, opts{bearer(secret)}, "m", codes.Unauthenticated, ""},
		{"bad token file", here, certs.Server{}, rpc.ControlOptions{TokenFile: file(t, "a "+secret+" b\n")}, opts{bearer(secret)}, "m", codes.Unauthenticated, ""},
		{"token over TLS", elsewhere, tls, rpc.ControlOptions{TokenFile: tokens}, opts{show(), bearer(secret)}, "m", codes.OK, "token:alice"},
		{"token and mutual TLS", elsewhere, mutual, rpc.ControlOptions{TokenFile: tokens}, opts{show("trader"), bearer(secret)}, "m", codes.OK, "token:alice"},
		{"operator's URI", elsewhere, mutual, rpc.ControlOptions{SANs: sans}, opts{show("spiffe://desk/operator")}, "m", codes.OK, "san:spiffe://desk/operator"},
		{"operator's DNS name", elsewhere, mutual, rpc.ControlOptions{SANs: sans}, opts{show("laptop.desk", "operator.desk")}, "m", codes.OK, "san:operator.desk"},
		{"operator's certificate beats the token", elsewhere, mutual, rpc.ControlOptions{SANs: sans, TokenFile: tokens}, opts{show("operator.desk"), bearer(secret)}, "m", codes.OK, "san:operator.desk"},
		{"token with a certificate that is not an operator's", elsewhere, mutual, rpc.ControlOptions{SANs: sans, TokenFile: tokens}, opts{show("trader"), bearer(secret)}, "m", codes.OK, "token:alice"},
		{"another name", elsewhere, mutual, rpc.ControlOptions{SANs: sans}, opts{show("trader")}, "m", codes.PermissionDenied, ""},
		{"a part of the name", elsewhere, mutual, rpc.ControlOptions{SANs: sans}, opts{show("operator.desk.evil")}, "m", codes.PermissionDenied, ""},
		{"a wildcard", elsewhere, mutual, rpc.ControlOptions{SANs: sans}, opts{show("*.desk")}, "m", codes.PermissionDenied, ""},
		{"refused by the service", elsewhere, mutual, rpc.ControlOptions{SANs: sans}, opts{show("operator.desk")}, "bad", codes.FailedPrecondition, ""},
		{"a very long request", here, certs.Server{}, rpc.ControlOptions{TokenFile: tokens}, nil, strings.Repeat("x", 10000), codes.Unauthenticated, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newControlled(t, tt.addr, tt.opts, tt.tls, nil)
			conn := c.client(t, tt.client...)
			resp, err := mlenginev1.NewModelRegistryServiceClient(conn).ActivateModel(t.Context(), &mlenginev1.ActivateModelRequest{Model: tt.model})
			if status.Code(err) != tt.code || resp.GetActive().GetName() != tt.caller {
				t.Errorf("got %q, %v; want %v for %q", resp.GetActive().GetName(), err, tt.code, tt.caller)
			}
			log := c.logged()
			if n := strings.Count(log, "control call"); n != 1 {
				t.Errorf("%d audit lines, want 1: %s", n, log)
			}
			if strings.Contains(log, secret) || strings.Contains(log, "guess") || (err != nil && strings.Contains(err.Error(), secret)) {
				t.Errorf("a token in the log or in the error: %s, %v", log, err)
			}
			for line := range strings.Lines(log) {
				if strings.Contains(line, "control call") {
					audit.WriteString("# " + tt.name + "\n" + regexp.MustCompile(`time=\S+ (.*) took=\S+`).ReplaceAllString(line, "$1"))
				}
			}
		})
	}
	telemetrytest.Golden(t, "testdata/audit.txt", audit.String())
}

// A token is not sent unencrypted to another machine, and a valid one that arrives that way is refused.
func TestTokensStayPrivate(t *testing.T) {
	tokens := file(t, secret)
	c := newControlled(t, elsewhere, rpc.ControlOptions{TokenFile: tokens}, certs.Server{}, nil)
	call := func(ctx context.Context, opts ...grpc.DialOption) error {
		_, err := mlenginev1.NewModelRegistryServiceClient(c.client(t, opts...)).ActivateModel(ctx, &mlenginev1.ActivateModelRequest{})
		return err
	}
	err := call(t.Context(), grpc.WithPerRPCCredentials(rpc.Token(tokens)))
	if status.Code(err) != codes.Unauthenticated || !strings.Contains(err.Error(), "--tls-ca") || strings.Contains(c.logged(), "control call") {
		t.Errorf("sent in the clear: got %v, log %s; want nothing sent", err, c.logged())
	}
	err = call(metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+secret))
	if status.Code(err) != codes.Unauthenticated || !strings.Contains(err.Error(), "others may have read it") {
		t.Errorf("taken in the clear: got %v", err)
	}
	if !strings.Contains(c.logged(), "from=10.1.2.3:50000 result=Unauthenticated") {
		t.Errorf("audit: got %s", c.logged())
	}
}

// Every call of an operator is logged. Refused calls are logged at a limited rate, with the number of suppressed lines.
func TestAuditIsBoundedForThoseWhoAreRefused(t *testing.T) {
	tokens := file(t, secret)
	c := newControlled(t, here, rpc.ControlOptions{TokenFile: tokens}, certs.Server{}, nil)
	client := mlenginev1.NewModelRegistryServiceClient(c.client(t))
	operator := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+secret)
	for range 50 {
		if _, err := client.ActivateModel(t.Context(), &mlenginev1.ActivateModelRequest{Model: strings.Repeat("x", 10<<10)}); status.Code(err) != codes.Unauthenticated {
			t.Fatal(err)
		}
		if _, err := client.ActivateModel(operator, &mlenginev1.ActivateModelRequest{Model: "m"}); err != nil {
			t.Fatal(err)
		}
	}
	log := c.logged()
	if refused, admitted := strings.Count(log, "who=nobody"), strings.Count(log, "who=token"); refused != 10 || admitted != 50 || len(log) > 30<<10 {
		t.Errorf("%d lines of refused calls, want 10; %d of the operator, want 50; %d bytes", refused, admitted, len(log))
	}
}

// A change of the token file takes effect immediately.
func TestTokensAreReadAgain(t *testing.T) {
	tokens := file(t, "first-of-two-tokens")
	c := newControlled(t, here, rpc.ControlOptions{TokenFile: tokens}, certs.Server{}, nil)
	client := mlenginev1.NewModelRegistryServiceClient(c.client(t))
	call := func(s string) codes.Code {
		_, err := client.ActivateModel(metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+s), &mlenginev1.ActivateModelRequest{})
		return status.Code(err)
	}
	if first, second := call("first-of-two-tokens"), call("second-of-two-tokens"); first != codes.OK || second != codes.PermissionDenied {
		t.Errorf("before: got %v and %v", first, second)
	}
	if err := os.WriteFile(tokens, []byte("second-of-two-tokens"), 0o600); err != nil {
		t.Fatal(err)
	}
	if first, second := call("first-of-two-tokens"), call("second-of-two-tokens"); first != codes.PermissionDenied || second != codes.OK {
		t.Errorf("after: got %v and %v", first, second)
	}
}

func TestControlOptions(t *testing.T) {
	for name, tt := range map[string]struct {
		opts   rpc.ControlOptions
		addr   net.Addr
		mutual bool
		want   string
	}{
		"off":                            {rpc.ControlOptions{}, elsewhere, false, ""},
		"everybody, on loopback":         {rpc.ControlOptions{Insecure: true}, here, false, ""},
		"everybody, on loopback, IPv6":   {rpc.ControlOptions{Insecure: true}, &net.TCPAddr{IP: net.IPv6loopback}, false, ""},
		"everybody, elsewhere":           {rpc.ControlOptions{Insecure: true}, elsewhere, true, "is for a server on loopback"},
		"everybody, on all addresses":    {rpc.ControlOptions{Insecure: true}, &net.TCPAddr{IP: net.IPv6zero}, true, "is for a server on loopback"},
		"everybody, on a Unix socket":    {rpc.ControlOptions{Insecure: true}, &net.UnixAddr{Name: "/s", Net: "unix"}, false, ""},
		"everybody and a token":          {rpc.ControlOptions{Insecure: true, TokenFile: "x"}, here, false, "excludes"},
		"everybody and a name":           {rpc.ControlOptions{Insecure: true, SANs: []string{"x"}}, here, true, "excludes"},
		"a name that nobody can show":    {rpc.ControlOptions{SANs: []string{"x"}}, here, false, "--control-san needs --tls-client-ca"},
		"a name, with mutual TLS":        {rpc.ControlOptions{SANs: []string{"x"}}, elsewhere, true, ""},
		"a token without TLS, elsewhere": {rpc.ControlOptions{TokenFile: "x"}, elsewhere, false, ""},
	} {
		err := tt.opts.Validate(tt.addr, tt.mutual)
		if (err == nil) != (tt.want == "") || (err != nil && !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
	}
}

func TestWarnExposed(t *testing.T) {
	for name, tt := range map[string]struct {
		secured bool
		addr    net.Addr
		want    int
	}{
		"loopback": {false, here, 0}, "elsewhere": {false, elsewhere, 1}, "all addresses": {false, &net.TCPAddr{IP: net.IPv4zero}, 1}, "TLS": {true, elsewhere, 0},
		"a Unix socket": {false, &net.UnixAddr{Name: "/s", Net: "unix"}, 0},
	} {
		var log bytes.Buffer
		rpc.WarnExposed(slog.New(slog.NewTextHandler(&log, nil)), tt.secured, tt.addr, here)
		if got := strings.Count(log.String(), "WITHOUT TLS"); got != tt.want {
			t.Errorf("%s: got %d warnings, want %d", name, got, tt.want)
		}
	}
}
