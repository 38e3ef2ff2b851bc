package rpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/auth"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/greenlight-ml/greenlight/pkg/certs"
)

// ControlOptions configures who may call the control services, that is, who is an operator.
type ControlOptions struct {
	// SANs are names of operators' client certificates: DNS names or URIs, compared in full. They need mutual TLS.
	SANs []string
	// TokenFile holds the bearer tokens of the operators. It is read at every call, so that a new token needs no restart.
	// A token that arrives unencrypted from another machine is refused.
	TokenFile string
	// Insecure admits everyone. It is only for a server that listens on loopback or a Unix socket.
	Insecure bool
}

// flagSet is the part of flag.FlagSet that Declare uses.
type flagSet interface {
	StringVar(p *string, name, value, usage string)
	BoolVar(p *bool, name string, value bool, usage string)
	Func(name, usage string, fn func(string) error)
}

// Declare declares --control-san, --control-token-file and --insecure-control. service names the control services in the
// help.
func (o *ControlOptions) Declare(fs flagSet, service string) {
	fs.Func("control-san", "`name` (DNS name or URI) in the client certificate of an operator who may call "+service+"; may be repeated; needs --tls-client-ca", func(s string) error {
		if s == "" {
			return errors.New("an empty name")
		}
		o.SANs = append(o.SANs, s)
		return nil
	})
	fs.StringVar(&o.TokenFile, "control-token-file", "", "`file` with the bearer tokens of the operators who may call "+service+", one per line, with the operator's name before it if there are several; read at every call")
	fs.BoolVar(&o.Insecure, "insecure-control", false, "let anyone call "+service+" if the listener is on loopback or a Unix socket")
}

// Validate returns an error for options that would open a control service to the network, or that admit no one. mutual is
// set if client certificates are required.
func (o ControlOptions) Validate(listener net.Addr, mutual bool) error {
	if len(o.SANs) > 0 && !mutual {
		return errors.New("--control-san needs --tls-client-ca: without it no client's certificate is verified")
	}
	if !o.Insecure {
		return nil
	}
	if o.TokenFile != "" || len(o.SANs) > 0 {
		return errors.New("--insecure-control excludes --control-token-file and --control-san")
	}
	if !onThisMachine(listener) {
		return fmt.Errorf("--insecure-control is for a server on loopback or a Unix socket, but this one listens on %s: give --control-token-file", listener)
	}
	return nil
}

// WarnExposed warns about listeners that other machines can reach without TLS.
func WarnExposed(logger *slog.Logger, secured bool, listeners ...net.Addr) {
	for _, l := range listeners {
		if !secured && !onThisMachine(l) {
			logger.Warn("other machines can reach this address WITHOUT TLS: give --tls-cert and --tls-key, or make sure that only trusted machines can reach it", "address", l.String())
		}
	}
}

// Control guards the control services of a server.
type Control struct {
	opts     ControlOptions
	logger   *slog.Logger
	services []string
}

// NewControl returns the guard of the services with these full names.
func NewControl(opts ControlOptions, logger *slog.Logger, services ...string) *Control {
	if opts.TokenFile != "" {
		switch _, exposed, err := readTokens(opts.TokenFile); {
		case err != nil: // the file may appear later, like a Kubernetes secret
			logger.Error("the token file cannot be used: operators with tokens are refused until it can", "file", opts.TokenFile, "error", err)
		case exposed:
			logger.Warn("every user of this machine can read the token file and act as an operator: chmod 600 it", "file", opts.TokenFile)
		}
	}
	return &Control{opts: opts, logger: logger, services: services}
}

// guards reports whether the service is one of the control services.
func (c *Control) guards(service string) bool { return slices.Contains(c.services, service) }

// Names of the callers of control services in the audit log and in records. A colon separates the name from a certificate or
// token: "san:spiffe://desk/alice", "token:alice".
const (
	callerLoopback = "loopback"
	callerToken    = "token"
	callerSAN      = "san:"
	// callerNobody sent no credentials, callerUnknown sent a token that belongs to no operator.
	callerNobody  = "nobody"
	callerUnknown = "unknown token"
)

type callerKey struct{}

// Caller returns who calls a control service: "loopback", "token", "token:<name>" or "san:<name>". It is empty for other
// calls.
func Caller(ctx context.Context) string {
	who, _ := ctx.Value(callerKey{}).(string)
	return who
}

// authorize returns who calls, and an error if the call is refused.
func (c *Control) authorize(ctx context.Context) (who string, err error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return callerNobody, status.Error(codes.Internal, "the call has no peer")
	}
	if c.opts.Insecure {
		return callerLoopback, nil
	}
	if c.opts.TokenFile == "" && len(c.opts.SANs) == 0 {
		return callerNobody, status.Error(codes.PermissionDenied, "control is off: start the server with --control-san or --control-token-file, or on loopback with --insecure-control")
	}
	names, encrypted := certificateNames(p)
	for _, name := range names {
		if slices.Contains(c.opts.SANs, name) {
			return callerSAN + name, nil
		}
	}
	who = callerNobody
	if len(names) > 0 {
		who = callerSAN + names[0]
	}
	given, err := auth.AuthFromMD(ctx, "bearer")
	switch {
	case err == nil && c.opts.TokenFile != "":
		return c.checkToken(ctx, who, given, encrypted || onThisMachine(p.Addr))
	case len(names) > 0:
		return who, status.Error(codes.PermissionDenied, "this certificate is not an operator's: none of its names is a --control-san of the server")
	case c.opts.TokenFile == "":
		return who, status.Error(codes.Unauthenticated, "this call needs an operator's client certificate: one of its names must be a --control-san of the server")
	}
	return who, status.Error(codes.Unauthenticated, "this call needs an operator's token: send it as \"authorization: Bearer <token>\"")
}

// certificateNames returns the names in the caller's verified certificate, and reports whether the connection is encrypted.
func certificateNames(p *peer.Peer) (names []string, encrypted bool) {
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 {
		return nil, ok
	}
	return certs.Names(info.State.VerifiedChains[0][0]), true
}

func (c *Control) checkToken(ctx context.Context, who, given string, private bool) (string, error) {
	if !private {
		return who, status.Error(codes.Unauthenticated, "the token arrived without TLS from another machine, so others may have read it: create a new one, and secure the connection")
	}
	tokens, _, err := readTokens(c.opts.TokenFile)
	if err != nil {
		c.logger.ErrorContext(ctx, "the token file cannot be used: operators with tokens are refused", "file", c.opts.TokenFile, "error", err)
		return who, status.Error(codes.Unauthenticated, "the server's token file cannot be used")
	}
	t, ok := match(tokens, given)
	switch {
	case !ok:
		return callerUnknown, status.Error(codes.PermissionDenied, "this is not an operator's token")
	case t.name == "":
		return callerToken, nil
	}
	return callerToken + ":" + t.name, nil
}
