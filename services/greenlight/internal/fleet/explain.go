package fleet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/greenlight-ml/greenlight/pkg/rpc"
	"github.com/greenlight-ml/greenlight/pkg/text"
)

// failure is the error of a call, for people: what happened and what to do.
type failure struct {
	*status.Status

	hint string
}

// Error implements error.
func (f *failure) Error() string { return fmt.Sprintf("%s: %s", f.Code(), f.Message()) }

// GRPCStatus lets status.Code find the code.
func (f *failure) GRPCStatus() *status.Status { return f.Status }

// Hint returns what to do; empty if there is no advice.
func (f *failure) Hint() string { return f.hint }

// Hint returns what to do about the failed call in err; empty if err has no failed call, or if there is no advice.
func Hint(err error) string {
	var f *failure
	if !errors.As(err, &f) {
		return ""
	}
	return f.hint
}

// Denied reports whether err is a call that the service refused because of the caller's identity.
func Denied(err error) bool {
	code := status.Code(err)
	return code == codes.Unauthenticated || code == codes.PermissionDenied
}

// transport is how a connection is secured. The explanation of an error may depend on it.
type transport uint8

const (
	plaintext transport = 1 + iota // without TLS
	anonymous                      // with TLS, without a client certificate
	certified                      // with TLS and a client certificate
)

// explanation is a row in the table of failed calls.
type explanation struct {
	// code, reason, transport and one of contains must match. A zero value matches everything.
	code      codes.Code
	reason    string // of the ErrorInfo in the details
	contains  []string
	transport transport
	// what replaces the message: %[1]s is the address, %[2]s is the message from the match to its end. Empty keeps the message.
	what string
	hint string
}

const wrongPort = "name the gRPC port: by default 4010 for ml-engine and 4020 for executor, whose HTTP ports are 4011 and 4021"

const registryHint = "greenlight model list and greenlight model verify show the models of a registry folder"

// explanations tell what failed calls mean, most specific first. gRPC's connection errors have no specific code or type, only
// a text. TestExplanations causes each of these failures.
var explanations = []explanation{
	{
		contains: []string{"too many colons in address", "missing port in address", "invalid target address"},
		what:     "%[1]s is not a gRPC address", hint: "want HOST:PORT, without http:// and without a path",
	},
	{
		contains: []string{"no children to pick from", "no such host", "produced zero addresses"},
		what:     "the host name in %[1]s cannot be resolved", hint: "correct the host in --executor or --engine",
	},
	{
		contains: []string{"connection refused", "connect: no such file or directory"},
		what:     "nothing is listening at %[1]s", hint: "start it, or name its address with --executor or --engine",
	},
	{
		contains: []string{"no route to host", "network is unreachable", "connect: connection timed out", "dialing: dial tcp"},
		what:     "%[1]s cannot be reached over the network: %[2]s", hint: "check the address, the network and the firewalls in between",
	},
	{contains: []string{"looked like an HTTP/1.1 header"}, what: "%[1]s speaks HTTP, not gRPC", hint: wrongPort},
	{
		contains: []string{"first record does not look like a TLS handshake"},
		what:     "%[1]s does not speak TLS, but --tls-ca requires it",
		hint:     "remove the --tls-* flags, or start the service with --tls-cert and --tls-key; if it has them, this is not its gRPC port",
	},
	{contains: []string{"no application protocol", "missing selected ALPN"}, what: "%[1]s speaks TLS, but not gRPC: it looks like an HTTPS port", hint: wrongPort},
	{
		contains: []string{"signed by unknown authority"},
		what:     "the certificate of %[1]s is not signed by an authority in --tls-ca", hint: "give the authority that signed it with --tls-ca; if you did, another server answers at this address",
	},
	{
		contains: []string{"certificate has expired or is not yet valid"},
		what:     "the certificate of %[1]s is not valid now: %[2]s", hint: "give the service a new certificate; if its dates are correct, set the clock of this machine",
	},
	{
		contains: []string{"cannot validate certificate for", "certificate is valid for", "certificate is not valid for"},
		what:     "the certificate of %[1]s is for another name: %[2]s", hint: "use an address that is in the certificate, or give a name that is in it with --tls-server-name",
	},
	{
		contains: []string{"tls: certificate required"}, transport: anonymous,
		what: "%[1]s requires a client certificate", hint: "give yours with --tls-cert and --tls-key",
	},
	{
		contains: []string{"tls: certificate required", "tls: bad certificate", "tls: unknown certificate", "tls: expired certificate"}, transport: certified,
		what: "%[1]s does not accept the certificate in --tls-cert", hint: "check its dates, and that an authority in --tls-client-ca of the service has signed it; the service's log says more",
	},
	{
		contains: []string{"error reading server preface", "connection reset by peer", "broken pipe"}, transport: certified,
		what: "%[1]s closed the connection after the TLS handshake: it does not seem to accept the certificate in --tls-cert", hint: "check its dates, and that an authority in --tls-client-ca of the service has signed it; the service's log says more",
	},
	{
		contains: []string{"error reading server preface", "connection reset by peer", "broken pipe"}, transport: anonymous,
		what: "%[1]s closed the connection after the TLS handshake: it seems to require a client certificate", hint: "give yours with --tls-cert and --tls-key",
	},
	{
		contains: []string{"error reading server preface: EOF", "connection reset by peer", "broken pipe"}, transport: plaintext,
		what: "%[1]s closed the connection immediately: it looks like a service with TLS", hint: "give --tls-ca, and --tls-cert and --tls-key if it requires a client certificate",
	},
	{
		contains: []string{"while waiting for connections to become ready", "use of closed network connection", "handshake failed: context deadline exceeded"},
		what:     "%[1]s did not answer with gRPC in time", hint: "check whether the service hangs, or whether another program listens there",
	},
	{
		contains: []string{"per-RPC creds failed due to error: "},
		what:     "the token was not sent: %[2]s", hint: "--control-token-file must name a file with one token; a token is sent to other machines only over TLS",
	},
	{reason: "LEASE_HELD", hint: "greenlight canary abort ends the lease and the canary that holds it"},
	{reason: "REVISION_CHANGED", hint: "greenlight rollout get shows the current one"},
	{reason: "MODEL_NOT_FOUND", hint: registryHint},
	{reason: "MODEL_INVALID", hint: registryHint},
	{reason: "NO_PREVIOUS_MODEL", hint: "greenlight model activate activates another model"},
	{reason: "SYMBOL_UNKNOWN", hint: "give the symbol as it is in the quotes; an executor without quotes of it has nothing to reset"},
	{
		code: codes.PermissionDenied, contains: []string{"control is off"},
		hint: "start the service with --control-token-file or --control-san, or on loopback with --insecure-control",
	},
	{code: codes.PermissionDenied, hint: "give the token of an operator of this service with --control-token-file, or an operator's certificate with --tls-cert"},
	{code: codes.Unauthenticated, hint: "give the operator's token with --control-token-file, or an operator's certificate with --tls-cert and --tls-key"},
	{
		code: codes.Unimplemented, contains: []string{"unknown service greenlight.executor"},
		what: "%[1]s is not an executor", hint: "--executor takes the gRPC addresses of executors and --engine those of ml-engines: are they swapped?",
	},
	{
		code: codes.Unimplemented, contains: []string{"unknown service greenlight.mlengine"},
		what: "%[1]s is not an ml-engine", hint: "--executor takes the gRPC addresses of executors and --engine those of ml-engines: are they swapped?",
	},
	{
		code: codes.Unimplemented, contains: []string{"unknown service", "unexpected HTTP status code"},
		what: "%[1]s is not a greenlight service", hint: wrongPort,
	},
	{code: codes.DeadlineExceeded, what: "%[1]s did not answer in time", hint: "check whether the service hangs (its log, /readyz), or raise --timeout"},
}

