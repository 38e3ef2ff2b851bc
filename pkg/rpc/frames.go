package rpc

import (
	"context"
	"encoding/binary"
	"log/slog"
	"math/bits"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"golang.org/x/net/http2"
	"golang.org/x/time/rate"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/peer"
)

const (
	frameHeader   = 9 // bytes of an HTTP/2 frame's header
	messageHeader = 5 // bytes before a gRPC message: its encoding and its length

	// smallFragment is the size below which a fragment of a message takes less memory than gRPC's overhead for it. A client
	// splits a large message into frames of 16 KiB, and never sends maxFragments small ones.
	smallFragment, maxFragments = 1 << 10, 128
	// fragmentCost is gRPC's memory overhead for each fragment of a message, in bytes.
	fragmentCost = 64
	// answerCost is the memory for each byte of an unread answer: its buffer is up to twice as large, and computing it left
	// garbage.
	answerCost = 3

	// maxStray is how many bytes a client may send for calls that are already answered, without a complete call in between.
	// A gRPC client stops when it reads the refusal; until then up to one window per call is in flight.
	maxStray = 4 * window

	// resetRate is how many calls a client may cancel per second, resetBurst how many at once. A connection that cancels more
	// is read more slowly, since canceled calls waste work on the server.
	resetRate, resetBurst = 1000, 1000
	// idleRate and idleBurst limit frames that belong to no call, such as PING and SETTINGS, and empty frames. Every finished
	// call and every DATA frame of an answer allows callFrames more: the WINDOW_UPDATE for the answer, the replies to pings,
	// and the client's bandwidth probes, one ping per round trip of a stream.
	idleRate, idleBurst, callFrames = 1000, 4000, 4
	// maxUnanswered limits calls over all connections whose answers were not read. Above it, a connection is closed if it
	// finished no call for the time stalled; above maxUnansweredAtAll, any connection. Each call takes a few kilobytes.
	maxUnanswered, maxUnansweredAtAll = 32 * maxStreams, 96 * maxStreams
	stalled                           = time.Second
	// closedPause is the minimum time between two log lines about closed connections.
	closedPause = time.Minute
)

// The reasons for closing a connection.
const (
	closedMemory    = "memory"
	closedFragments = "fragments"
	closedStray     = "stray"
	closedUnread    = "unread"
)

// wire bounds the memory and work that clients can cause before a message is complete, and before an answer is read. gRPC
// bounds one message and one connection; wire bounds the sum over all connections. It inspects the frames of each connection.
type wire struct {
	limit  int64 // bytes
	held   atomic.Int64
	calls  atomic.Int64 // calls without an answer
	logger *slog.Logger
	closed map[string]prometheus.Counter

	logged rate.Sometimes

	mu    sync.Mutex
	conns map[*framed]struct{}
}

// newWire returns a wire that holds at most limit bytes of incomplete messages and of unread answers.
func newWire(limit int64, logger *slog.Logger, reg prometheus.Registerer) *wire {
	w := &wire{limit: limit, logger: logger, logged: rate.Sometimes{Interval: closedPause}, conns: map[*framed]struct{}{}, closed: map[string]prometheus.Counter{}}
	f := promauto.With(reg)
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "grpc_server_partial_message_bytes", Help: "Memory of partially received messages and of large answers that clients have not read, in bytes.",
	}, func() float64 { return float64(w.held.Load()) })
	closed := f.NewCounterVec(prometheus.CounterOpts{
		Name: "grpc_server_connections_closed_total", Help: "Connections that were closed because they held most of the memory for incomplete messages and unread answers, sent a message in too many fragments, kept sending refused calls, or had the most unread answers.",
	}, []string{"reason"})
	for _, reason := range []string{closedMemory, closedFragments, closedStray, closedUnread} {
		w.closed[reason] = closed.WithLabelValues(reason)
	}
	return w
}

// credentials wraps the server's credentials, which may be nil, so that their connections are watched.
func (w *wire) credentials(c credentials.TransportCredentials) credentials.TransportCredentials {
	if c == nil {
		c = insecure.NewCredentials()
	}
	return watched{c, w}
}

