package rpc

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/auth"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/selector"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// ControlOptions says who may call the control services.
type ControlOptions struct {
	// TokenFile holds the bearer token of the operators. It is read at every call, so a new token needs no restart.
	TokenFile string
	// Insecure lets everybody in. Only for a server that listens on loopback.
	Insecure bool
}

// Validate refuses options that would leave a control service open to the network.
func (o ControlOptions) Validate(listener net.Addr) error {
	if !o.Insecure {
		return nil
	}
	if o.TokenFile != "" {
		return errors.New("--insecure-control and --control-token-file exclude each other")
	}
	if tcp, ok := listener.(*net.TCPAddr); !ok || !tcp.IP.IsLoopback() {
		return fmt.Errorf("--insecure-control is for a server on loopback, and this one listens on %s: give --control-token-file", listener)
	}
	return nil
}

// Caller is who the callers of the control services are: "token" for those who have it, "loopback" for everybody there.
func (o ControlOptions) Caller() string {
	if o.Insecure {
		return "loopback"
	}
	return "token"
}

// Control is what guards the control services of a server.
type Control struct {
	opts     ControlOptions
	logger   *slog.Logger
	services []string
}

// NewControl guards the services of these full names.
func NewControl(opts ControlOptions, logger *slog.Logger, services ...string) *Control {
	return &Control{opts: opts, logger: logger, services: services}
}

// interceptor admits operators alone to the control services, and writes an audit line for every call of them.
func (c *Control) interceptor() grpc.UnaryServerInterceptor {
	authorize := auth.UnaryServerInterceptor(c.authorize)
	audited := func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		start := time.Now()
		resp, err := authorize(ctx, req, info, handler)
		from := "unknown"
		if p, ok := peer.FromContext(ctx); ok {
			from = p.Addr.String()
		}
		c.logger.InfoContext(ctx, "control call", "method", info.FullMethod, "from", from, "as", c.role(),
			"result", status.Code(err).String(), "took", time.Since(start))
		return resp, err
	}
	return selector.UnaryServerInterceptor(audited, selector.MatchFunc(c.guards))
}

func (c *Control) guards(_ context.Context, call interceptors.CallMeta) bool {
	return slices.Contains(c.services, call.Service)
}

func (c *Control) role() string {
	if c.opts.Insecure {
		return "anybody on loopback"
	}
	return "operator"
}

// authorize checks the bearer token.
func (c *Control) authorize(ctx context.Context) (context.Context, error) {
	if c.opts.Insecure {
		return ctx, nil
	}
	if c.opts.TokenFile == "" {
		return nil, status.Error(codes.PermissionDenied, "control is off: start the server with --control-token-file, or on loopback with --insecure-control")
	}
	given, err := auth.AuthFromMD(ctx, "bearer")
	if err != nil {
		return nil, status.Error(codes.Unauthenticated, "this call needs the operators' token: send it as \"authorization: Bearer <token>\"")
	}
	raw, err := os.ReadFile(c.opts.TokenFile)
	want := strings.TrimSpace(string(raw))
	if err != nil || want == "" {
		c.logger.ErrorContext(ctx, "the token file cannot be used: every control call is refused", "file", c.opts.TokenFile, "error", err)
		return nil, status.Error(codes.Unauthenticated, "the server's token file cannot be used")
	}
	// Of the digests, so that not even the length of the token shows in the time.
	a, b := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(want))
	if subtle.ConstantTimeCompare(a[:], b[:]) != 1 {
		return nil, status.Error(codes.PermissionDenied, "this is not the operators' token")
	}
	return ctx, nil
}
