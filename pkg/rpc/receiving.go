package rpc

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/gzip" // requests may be compressed
	"google.golang.org/grpc/status"
)

const (
	// receiveLimit is how long the message of a unary call may take to arrive after its headers.
	receiveLimit = 5 * time.Second
	// maxUnpacked bounds the memory of messages being decompressed: a few kilobytes can expand to the message limit.
	maxUnpacked = 4 * MaxMessage
)

var errSlowMessage = status.Newf(codes.DeadlineExceeded, "the message did not arrive completely within %v", receiveLimit)

// receiving bounds the calls that receive their message.
type receiving struct {
	// unpacking is a semaphore for compressed messages of unary calls, unpackingStreams one for streams of them.
	unpacking, unpackingStreams chan struct{}
}

// transportStream are undocumented methods of gRPC's stream. TestHalfSentMessages and TestPackedMessages fail if gRPC
// removes them.
type transportStream interface {
	// WriteStatus ends the call. There is no other way to end a call that is reading its message.
	WriteStatus(st *status.Status) error
	// RecvCompress is the compression of the message; empty for none.
	RecvCompress() string
}

func newReceiving(maxMessage int) receiving {
	most := min(maxUnpacked/maxMessage, maxCalls)
	return receiving{unpacking: make(chan struct{}, most), unpackingStreams: make(chan struct{}, most)}
}

// receive reads the message of a unary call, within receiveLimit. Meanwhile the call does not count as open, so partially sent
// calls keep no one out. wire bounds their memory.
func (r *receiving) receive(ctx context.Context, s *slot, read func(any) error, message any) error {
	stream, ok := grpc.ServerTransportStreamFromContext(ctx).(transportStream)
	if !ok {
		return read(message)
	}
	if packed(stream) {
		select {
		case r.unpacking <- struct{}{}:
			defer func() { <-r.unpacking }()
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
	}
	s.leave()
	defer s.calls.open.Add(1)
	// An error of WriteStatus means that the connection, and so the call, is gone.
	limit := time.AfterFunc(receiveLimit, func() { _ = stream.WriteStatus(errSlowMessage) })
	err := read(message)
	if !limit.Stop() {
		return errSlowMessage.Err()
	}
	return err
}

// openPacked returns an error for a stream of compressed messages if too many are open: each of them may decompress a message at
// any time. It returns a function that must be called at the end of the stream.
func (r *receiving) openPacked(ctx context.Context) (leave func(), err error) {
	stream, ok := grpc.ServerTransportStreamFromContext(ctx).(transportStream)
	if !ok || !packed(stream) {
		return func() {}, nil
	}
	select {
	case r.unpackingStreams <- struct{}{}:
		return func() { <-r.unpackingStreams }, nil
	default:
		return nil, status.Errorf(codes.ResourceExhausted, "%d streams of compressed messages are open: send without compression", cap(r.unpackingStreams))
	}
}

func packed(stream transportStream) bool {
	name := stream.RecvCompress()
	return name != "" && name != encoding.Identity
}

// answerUnpacked sends the response of a call uncompressed. By default gRPC compresses it like the request, which takes 1 MB
// of memory per response and makes most responses larger.
func answerUnpacked(ctx context.Context) {
	if stream, ok := grpc.ServerTransportStreamFromContext(ctx).(transportStream); ok && packed(stream) {
		_ = grpc.SetSendCompressor(ctx, encoding.Identity) // identity is always registered
	}
}