type watched struct {
	credentials.TransportCredentials

	wire *wire
}

// ServerHandshake implements credentials.TransportCredentials.
func (c watched) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := c.TransportCredentials.ServerHandshake(raw)
	if err != nil {
		return nil, nil, err
	}
	f := &framed{
		Conn: conn, raw: raw, wire: c.wire, preface: len(http2.ClientPreface), calls: map[uint32]message{}, done: make(chan struct{}),
		resets: bucket{rate: resetRate, burst: resetBurst, level: resetBurst}, idle: bucket{rate: idleRate, burst: idleBurst, level: idleBurst},
	}
	f.progress.Store(time.Now().UnixNano())
	c.wire.mu.Lock()
	c.wire.conns[f] = struct{}{}
	c.wire.mu.Unlock()
	return f, info, nil
}

// framedAddr is the local address of a watched connection. It links the peer of a call to the connection.
type framedAddr struct {
	net.Addr

	conn *framed
}

// LocalAddr implements net.Conn.
func (f *framed) LocalAddr() net.Addr { return framedAddr{f.Conn.LocalAddr(), f} }

// connOf returns the connection of a call.
func connOf(ctx context.Context) *framed {
	if p, ok := peer.FromContext(ctx); ok {
		if a, ok := p.LocalAddr.(framedAddr); ok {
			return a.conn
		}
	}
	return &framed{} // not watched: it counts alone
}

// Clone implements credentials.TransportCredentials.
func (c watched) Clone() credentials.TransportCredentials {
	return watched{c.TransportCredentials.Clone(), c.wire}
}

// close closes a connection, once, and counts the reason.
func (w *wire) close(f *framed, reason string) {
	if f == nil || !f.gone.CompareAndSwap(false, true) {
		return
	}
	held := f.release()
	w.closed[reason].Inc()
	w.logged.Do(func() {
		w.logger.Warn("a connection was closed: its incomplete messages or unread answers took too much memory", "reason", reason,
			"from", f.RemoteAddr().String(), "bytes", held)
	})
	_ = f.raw.Close() // its reader then ends and closes the rest
}

// hold counts bytes of a connection. If all connections together hold too much, it closes the one that holds most. A client
// that sends complete messages holds almost nothing.
func (w *wire) hold(f *framed, n int64) {
	f.held.Add(n)
	over := w.held.Add(n) > w.limit && n > 0
	if f.gone.Load() {
		f.release()
		return
	}
	if over {
		w.close(w.most(func(c *framed) int64 { return c.held.Load() }), closedMemory)
	}
}

// most returns the connection with the largest positive value of the function; nil if there is none.
func (w *wire) most(of func(*framed) int64) *framed {
	var most *framed
	record := int64(0)
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.conns {
		if n := of(c); !c.gone.Load() && n > record {
			most, record = c, n
		}
	}
	return most
}

// unanswered counts calls without an answer. If there are too many, the connection with the most is closed.
func (w *wire) unanswered(f *framed, n int64) {
	f.open.Add(n)
	all := w.calls.Add(n)
	if f.gone.Load() {
		f.release()
		return
	}
	if n < 0 {
		f.progress.Store(time.Now().UnixNano())
		return
	}
	if all <= maxUnanswered {
		return
	}
	since := time.Now().Add(-stalled).UnixNano()
	w.close(w.most(func(c *framed) int64 {
		if all <= maxUnansweredAtAll && c.progress.Load() > since {
			return 0
		}
		return c.open.Load()
	}), closedUnread)
}

// message tracks the incoming message of a call.
type message struct {
	header    [messageHeader]byte
	n         uint8  // bytes of header received
	need      uint32 // bytes of the message missing
	cost      uint32 // memory held
	fragments uint16
}

// whole reports whether no message is incomplete.
func (m *message) whole() bool { return m.n == 0 && m.need == 0 }

