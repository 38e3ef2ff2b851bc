package rpc

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"
	"google.golang.org/protobuf/proto"
)

const (
	// maxCalls is how many calls of the crowded service may be open, over all connections: they have come, and are not answered.
	// With messages of 64 KiB this bounds the memory that half-sent calls take. At the 20,000 a second that two cores answer, the
	// last of so many waits 26 ms. More would be answered when their callers have gone, and the work would be lost to those who
	// still wait; so they are refused at once, which costs a fraction of an answer.
	maxCalls = 512
	// keptCalls of them are for connections that have no more than fewCalls open, so that a few connections cannot keep out the
	// others.
	keptCalls, fewCalls = maxCalls / 4, 32
	// maxOthers is how many calls of the other services may be open beside them: those of operators, reports, health and
	// reflection. They must get through, and must not take the place of decisions. keptOthers of them are for connections that
	// have no more than fewOthers calls open.
	maxOthers             = 128
	keptOthers, fewOthers = maxOthers / 2, 8
	// maxStreamCalls is how many of the calls may be streams, which stay open for long: decisions keep the rest.
	maxStreamCalls = maxCalls / 2
	// busyCrowd is how many wait to begin when there is no time for anything but answers: more than a connection has.
	busyCrowd = maxStreams
	// busyCalls is how many are open when none may stay open to wait for something else, such as a shadow.
	busyCalls = maxCalls * 3 / 4
	// cheapRefusal is the longest time left to a call that is refused before its message is read. gRPC leaves the timer of
	// such a call behind until it fires, so that refusing one with an hour left would hold memory for an hour.
	cheapRefusal = 2 * time.Second
)

// Three connections fill what is not kept for others.
var _ [maxCalls - keptCalls - 3*maxStreams]struct{}

// room is how many calls of some services may be open, and how many are.
type room struct {
	limit, kept, few int64
	open             atomic.Int64
}

// crowd counts the calls of a server that are open, and those of its crowded service that wait to begin.
type crowd struct {
	prefix  string // of the full names of the crowded service's methods
	own     room   // of the crowded service
	others  room
	streams atomic.Int64
	waiting atomic.Int64
	*receiving
	refused prometheus.Counter
	// largeAnswers is true where answers are large, as the messages are: those that are not read are counted.
	largeAnswers bool

	mu sync.Mutex
	of map[*peer.Peer]int64 // the open calls of each connection; none is 0
}

func newCrowd(service string, maxMessage int, reg prometheus.Registerer) *crowd {
	c := &crowd{
		prefix: "/" + service + "/", largeAnswers: maxMessage > SmallMessage,
		own: room{limit: maxCalls, kept: keptCalls, few: fewCalls}, others: room{limit: maxOthers, kept: keptOthers, few: fewOthers},
		of: map[*peer.Peer]int64{}, receiving: newReceiving(maxMessage), refused: promauto.With(reg).NewCounter(prometheus.CounterOpts{
			Name: "grpc_server_crowded_out_total", Help: "Calls that were refused because too many were open.",
		}),
	}
	promauto.With(reg).NewGaugeFunc(prometheus.GaugeOpts{
		Name: "grpc_server_open_calls", Help: "Calls that have come and are not answered.",
	}, func() float64 { return float64(c.own.open.Load() + c.others.open.Load()) })
	return c
}

var (
	errCrowded = status.Errorf(codes.ResourceExhausted, "%d calls are open: this is more than the server can answer in time", maxCalls-keptCalls)
	errOthers  = status.Errorf(codes.ResourceExhausted, "%d calls of this kind are open, and decisions need the rest of the room", maxOthers-keptOthers)
	errStreams = status.Errorf(codes.ResourceExhausted, "%d streams are open, and the other calls need the rest of the room: send more on each", maxStreamCalls)
)

// arrival is a call that has come, as the context of its handler. One object is all that it takes, beside the watch of its
// context: see "executor, shadow off / echo" in the bench.
type arrival struct {
	context.Context //nolint:containedctx // it is the context

	crowd    *crowd
	peer     *peer.Peer
	incoming incoming
	// counted is false for a call that its handler must refuse; crowded is true for one of the crowded service.
	counted, crowded bool
	// inHandler is true once its handler runs, unless its context had ended before.
	inHandler bool
	// stop ends the watch of the context, unless that has ended.
	stop func() bool
}

type arrivalKey struct{}

// Value implements context.Context.
func (a *arrival) Value(key any) any {
	if key == (arrivalKey{}) {
		return a
	}
	return a.Context.Value(key)
}

// begin notes that the call no longer waits.
func (a *arrival) begin() {
	if a.crowded {
		a.crowd.waiting.Add(-1)
	}
}

// end notes that the call is not open any more.
func (a *arrival) end() {
	c := a.crowd
	a.room().open.Add(-1)
	c.mu.Lock()
	if c.of[a.peer]--; c.of[a.peer] == 0 {
		delete(c.of, a.peer)
	}
	c.mu.Unlock()
}

