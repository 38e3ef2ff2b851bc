package rpc

import (
	"fmt"
	"io"

	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/grpclog"
	"google.golang.org/grpc/mem"
)

// Settings of the gRPC library that are global to the process and must be made before it is used.

// init turns off gRPC's own log. Peers can cause its lines at any rate, and they would go to standard error between ours.
// The logger can be set only before gRPC is used.
func init() { //nolint:gochecknoinits // gRPC has no other safe moment to set its logger
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard))
}

// bufferSizes are the sizes of gRPC's message buffers, as powers of two. The default has no size between 32 kB and 1 MB, and
// each use clears the whole buffer. So a batch of 1,024 rows (57 kB) would clear 1 MB: see "ml-engine BatchPredict" in the
// benchmark.
var bufferSizes = []uint8{8, 10, 12, 14, 15, 16, 17, 18, 19, 20, 22}

// The codec uses no other pool than the default, which must be set before anything else.
func init() { //nolint:gochecknoinits // gRPC documents that it must be set in init
	pool, err := mem.NewBinaryTieredBufferPool(bufferSizes...)
	if err != nil {
		panic(fmt.Sprintf("rpc: buffers of %v: %v", bufferSizes, err))
	}
	experimental.SetDefaultBufferPool(pool)
}
