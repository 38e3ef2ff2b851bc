package rpc

import (
	"bytes"
	"io"
	"runtime/debug"

	"google.golang.org/grpc/grpclog"
)

// init turns gRPC's own log off. Peers cause its lines, at any rate, and it would write them to standard error beside our
// log. It can be set only before gRPC is used.
func init() { //nolint:gochecknoinits // gRPC has no other safe moment to set its logger
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard))
}

// panicStack is the stack of a handler that panicked, from the panic on: the frames of the recovery come before it.
func panicStack() string {
	stack := debug.Stack()
	if i := bytes.Index(stack, []byte("\npanic(")); i >= 0 {
		stack = stack[i+1:]
	}
	return string(stack)
}