// room is where the call counts.
func (a *arrival) room() *room {
	if a.crowded {
		return &a.crowd.own
	}
	return &a.crowd.others
}

// enter takes room for a call. It reports whether there was some.
func (c *crowd) enter(a *arrival) bool {
	c.mu.Lock()
	c.of[a.peer]++
	own := c.of[a.peer]
	c.mu.Unlock()
	r := a.room()
	limit := r.limit
	if own > r.few {
		limit -= r.kept
	}
	return r.open.Add(1) <= limit
}

// refuseGreedy makes room for a call of a connection that has few open: it refuses one whose message is not there yet, of a
// connection that has more than its share. It reports whether there was one.
func (c *crowd) refuseGreedy(a *arrival) bool {
	many := func(p *peer.Peer) bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.of[p] > a.room().few
	}
	return !many(a.peer) && c.refuse(leastGrace, errMakeRoom, many)
}

// tooMany is why a call is refused for which there is no room.
func (a *arrival) tooMany() error {
	if a.crowded {
		return errCrowded
	}
	return errOthers
}

// leave notes that the call has ended before it came to its handler.
func (a *arrival) leave() {
	a.begin()
	a.end()
}

// tap is asked by gRPC when the headers of a call have come.
func (c *crowd) tap(ctx context.Context, info *tap.Info) (context.Context, error) {
	a := &arrival{Context: ctx, crowd: c, crowded: strings.HasPrefix(info.FullMethodName, c.prefix)}
	a.peer, _ = peer.FromContext(ctx)
	a.incoming.client = a.peer
	if !c.enter(a) && !c.refuseOldest(receiveGrace, errMakeRoom) && !c.refuseGreedy(a) {
		a.end()
		c.refused.Inc()
		if t, ok := ctx.Deadline(); ok && time.Until(t) > cheapRefusal {
			return a, nil
		}
		return nil, a.tooMany()
	}
	if a.counted = true; a.crowded {
		c.waiting.Add(1)
	}
	// Not every call comes to its handler: its method may be unknown, its time be up. Its context ends in any case.
	a.stop = context.AfterFunc(ctx, a.leave)
	return a, nil
}

// begun is the call of a handler's context, which has begun, or why it must be refused. nil is a call that is not counted.
func begun(ctx context.Context) (*arrival, error) {
	a, ok := ctx.Value(arrivalKey{}).(*arrival)
	switch {
	case !ok:
		return nil, nil //nolint:nilnil // as documented
	case !a.counted:
		return nil, a.tooMany()
	}
	if a.inHandler = a.stop(); a.inHandler {
		a.begin()
	}
	return a, nil
}

// done notes that the call is answered.
func (a *arrival) done() {
	if a != nil && a.inHandler {
		a.end()
	}
}

// counted is the service with methods that note their beginning and their end, and that wait for their message no longer than
// they may.
func (c *crowd) counted(desc *grpc.ServiceDesc) *grpc.ServiceDesc {
	wrapped := *desc
	wrapped.Methods, wrapped.Streams = slices.Clone(desc.Methods), slices.Clone(desc.Streams)
	for i, m := range desc.Methods {
		wrapped.Methods[i].Handler = func(impl any, ctx context.Context, read func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
			a, err := begun(ctx)
			if err != nil {
				return nil, err
			}
			defer a.done()
			answerUnpacked(ctx)
			if a == nil {
				return m.Handler(impl, ctx, read, interceptor)
			}
			answer, err := m.Handler(impl, ctx, func(message any) error { return c.receive(ctx, &a.incoming, read, message) }, interceptor)
			if err == nil && c.largeAnswers {
				hold(a.peer, answer)
			}
			return answer, err
		}
	}
	for i, m := range desc.Streams {
		wrapped.Streams[i].Handler = func(impl any, stream grpc.ServerStream) error {
			a, err := begun(stream.Context())
			if err != nil {
				return err
			}
			defer a.done()
			answerUnpacked(stream.Context())
			defer c.streams.Add(-1)
			if c.streams.Add(1) > maxStreamCalls {
				c.refused.Inc()
				return errStreams
			}
			if a != nil && c.largeAnswers {
				stream = held{stream, a.peer}
			}
			return m.Handler(impl, stream)
		}
	}
	return &wrapped
}

// hold counts an answer that the client has to read.
func hold(client *peer.Peer, answer any) {
	conn := connOf(client)
	if m, ok := answer.(proto.Message); ok && conn != nil {
		conn.answer(int64(proto.Size(m)) + messageHeader)
	}
}

// held is a stream whose answers are counted.
type held struct {
	grpc.ServerStream

	client *peer.Peer
}

// SendMsg implements grpc.ServerStream.
func (s held) SendMsg(m any) error {
	hold(s.client, m)
	return s.ServerStream.SendMsg(m)
}
