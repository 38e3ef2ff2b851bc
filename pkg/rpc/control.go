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

// ControlOptions says who has the operator role: who may call the control services.
type ControlOptions struct {
	// SANs are names of client certificates, DNS names or URIs, compared whole. They need mutual TLS.
	SANs []string
	// TokenFile holds the bearer tokens of the operators. It is read at every call, so that a new token needs no restart.
	// A token that comes in the clear from another machine lets nobody in.
	TokenFile string
	// Insecure lets everybody in. Only for a server that listens on loopback or a Unix socket.
	Insecure bool
}

// flagSet is the flag package's, less what is not needed.
type flagSet interface {
	StringVar(p *string, name, value, usage string)
	BoolVar(p *bool, name string, value bool, usage string)
	Func(name, usage string, fn func(string) error)
}

// Declare declares --control-san, --control-token-file and --insecure-control; service is the one that they open.
func (o *ControlOptions) Declare(fs flagSet, service string) {
	fs.Func("control-san", "`name` of an operator's client certificate, a DNS name or a URI, who may call "+service+"; may be given more than once; needs --tls-client-ca", func(s string) error {
		if s == "" {
			return errors.New("an empty name")
		}
		o.SANs = append(o.SANs, s)
		return nil
	})
	fs.StringVar(&o.TokenFile, "control-token-file", "", "`file` with the bearer tokens of the operators who may call "+service+", one a line, after the operator's name if there are several; read at every call")
	fs.BoolVar(&o.Insecure, "insecure-control", false, "let everybody who reaches a listener on loopback, or on a Unix socket, call "+service)
}

// Validate refuses options that would leave a control service open to the network, or that cannot let anybody in. mutual says
// that clients show certificates.
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
		return fmt.Errorf("--insecure-control is for a server on loopback or a Unix socket, and this one listens on %s: give --control-token-file", listener)
	}
	return nil
}

// WarnExposed says loudly which of the listeners others can reach and read.
func WarnExposed(logger *slog.Logger, secured bool, listeners ...net.Addr) {
	for _, l := range listeners {
		if !secured && !onThisMachine(l) {
			logger.Warn("this address is reached from other machines and speaks WITHOUT TLS: give --tls-cert and --tls-key, or see to it that none but trusted machines reach it", "address", l.String())
		}
	}
}

// Control is what guards the control services of a server.
type Control struct {
	opts     ControlOptions
	logger   *slog.Logger
	services []string
}

// NewControl guards the services of these full names.
func NewControl(opts ControlOptions, logger *slog.Logger, services ...string) *Control {
	if opts.TokenFile != "" {
		switch _, exposed, err := readTokens(opts.TokenFile); {
		case err != nil: // it may come later, as the secret of a cluster does
			logger.Error("the token file cannot be used: its operators are refused until it can", "file", opts.TokenFile, "error", err)
		case exposed:
			logger.Warn("everybody on this machine may read the token file, and so take control: chmod 600 it", "file", opts.TokenFile)
		}
	}
	return &Control{opts: opts, logger: logger, services: services}
}

// guards says whether the service is one of the control services.
func (c *Control) guards(service string) bool { return slices.Contains(c.services, service) }

// What the callers of control services are called in the audit log, and in what they leave behind. A certificate's name or a
// token's comes after a colon: "san:spiffe://desk/alice", "token:alice".
const (
	callerLoopback = "loopback"
	callerToken    = "token"
	callerSAN      = "san:"
	// callerNobody showed nothing, callerUnknown a token that is nobody's.
	callerNobody  = "nobody"
	callerUnknown = "unknown token"
)

type callerKey struct{}

// Caller is who makes a call of a control service: "loopback", "token", "token:<name>" or "san:<name>". It is empty for
// other calls.
func Caller(ctx context.Context) string {
	who, _ := ctx.Value(callerKey{}).(string)
	return who
}

// authorize says who calls, whether or not the call is let in.
func (c *Control) authorize(ctx context.Context) (who string, err error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return callerNobody, status.Error(codes.Internal, "a call without a peer")
	}
	if c.opts.Insecure {
		return callerLoopback, nil
	}
	if c.opts.TokenFile == "" && len(c.opts.SANs) == 0 {
		return callerNobody, status.Error(codes.PermissionDenied, "control is off: start the server with --control-san or --control-token-file, or on loopback with --insecure-control")
	}
	names, encrypted := shown(p)
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
		return who, status.Error(codes.Unauthenticated, "this call needs an operator's client certificate, with a name that is a --control-san of the server")
	}
	return who, status.Error(codes.Unauthenticated, "this call needs an operator's token: send it as \"authorization: Bearer <token>\"")
}

// shown are the names of the verified certificate that the caller has shown.
func shown(p *peer.Peer) (names []string, encrypted bool) {
	known := p.AuthInfo
	if w, ok := known.(watchedInfo); ok {
		known = w.AuthInfo
	}
	info, ok := known.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 {
		return nil, ok
	}
	return certs.Names(info.State.VerifiedChains[0][0]), true
}

func (c *Control) checkToken(ctx context.Context, who, given string, private bool) (string, error) {
	if !private {
		return who, status.Error(codes.Unauthenticated, "the token came without TLS from another machine, so others may have read it: make a new one, and secure the connection")
	}
	tokens, _, err := readTokens(c.opts.TokenFile)
	if err != nil {
		c.logger.ErrorContext(ctx, "the token file cannot be used: its operators are refused", "file", c.opts.TokenFile, "error", err)
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
