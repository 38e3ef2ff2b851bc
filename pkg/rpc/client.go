package rpc

import (
	"fmt"
	"net/http"
	"time"

	grpcprom "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
)

// Dial returns a client connection to the target. It connects immediately, never goes idle, and reconnects within about a
// second once its server is back. It is not encrypted unless extra has credentials, for example from [Secure]. reg, which
// may be nil, receives the grpc_client_* metrics.
//
// gRPC's defaults do not suit the two services. A connection that went idle after 30 quiet minutes would make the next call
// miss its 60 ms. The return of a server could go unnoticed for two minutes. Calls, including their tokens, would go through
// the proxy of HTTPS_PROXY. A name with several addresses uses the first that answers; executor balances over all of them
// itself, see package shadow.
func Dial(target string, reg prometheus.Registerer, extra ...grpc.DialOption) (*grpc.ClientConn, error) {
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(newPlaintext()),
		grpc.WithIdleTimeout(0),
		grpc.WithNoProxy(),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: pingInterval, Timeout: pingTimeout, PermitWithoutStream: true,
		}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: 2 * time.Second,
		}),
		// Fixed windows, as in the server: gRPC's default windows grow with the bandwidth, and a full one holds thousands of messages.
		grpc.WithStaticStreamWindowSize(window),
		grpc.WithStaticConnWindowSize(window),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxMessage)),
	}
	if reg != nil {
		metrics, err := ClientMetrics(reg)
		if err != nil {
			return nil, err
		}
		opts = append(opts, metrics...)
	}
	conn, err := grpc.NewClient(target, append(opts, extra...)...)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", target, err)
	}
	conn.Connect()
	return conn, nil
}

// ClientMetrics registers the grpc_client_* metrics and returns the connection options that feed them.
func ClientMetrics(reg prometheus.Registerer) ([]grpc.DialOption, error) {
	metrics := grpcprom.NewClientMetrics()
	if err := reg.Register(metrics); err != nil {
		return nil, err
	}
	return []grpc.DialOption{
		grpc.WithChainUnaryInterceptor(metrics.UnaryClientInterceptor()),
		grpc.WithChainStreamInterceptor(metrics.StreamClientInterceptor()),
	}, nil
}

// HTTPTransport returns an HTTP transport that ignores proxy variables, like [Dial].
func HTTPTransport() *http.Transport {
	return &http.Transport{ForceAttemptHTTP2: true, IdleConnTimeout: time.Minute, TLSHandshakeTimeout: 10 * time.Second}
}

// Secure returns the option of [Dial] that secures the connection. Nil credentials give no option, so the connection is not
// encrypted.
func Secure(c credentials.TransportCredentials) []grpc.DialOption {
	if c == nil {
		return nil
	}
	return []grpc.DialOption{grpc.WithTransportCredentials(c)}
}