// take consumes bytes of the call's messages. A complete message no longer counts as held.
func (m *message) take(b []byte) {
	for len(b) > 0 {
		if m.need == 0 {
			k := copy(m.header[m.n:], b)
			m.n += uint8(k)
			b = b[k:]
			if m.n < messageHeader {
				return
			}
			m.n, m.need = 0, binary.BigEndian.Uint32(m.header[1:])
		}
		k := min(len(b), int(m.need))
		m.need -= uint32(k)
		b = b[k:]
		if m.need == 0 {
			m.cost, m.fragments = 0, 0
		}
	}
}

// frame is the parser of one direction's frames.
type frame struct {
	header [frameHeader]byte
	n      int // bytes of header received
	left   int // bytes of payload missing
}

func (f *frame) kind() http2.FrameType { return http2.FrameType(f.header[3]) }
func (f *frame) flags() http2.Flags    { return http2.Flags(f.header[4]) }
func (f *frame) size() int             { return int(f.header[0])<<16 | int(f.header[1])<<8 | int(f.header[2]) }
func (f *frame) stream() uint32        { return binary.BigEndian.Uint32(f.header[5:]) &^ (1 << 31) }

// walk parses bytes and calls part with each piece of a payload. last is set at the end of a frame.
func (f *frame) walk(b []byte, part func(payload []byte, last bool)) {
	for len(b) > 0 {
		if f.n < frameHeader {
			k := copy(f.header[f.n:], b)
			f.n += k
			b = b[k:]
			if f.n < frameHeader {
				return
			}
			f.left = f.size()
			if f.left > 0 {
				continue
			}
		}
		k := min(f.left, len(b))
		f.left -= k
		if f.left == 0 {
			f.n = 0
		}
		part(b[:k], f.left == 0)
		b = b[k:]
	}
}

// framed is a connection whose frames are inspected.
type framed struct {
	net.Conn

	raw  net.Conn
	wire *wire
	held atomic.Int64
	open atomic.Int64 // len(calls)
	gone atomic.Bool  // it is closed, or being closed
	// progress is when a call last ended, in nanoseconds.
	progress atomic.Int64
	once     sync.Once
	done     chan struct{}

	// Used by the reader only.
	preface int
	in      frame
	padding int // of the current DATA frame
	stray   int
	idle    bucket
	resets  bucket

	out frame // used by the writer only

	mu    sync.Mutex
	calls map[uint32]message // calls without an answer, by stream
	ended int                // calls ended and DATA frames sent since the last read
	// unread is the memory of unwritten answers, which is held; largest is the memory of the largest answer so far.
	unread, largest int64
}

// Read implements net.Conn.
func (f *framed) Read(b []byte) (int, error) {
	n, err := f.Conn.Read(b)
	if n == 0 {
		return n, err
	}
	seen := b[:n]
	if f.preface > 0 {
		k := min(f.preface, n)
		f.preface -= k
		seen = seen[k:]
	}
	f.mu.Lock()
	resets, idle := 0, -callFrames*f.ended
	f.ended = 0
	f.in.walk(seen, func(payload []byte, last bool) {
		switch f.in.kind() {
		case http2.FrameHeaders:
			if _, open := f.calls[f.in.stream()]; last && !open {
				f.calls[f.in.stream()] = message{}
				f.wire.unanswered(f, 1)
			}
			return
		case http2.FrameData:
			if f.data(payload, last) {
				return
			}
		case http2.FrameRSTStream:
			if _, open := f.calls[f.in.stream()]; open && last {
				f.end(f.in.stream())
				resets++
			}
		default: // frames that belong to no call, or the rest of oversized headers
		}
		if last {
			idle++
		}
	})
	f.mu.Unlock()
	if wait := max(f.resets.take(resets), f.idle.take(idle)); wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		select {
		case <-t.C:
		case <-f.done:
		}
	}
	return n, err
}