// maxMessage bounds a message from a service, in bytes.
const maxMessage = 1024

// explain returns what a failed call to the address means. The status keeps its code and details.
func explain(err error, addr string, made transport) error {
	if err == nil {
		return nil
	}
	s := status.Convert(err)
	p, reason := s.Proto(), rpc.Reason(err)
	hint := ""
	for _, e := range explanations {
		if e.reason != "" && e.reason != reason {
			continue
		}
		match, ok := e.match(codes.Code(p.GetCode()), p.GetMessage(), made)
		if !ok {
			continue
		}
		if hint = e.hint; e.what != "" {
			p.Message = strings.ReplaceAll(strings.ReplaceAll(e.what, "%[1]s", addr), "%[2]s", match)
		}
		break
	}
	p.Message = text.Clean(p.GetMessage(), maxMessage)
	return &failure{status.FromProto(p), hint}
}

// match reports whether the row explains the failure. rest is the message from the match to its end.
func (e explanation) match(code codes.Code, message string, made transport) (rest string, ok bool) {
	if e.code != 0 && e.code != code || e.transport != 0 && e.transport != made {
		return "", false
	}
	if len(e.contains) == 0 {
		return message, true
	}
	for _, c := range e.contains {
		if at := strings.Index(message, c); at >= 0 {
			rest = strings.TrimPrefix(message[at:], "per-RPC creds failed due to error: ")
			if strings.Count(rest, `"`)%2 == 1 { // gRPC quotes connection errors, and the quote starts before the match
				rest = strings.TrimSuffix(rest, `"`)
			}
			return rest, true
		}
	}
	return "", false
}

// transport returns how connections are secured.
func (a Access) transport() transport {
	switch {
	case a.TLS.CA == "":
		return plaintext
	case a.TLS.Cert == "":
		return anonymous
	}
	return certified
}

// explained replaces call errors with errors for people.
func explained(addr string, made transport) grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		return explain(invoke(ctx, method, req, reply, conn, opts...), addr, made)
	}
}

// explainedStream does the same for streams.
func explainedStream(addr string, made transport) grpc.StreamClientInterceptor {
	return func(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		stream, err := open(ctx, desc, conn, method, opts...)
		if err != nil {
			return nil, explain(err, addr, made)
		}
		return clearStream{stream, addr, made}, nil
	}
}

// clearStream is a stream whose errors are for people.
type clearStream struct {
	grpc.ClientStream

	addr string
	made transport
}

// RecvMsg implements grpc.ClientStream.
func (s clearStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return explain(err, s.addr, s.made)
}
