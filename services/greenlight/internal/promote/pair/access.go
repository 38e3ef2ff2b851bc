package pair

import (
	"log/slog"
	"slices"

	"google.golang.org/grpc"

	"github.com/greenlight-ml/greenlight/pkg/certs"
	"github.com/greenlight-ml/greenlight/pkg/rpc"
)

// Access is how the services are reached, whichever they are. The zero value is in the clear and as nobody.
type Access struct {
	// TLS secures the connections.
	TLS certs.Client
	// TokenFile holds the operator's token, which control calls need where neither a certificate nor --insecure-control
	// lets them in; empty is none.
	TokenFile string
	// Logger is told when certificates are read again, or cannot be; nil is nobody.
	Logger *slog.Logger
}

// Dialer begins to connect to a service, and does not wait for it. The errors of its calls are for people: see [Hint].
type Dialer func(addr string) (*grpc.ClientConn, error)

// Dialer reads the certificates, and returns what connects with them, or with those that are in the files later.
func (a Access) Dialer() (Dialer, error) {
	logger := a.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	secured, err := a.TLS.Open("", "services", logger)
	if err != nil {
		return nil, err
	}
	opts := rpc.Secure(secured.Credentials(a.TLS.ServerName))
	if a.TokenFile != "" {
		opts = append(opts, grpc.WithPerRPCCredentials(rpc.Token(a.TokenFile)))
	}
	made := a.made()
	return func(addr string) (*grpc.ClientConn, error) {
		return rpc.Dial(addr, nil, append(slices.Clip(opts), grpc.WithChainUnaryInterceptor(explained(addr, made)))...)
	}, nil
}