// data consumes a piece of a DATA frame and reports whether the frame has content.
func (f *framed) data(payload []byte, last bool) bool {
	size, flags, stream := f.in.size(), f.in.flags(), f.in.stream()
	if first := f.in.left+len(payload) == size; first {
		f.padding = 0
		if flags.Has(http2.FlagDataPadded) && len(payload) > 0 {
			f.padding, payload = int(payload[0]), payload[1:]
		}
	}
	m, open := f.calls[stream]
	if !open {
		if f.stray += len(payload); f.stray > maxStray {
			f.wire.close(f, closedStray)
		}
		return size > 0
	}
	if over := f.padding - f.in.left; over > 0 { // padding is at the end
		payload = payload[:max(0, len(payload)-over)]
	}
	held := m.cost
	m.take(payload)
	switch {
	case last && flags.Has(http2.FlagDataEndStream):
		if m.whole() {
			f.stray = 0
		}
		m = message{}
	case last && !m.whole():
		m.cost += uint32(costOf(size))
		if size < smallFragment {
			m.fragments++
		}
	}
	f.calls[stream] = m
	if m.cost != held {
		f.wire.hold(f, int64(m.cost)-int64(held))
	}
	if m.fragments > maxFragments {
		f.wire.close(f, closedFragments)
	}
	return size > 0 || flags.Has(http2.FlagDataEndStream)
}

// costOf returns the memory that gRPC holds for a DATA frame: a buffer of its pool, see bufferSizes.
func costOf(size int) int {
	if size <= smallFragment {
		return size + fragmentCost
	}
	return 1<<bits.Len(uint(size-1)) + fragmentCost
}

// end removes a call.
func (f *framed) end(stream uint32) {
	m, open := f.calls[stream]
	if !open {
		return
	}
	delete(f.calls, stream)
	f.ended++
	f.wire.unanswered(f, -1)
	if m.cost > 0 {
		f.wire.hold(f, -int64(m.cost))
	}
	// The rest of an answer is not written once the client has ended its call.
	f.written(f.unread - f.open.Load()*f.largest)
}

// answer counts n bytes of an answer to a call; there may be several. gRPC keeps them until the client reads them.
func (f *framed) answer(n int64) {
	n *= answerCost
	f.mu.Lock()
	defer f.mu.Unlock()
	f.unread += n
	f.largest = max(f.largest, n)
	f.wire.hold(f, n)
}

// written releases n bytes of answers.
func (f *framed) written(n int64) {
	if n = min(n, f.unread); n > 0 {
		f.unread -= n
		f.wire.hold(f, -n)
	}
}

// release releases everything that the connection holds, and returns the number of bytes.
func (f *framed) release() int64 {
	n := f.held.Swap(0)
	f.wire.held.Add(-n)
	f.wire.calls.Add(-f.open.Swap(0))
	return n
}

// Write implements net.Conn.
func (f *framed) Write(b []byte) (int, error) {
	f.mu.Lock()
	f.out.walk(b, func(payload []byte, last bool) {
		if f.out.kind() == http2.FrameData {
			f.written(answerCost * int64(len(payload)))
			if last {
				f.ended++
			}
		}
		reset := f.out.kind() == http2.FrameRSTStream
		ends := f.out.kind() == http2.FrameHeaders && f.out.flags().Has(http2.FlagHeadersEndStream)
		if last && (reset || ends) {
			f.end(f.out.stream())
		}
	})
	f.mu.Unlock()
	return f.Conn.Write(b)
}

// Close implements net.Conn.
func (f *framed) Close() error {
	f.once.Do(func() {
		close(f.done)
		f.wire.mu.Lock()
		delete(f.wire.conns, f)
		f.wire.mu.Unlock()
		f.gone.Store(true)
		f.release()
	})
	return f.Conn.Close()
}

// bucket is a token bucket.
type bucket struct {
	rate, burst, level float64
	at                 time.Time
}

// take takes n tokens, or returns -n, and reports how long to wait for missing ones.
func (b *bucket) take(n int) time.Duration {
	if n <= 0 {
		b.level = min(b.burst, b.level-float64(n))
		return 0
	}
	now := time.Now()
	b.level = min(b.burst, b.level+b.rate*now.Sub(b.at).Seconds()) - float64(n)
	b.at = now
	if b.level >= 0 {
		return 0
	}
	return time.Duration(-b.level / b.rate * float64(time.Second))
}
