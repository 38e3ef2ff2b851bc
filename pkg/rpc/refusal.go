package rpc

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
)

// refusals reports the calls that gRPC ended before a handler had their message. Interceptors never see them.
type refusals struct {
	report func(method string, code codes.Code)
}

// refusal is what is known of one call on its way. Its fields are touched by the goroutine of that call alone.
type refusal struct {
	method string
	read   bool // the message has been read, so that the call is the handler's to count
}

type refusalKey struct{}

// TagRPC implements stats.Handler.
func (refusals) TagRPC(ctx context.Context, info *stats.RPCTagInfo) context.Context {
	return context.WithValue(ctx, refusalKey{}, &refusal{method: info.FullMethodName})
}

// HandleRPC implements stats.Handler.
func (r refusals) HandleRPC(ctx context.Context, s stats.RPCStats) {
	call, ok := ctx.Value(refusalKey{}).(*refusal)
	if !ok {
		return
	}
	switch s := s.(type) {
	case *stats.InPayload:
		call.read = true
	case *stats.End:
		// Other codes are not gRPC's refusal: the caller left, or the connection broke, before the message was there.
		if code := status.Code(s.Error); !call.read && (code == codes.ResourceExhausted || code == codes.Internal) {
			r.report(call.method, code)
		}
	}
}

// TagConn implements stats.Handler.
func (refusals) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn implements stats.Handler.
func (refusals) HandleConn(context.Context, stats.ConnStats) {}
