package rpc

import (
	"fmt"

	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/mem"
)

// bufferSizes are the sizes of the buffers that gRPC keeps for messages, as powers of two. gRPC's own have nothing between
// 32 kB and 1 MB, and a buffer is cleared whole before each use: a batch of 1,024 rows, 57 kB, had a megabyte cleared for it.
// See "ml-engine BatchPredict" in the bench.
var bufferSizes = []uint8{8, 10, 12, 14, 15, 16, 17, 18, 19, 20, 22}

// The pool is gRPC's default, and so set before anything else begins, since the codec takes no other.
func init() { //nolint:gochecknoinits // gRPC wants it there
	pool, err := mem.NewBinaryTieredBufferPool(bufferSizes...)
	if err != nil {
		panic(fmt.Sprintf("rpc: buffers of %v: %v", bufferSizes, err))
	}
	experimental.SetDefaultBufferPool(pool)
}
