package fleet

import (
	"log/slog"
	"slices"

	"google.golang.org/grpc"

	"github.com/greenlight-ml/greenlight/pkg/certs"
	"github.com/greenlight-ml/greenlight/pkg/dsse"
	"github.com/greenlight-ml/greenlight/pkg/rpc"
)

// Access describes how to reach services. The zero value dials without TLS and without a token.
type Access struct {
	// TLS secures the connections.
	TLS certs.Client
	// TokenFile holds the operator's token. Control calls need it unless a client certificate or --insecure-control
	// admits them. Empty sends no token.
	TokenFile string
	// FleetKey signs the messages that executors of a group obey; nil for commands that only read.
	FleetKey *dsse.Signer
	// Logger logs reloaded and unreadable certificates. Nil discards the messages.
	Logger *slog.Logger
}

// Dialer returns a connection to a service without waiting for it. Call errors are written for people: see [Hint].
type Dialer func(addr string) (*grpc.ClientConn, error)

// Dialer reads the certificates. Connections use them, and reload them when the files change.
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
	transport := a.transport()
	return func(addr string) (*grpc.ClientConn, error) {
		return rpc.Dial(addr, nil, append(slices.Clip(opts), grpc.WithChainUnaryInterceptor(explained(addr, transport)),
			grpc.WithChainStreamInterceptor(explainedStream(addr, transport)))...)
	}, nil
}
