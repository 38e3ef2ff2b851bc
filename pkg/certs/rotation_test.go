package certs_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/greenlight-ml/greenlight/pkg/certs"
	"github.com/greenlight-ml/greenlight/pkg/rpc"
	"github.com/greenlight-ml/greenlight/pkg/testkit/certstest"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

// namer answers with the first name of the caller's certificate.
type namer struct {
	mlenginev1.UnimplementedScoringServiceServer
}

func (namer) Predict(ctx context.Context, _ *mlenginev1.PredictRequest) (*mlenginev1.PredictResponse, error) {
	p, _ := peer.FromContext(ctx)
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return nil, status.Error(codes.Internal, "no TLS")
	}
	return &mlenginev1.PredictResponse{ModelVersion: certs.Names(info.State.PeerCertificates[0])[0]}, nil
}

// journal is a log that can be read while it is written.
type journal struct {
	mu  sync.Mutex
	log bytes.Buffer
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.log.Write(b)
}

func (j *journal) count(text string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Count(j.log.String(), text)
}

// ends are the two ends of a mutual TLS connection, with their files.
type ends struct {
	server, client                       *certs.Store
	log                                  *journal
	serverCert, serverKey, serverCA      string
	clientCert, clientKey, clientCA, dir string
	addr                                 string
	calls                                *rpc.Server
}

func serve(t *testing.T, a *certstest.Authority) *ends {
	t.Helper()
	e := &ends{log: &journal{}, dir: t.TempDir()}
	own, theirs := a.Issue("server.test", "127.0.0.1"), a.Issue("client-0")
	e.serverCert, e.serverKey = certstest.Write(t, e.dir, "server.pem", own.Cert), certstest.Write(t, e.dir, "server.key", own.Key)
	e.clientCert, e.clientKey = certstest.Write(t, e.dir, "client.pem", theirs.Cert), certstest.Write(t, e.dir, "client.key", theirs.Key)
	e.serverCA, e.clientCA = certstest.Write(t, e.dir, "clients-ca.pem", a.PEM), certstest.Write(t, e.dir, "servers-ca.pem", a.PEM)
	logger := slog.New(slog.NewTextHandler(e.log, nil))
	var err error
	if e.server, err = (certs.Server{Cert: e.serverCert, Key: e.serverKey, ClientCA: e.serverCA}).Open(logger); err != nil {
		t.Fatal(err)
	}
	if e.client, err = (certs.Client{CA: e.clientCA, Cert: e.clientCert, Key: e.clientKey}).Open("", "client", logger); err != nil {
		t.Fatal(err)
	}
	server := rpc.NewServer(rpc.ServerOptions{Logger: logger, Registerer: prometheus.NewRegistry(), Credentials: e.server.ServerCredentials()})
	mlenginev1.RegisterScoringServiceServer(server, namer{})
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e.addr = l.Addr().String()
	e.calls = server
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return e
}

func (e *ends) dial(t testing.TB, c credentials.TransportCredentials) *grpc.ClientConn {
	t.Helper()
	conn, err := rpc.Dial(e.addr, nil, rpc.Secure(c)...)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func predict(ctx context.Context, conn *grpc.ClientConn) (name string, err error) {
	resp, err := mlenginev1.NewScoringServiceClient(conn).Predict(ctx, &mlenginev1.PredictRequest{})
	return resp.GetModelVersion(), err
}

// The certificates and CAs of both ends are rotated repeatedly while calls run, on a long-lived connection and on new
// ones. No call fails, and removed certificates are refused.
func TestRotationUnderLoad(t *testing.T) {
	authority := certstest.NewAuthority(t, "ca-0")
	e := serve(t, authority)
	old := authority.Issue("old")

	var stop atomic.Bool
	var calls, handshakes atomic.Int64
	var names sync.Map // of the clients that the server has seen
	var load sync.WaitGroup
	call := func(conn *grpc.ClientConn) bool {
		name, err := predict(t.Context(), conn)
		if err != nil {
			t.Errorf("a call failed: %v", err)
			return false
		}
		names.Store(name, true)
		calls.Add(1)
		return true
	}
	lasting := e.dial(t, e.client.Credentials(""))
	defer lasting.Close()
	for range 2 {
		load.Go(func() {
			for !stop.Load() && call(lasting) {
			}
		})
		load.Go(func() {
			for ok := true; ok && !stop.Load(); {
				conn := e.dial(t, e.client.Credentials(""))
				ok = call(conn)
				handshakes.Add(1)
				_ = conn.Close()
			}
		})
	}
	// Every step waits until connections use its change.
	step := func(write func()) {
		write()
		for n := handshakes.Load(); handshakes.Load() < n+6 && !t.Failed(); {
			time.Sleep(time.Millisecond)
		}
	}
	const rotations = 5
	for i := 1; i <= rotations && !t.Failed(); i++ {
		next := certstest.NewAuthority(t, "ca")
		both := slices.Concat(authority.PEM, next.PEM)
		step(func() {
			certstest.Write(t, e.dir, "clients-ca.pem", both)
			certstest.Write(t, e.dir, "servers-ca.pem", both)
		})
		own, theirs := next.Issue("server.test", "127.0.0.1"), next.Issue("client-"+string(rune('a'+i)))
		step(func() {
			certstest.Write(t, e.dir, "server.pem", own.Cert)
			time.Sleep(5 * time.Millisecond) // handshakes find the new certificate with the old key, and continue with the old pair
			certstest.Write(t, e.dir, "server.key", own.Key)
		})
		step(func() {
			certstest.Write(t, e.dir, "client.key", theirs.Key)
			certstest.Write(t, e.dir, "client.pem", theirs.Cert)
		})
		step(func() {
			certstest.Write(t, e.dir, "clients-ca.pem", next.PEM)
			certstest.Write(t, e.dir, "servers-ca.pem", next.PEM)
		})
		authority = next
	}
	stop.Store(true)
	load.Wait()
	seen := 0
	names.Range(func(any, any) bool { seen++; return true })
	if seen != rotations+1 {
		t.Errorf("the server saw %d client certificates, want %d", seen, rotations+1)
	}
	if e.log.count("not a certificate and its key") == 0 {
		t.Error("no handshake happened while certificate and key did not match: the test did not cover that")
	}
	t.Logf("%d rotations of everything: %d calls, %d connections, none failed", rotations, calls.Load(), handshakes.Load())

	for _, tt := range []struct {
		name string
		own  certstest.Pair
		code codes.Code
	}{{"the last authority", authority.Issue("new"), codes.OK}, {"the first authority", old, codes.Unavailable}} {
		conn := e.dial(t, e.store(t, tt.own, authority).Credentials(""))
		if _, err := predict(t.Context(), conn); status.Code(err) != tt.code {
			t.Errorf("a certificate of %s: got %v, want %v", tt.name, err, tt.code)
		}
		_ = conn.Close()
	}
}

// store returns a client's certificates, which do not change.
func (e *ends) store(t *testing.T, own certstest.Pair, ca *certstest.Authority) *certs.Store {
	t.Helper()
	dir := t.TempDir()
	s, err := certs.Client{
		CA: certstest.Write(t, dir, "ca.pem", ca.PEM), Cert: certstest.Write(t, dir, "c.pem", own.Cert), Key: certstest.Write(t, dir, "c.key", own.Key),
	}.Open("", "client", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// anonymous is a client without a certificate.
func (e *ends) anonymous(t *testing.T, ca *certstest.Authority) *certs.Store {
	t.Helper()
	s, err := certs.Client{CA: certstest.Write(t, t.TempDir(), "ca.pem", ca.PEM)}.Open("", "client", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return s
}
