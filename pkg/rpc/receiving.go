package rpc

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/gzip" // requests may be packed
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

const (
	// receiveLimit is how long the message of a unary call may take to arrive, from the moment that the call has come.
	receiveLimit = 5 * time.Second
	// receiveGrace is how long it may take when other calls wait for room. A message of 64 KiB takes a few milliseconds.
	receiveGrace = 100 * time.Millisecond
	// leastGrace is how long it may take when a connection with few calls waits for room, and this one has many.
	leastGrace = 5 * time.Millisecond
	// maxUnpacked bounds the memory of messages that are being unpacked: one of a few kilobytes becomes as large as a message may be.
	maxUnpacked = 4 * MaxMessage
)

var (
	errSlowMessage = status.Errorf(codes.DeadlineExceeded, "the message did not arrive within %v, or its end was not sent", receiveLimit)
	errMakeRoom    = status.Errorf(codes.ResourceExhausted, "the message did not arrive within %v, and other calls wait: %d calls are open", receiveGrace, maxCalls)
)

// receiving are the unary calls whose message is not there yet, the oldest first. Most are there within microseconds.
type receiving struct {
	mu    sync.Mutex
	head  incoming // of a ring
	timer *time.Timer

	unpacking chan struct{} // a place for each packed message that is received
}

// incoming is a call whose message is not there yet.
type incoming struct {
	prev, next *incoming
	since      time.Time
	stream     transportStream
	client     *peer.Peer
	refused    error
}

// transportStream is what gRPC's stream of a call has besides what it documents. TestHalfSentMessages and TestPackedMessages
// fail when it does not.
type transportStream interface {
	// WriteStatus ends the call. gRPC has no other way to end one that reads its message: its context is gRPC's own.
	WriteStatus(st *status.Status) error
	// RecvCompress is how the message is packed; empty for not at all.
	RecvCompress() string
}

func newReceiving(maxMessage int) *receiving {
	r := &receiving{unpacking: make(chan struct{}, min(maxUnpacked/maxMessage, maxCalls))}
	r.head.prev, r.head.next = &r.head, &r.head
	return r
}

// receive reads the message of a unary call; the call is refused when that takes too long.
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

func (in *incoming) remove() {
	in.prev.next, in.next.prev = in.next, in.prev
	in.prev, in.next = nil, nil
}

// refuseOldest refuses the call that has been at it the longest, if that is longer than it may. It reports whether there was one.
func (r *receiving) refuseOldest(longest time.Duration, because error) bool {
	return r.refuse(longest, because, func(*peer.Peer) bool { return true })
}

// refuse is refuseOldest among the calls of some clients.
func (r *receiving) refuse(longest time.Duration, because error, of func(*peer.Peer) bool) bool {
	r.mu.Lock()
	in := r.head.next
	for in != &r.head && !of(in.client) {
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
	_ = in.stream.WriteStatus(s) // it fails when the connection is gone, and the call with it
	return true
}

// sweep refuses the calls that have taken too long.
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

// answerUnpacked makes the response of a call unpacked. gRPC would pack it as the request is: that takes a megabyte for each
// response under way, and most are smaller when they are not.
func answerUnpacked(ctx context.Context) {
	if stream, ok := grpc.ServerTransportStreamFromContext(ctx).(transportStream); ok && packed(stream) {
		_ = grpc.SetSendCompressor(ctx, encoding.Identity) // it is always known
	}
}
