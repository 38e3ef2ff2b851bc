package rpc_test

import (
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/greenlight-ml/greenlight/pkg/rpc"
)

// The client pings while idle and the server accepts it. The connection survives a quiet night, so the first call of the
// morning needs no handshake.
func TestConnectionOutlivesAQuietNight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, &stub{predict: answer})
		if _, err := p.client.Predict(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		ctx := t.Context()
		changed := make(chan bool, 1)
		go func() { changed <- p.conn.WaitForStateChange(ctx, connectivity.Ready) }()
		time.Sleep(12 * time.Hour)
		select {
		case <-changed:
			t.Fatalf("the connection left READY for %v", p.conn.GetState())
		default:
		}
		start := time.Now()
		if _, err := p.client.Predict(t.Context(), nil); err != nil || time.Since(start) != 0 {
			t.Errorf("first call of the morning: got %v after %v", err, time.Since(start))
		}
		_ = p.conn.Close()
		<-changed
	})
}

func TestDialConnectsWithoutACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, &stub{predict: answer})
		synctest.Wait()
		if got := p.conn.GetState(); got != connectivity.Ready {
			t.Errorf("state: got %v, want READY", got)
		}
	})
}

func TestDialRefuses(t *testing.T) {
	if _, err := rpc.Dial("dns://%%", nil); err == nil {
		t.Error("a target that is no address: got no error")
	}
	reg := prometheus.NewRegistry()
	for i, wantErr := range []bool{false, true} {
		conn, err := rpc.Dial("127.0.0.1:1", reg)
		if (err != nil) != wantErr {
			t.Errorf("dial %d with one registry: got %v", i, err)
		}
		if conn != nil {
			_ = conn.Close()
		}
	}
}

// A client ignores proxy variables, so a token is not sent unencrypted through a proxy.
func TestProxyVariablesAreIgnored(t *testing.T) {
	proxy, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	used := make(chan struct{}, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := proxy.Accept()
			if err != nil {
				return
			}
			select {
			case used <- struct{}{}:
			default:
			}
			_ = c.Close()
		}
	}()
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"} {
		t.Setenv(name, "http://"+proxy.Addr().String())
	}
	t.Setenv("NO_PROXY", "")
	// Not loopback, which is never proxied, and an address that is not routed.
	conn, err := rpc.Dial("240.0.0.1:1", nil, grpc.WithPerRPCCredentials(rpc.Token(file(t, secret))))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err = healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
	if err == nil {
		t.Error("it was answered")
	}
	_ = conn.Close()
	_ = proxy.Close()
	<-done
	if len(used) > 0 {
		t.Error("the proxy was called")
	}
}
