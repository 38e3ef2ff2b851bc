package rpc

import (
	"context"
	"sync"
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
	// receiveGrace is how long it may take while other calls wait for a slot. A message of 64 KiB takes a few milliseconds.
	receiveGrace = 100 * time.Millisecond
	// leastGrace is how long it may take while a connection with few calls waits for a slot, and this one has many.
	leastGrace = 5 * time.Millisecond
	// maxUnpacked bounds the memory of messages being decompressed: a few kilobytes can expand to the message limit.
	maxUnpacked = 4 * MaxMessage
)

var (
	errSlowMessage = status.Errorf(codes.DeadlineExceeded, "the message did not arrive completely within %v", receiveLimit)
	errMakeRoom    = status.Errorf(codes.ResourceExhausted, "the message did not arrive within %v, and other calls wait: %d calls are open", receiveGrace, maxCalls)
)

// receiving holds the unary calls whose message has not arrived yet, the oldest first. Most arrive within microseconds.
type receiving struct {
	mu    sync.Mutex
	head  incoming // of a circular list
	timer *time.Timer

	// unpacking is a semaphore for compressed messages of unary calls, unpackingStreams one for streams of them.
	unpacking, unpackingStreams chan struct{}
}

// incoming is a call whose message has not arrived yet.
type incoming struct {
	prev, next *incoming
	since      time.Time
	stream     transportStream
	conn       *framed
	refused    error
}

// transportStream are undocumented methods of gRPC's stream. TestHalfSentMessages and TestPackedMessages fail if gRPC
// removes them.
type transportStream interface {
	// WriteStatus ends the call. There is no other way to end a call that is reading its message.
	WriteStatus(st *status.Status) error
	// RecvCompress is the compression of the message; empty for none.
	RecvCompress() string
}

func newReceiving(maxMessage int) *receiving {
	most := min(maxUnpacked/maxMessage, maxCalls)
	r := &receiving{unpacking: make(chan struct{}, most), unpackingStreams: make(chan struct{}, most)}
	r.head.prev, r.head.next = &r.head, &r.head
	return r
}

// receive reads the message of a unary call. The call is refused if that takes too long.
func (r *receiving) receive(ctx context.Context, in *incoming, read func(any) error, message any) error {
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
	in.since, in.stream = time.Now(), stream
	r.mu.Lock()
	in.prev, in.next = r.head.prev, &r.head
	in.prev.next, in.next.prev = in, in
	if r.timer == nil {
		r.timer = time.AfterFunc(receiveLimit, r.sweep)
	}
	r.mu.Unlock()
	err := read(message)
	r.mu.Lock()
	if in.refused == nil {
		in.remove()
	}
	refused := in.refused
	r.mu.Unlock()
	if refused != nil {
		return refused
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

func (in *incoming) remove() {
	in.prev.next, in.next.prev = in.next, in.prev
	in.prev, in.next = nil, nil
}

// refuseOldest refuses the call that has waited longest for its message, if that is at least longest. It reports whether
// it refused one.
func (r *receiving) refuseOldest(longest time.Duration, because error) bool {
	return r.refuse(longest, because, func(*framed) bool { return true })
}

// refuse is refuseOldest among the calls of some connections.
func (r *receiving) refuse(longest time.Duration, because error, of func(*framed) bool) bool {
	r.mu.Lock()
	in := r.head.next
	for in != &r.head && !of(in.conn) {
		in = in.next
	}
	if in == &r.head || time.Since(in.since) < longest {
		r.mu.Unlock()
		return false
	}
	in.remove()
	in.refused = because
	r.mu.Unlock()
	s, _ := status.FromError(because)
	_ = in.stream.WriteStatus(s) // an error means that the connection, and so the call, is gone
	return true
}

// sweep refuses the calls that exceed receiveLimit.
func (r *receiving) sweep() {
	for r.refuseOldest(receiveLimit, errSlowMessage) {
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if in := r.head.next; in != &r.head {
		r.timer.Reset(time.Until(in.since.Add(receiveLimit)))
	} else {
		r.timer = nil
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
