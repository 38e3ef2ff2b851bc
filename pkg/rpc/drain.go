package rpc

import (
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// endOnDrain ends the streams of gRPC's own services, health and reflection, when the server drains. They last as long as
// their clients like, so that a single watcher of the health would use up the whole grace of a stop.
func (s *Server) endOnDrain(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if !strings.HasPrefix(info.FullMethod, "/grpc.") {
		return handler(srv, ss)
	}
	// The return of this function ends the stream's context, and with it the handler.
	done := make(chan error, 1)
	go func() { done <- handler(srv, ss) }()
	select {
	case err := <-done:
		return err
	case <-s.draining:
		return status.Error(codes.Unavailable, "the server stops: connect again when it is back")
	}
}
