package rpc

import (
	"context"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// RegisterService implements grpc.ServiceRegistrar: it registers the service with unary methods that report the calls
// whose message gRPC refuses. Interceptors never see those, since a generated method reads its message before it calls
// them. A stats.Handler would see them as well, but makes every call dearer by about a tenth: gRPC copies the header for
// it and makes seven events of each call.
func (s *Server) RegisterService(desc *grpc.ServiceDesc, impl any) {
	if s.onRefused != nil {
		reporting := *desc
		reporting.Methods = slices.Clone(desc.Methods)
		for i, m := range reporting.Methods {
			reporting.Methods[i].Handler = reportRefusals(m.Handler, "/"+desc.ServiceName+"/"+m.MethodName, s.onRefused)
		}
		desc = &reporting
	}
	s.Server.RegisterService(s.crowd.counted(desc), impl)
}

func reportRefusals(handler grpc.MethodHandler, method string, report func(string, codes.Code)) grpc.MethodHandler {
	return func(impl any, ctx context.Context, read func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
		return handler(impl, ctx, func(message any) error {
			err := read(message)
			// Other codes are not gRPC's refusal: the caller left, or the connection broke, before the message was there.
			if code := status.Code(err); code == codes.ResourceExhausted || code == codes.Internal {
				report(method, code)
			}
			return err
		}, interceptor)
	}
}
