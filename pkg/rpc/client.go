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

// Dial returns a client connection to the target that begins to connect at once, never falls idle and comes back within
// about a second of its server. It is in the clear unless extra has other credentials, as of [Secure]. reg,
// which may be nil, gets the grpc_client_* metrics.
//
// gRPC's own defaults would make the first call of a quiet market miss a 60 ms deadline (idle after 30 minutes), and
// leave a returned server unnoticed for up to two minutes; they would go through the proxy of HTTPS_PROXY, and tokens with
// them. Of a name with several addresses, such as
// dns:///ml-engine:4010, it would use the first that answers; here the calls go round all of them.
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
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"round_robin": {}}]}`),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxMessage)),
	}
	if reg != nil {
		metrics := grpcprom.NewClientMetrics()
		if err := reg.Register(metrics); err != nil {
			return nil, err
		}
		opts = append(opts, grpc.WithChainUnaryInterceptor(metrics.UnaryClientInterceptor()))
	}
	conn, err := grpc.NewClient(target, append(opts, extra...)...)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", target, err)
	}
	conn.Connect()
	return conn, nil
}

// HTTPTransport returns a transport of HTTP that goes where it is told, as [Dial] does: proxy variables are ignored.
func HTTPTransport() *http.Transport {
	return &http.Transport{ForceAttemptHTTP2: true, IdleConnTimeout: time.Minute, TLSHandshakeTimeout: 10 * time.Second}
}

// Secure is the option of [Dial] that secures the connection; none for nil credentials, so that it stays in the clear.
func Secure(c credentials.TransportCredentials) []grpc.DialOption {
	if c == nil {
		return nil
	}
	return []grpc.DialOption{grpc.WithTransportCredentials(c)}
}
