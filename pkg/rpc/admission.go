package rpc

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"
	"google.golang.org/protobuf/proto"
)

const (
	// maxCalls limits the open calls of the throttled services over all connections: received and not yet answered. With
	// messages of 64 KiB it bounds the memory of half-sent calls. Two cores answer 20,000 calls a second, so the last of 512
	// waits 26 ms. Beyond that callers would time out before their answer, so excess calls are refused at once, which costs
	// a fraction of an answer.
	maxCalls = 512
	// keptCalls of them are reserved for connections with at most fewCalls open, so that a few connections cannot lock out
	// the others.
	keptCalls, fewCalls = maxCalls / 4, 32
	// maxOthers limits the open calls of the other services: control, reports, drift, health and reflection. They have calls of
	// their own, so that they get through and take no slot of a decision. keptOthers of them are reserved for connections with
	// at most fewOthers open.
	maxOthers             = 128
	keptOthers, fewOthers = maxOthers / 2, 8
	// maxStreamCalls limits the streams among the calls, which stay open for long. Decisions keep the rest. keptStreams of them
	// are reserved for connections with at most fewCalls open.
	maxStreamCalls, keptStreams = maxCalls / 2, maxStreamCalls / 4
	// cheapRefusal is the longest remaining deadline of a call that is refused before its message is read. gRPC keeps the
	// timer of such a call until it fires, so refusing one with an hour left would hold memory for an hour.
	cheapRefusal = 2 * time.Second
)

// It takes more than two connections to fill the calls that are not reserved.
var _ [maxCalls - keptCalls - 3*maxStreams]struct{}

// calls is how many calls of some services may be open, and how many are.
type calls struct {
	// kept of limit are reserved for connections with at most few calls open.
	limit, kept, few int64
	open             atomic.Int64
}

// admission counts the open calls of a server, and refuses excess calls.
type admission struct {
	prefixes []string // of the full method names of the throttled services
	own      calls    // of the throttled services
	others   calls
	streams  atomic.Int64
	*receiving
	refused prometheus.Counter
	// largeAnswers is true where answers are as large as messages: those that are not read are counted.
	largeAnswers bool
}

func newAdmission(throttled []string, maxMessage int, reg prometheus.Registerer) *admission {
	c := &admission{
		largeAnswers: maxMessage > SmallMessage,
		own:          calls{limit: maxCalls, kept: keptCalls, few: fewCalls},
		others:       calls{limit: maxOthers, kept: keptOthers, few: fewOthers},
		receiving:    newReceiving(maxMessage),
		refused: promauto.With(reg).NewCounter(prometheus.CounterOpts{
			Name: "grpc_server_crowded_out_total", Help: "Calls that were refused because too many were open.",
		}),
	}
	for _, service := range throttled {
		c.prefixes = append(c.prefixes, "/"+service+"/")
	}
	promauto.With(reg).NewGaugeFunc(prometheus.GaugeOpts{
		Name: "grpc_server_open_calls", Help: "Calls that were received and are not answered yet.",
	}, func() float64 { return float64(c.own.open.Load() + c.others.open.Load()) })
	return c
}

var (
	errTooManyCalls   = status.Errorf(codes.ResourceExhausted, "%d calls are open, more than the server can answer in time: retry later", maxCalls-keptCalls)
	errTooManyOthers  = status.Errorf(codes.ResourceExhausted, "%d calls of this kind are open, and the remaining calls are reserved for decisions: retry later", maxOthers-keptOthers)
	errTooManyStreams = status.Errorf(codes.ResourceExhausted, "%d streams are open, and the remaining calls are reserved for decisions: send more on each stream", maxStreamCalls-keptStreams)
)

// arrival is a received call, and the context of its handler. It is one object, to save an allocation: see "executor, shadow
// off / echo" in the benchmark.
type arrival struct {
	context.Context //nolint:containedctx // arrival is the handler's context

	admission *admission
	incoming  incoming
	// counted is false for a call that its handler must refuse; throttled is true for a call of a throttled service.
	counted, throttled bool
	// inHandler is true once its handler runs, unless the context ended before.
	inHandler bool
	// stop cancels the callback on the end of the context. It reports false if the context has already ended.
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

// end records that the call is no longer open.
func (a *arrival) end() {
	a.calls().open.Add(-1)
	a.incoming.conn.admitted.Add(-1)
}

// calls returns where the call counts.
func (a *arrival) calls() *calls {
	if a.throttled {
		return &a.admission.own
	}
	return &a.admission.others
}

// enter counts the call as open and reports whether it is within the limits.
func (a *arrival) enter() bool {
	r := a.calls()
	limit := r.limit
	if a.incoming.conn.admitted.Add(1) > r.few {
		limit -= r.kept
	}
	return r.open.Add(1) <= limit
}

// refuseGreedy admits a call of a connection with few open calls: it refuses one that is still incomplete, of a connection
// with many. It reports whether there was one.
func (c *admission) refuseGreedy(a *arrival) bool {
	many := func(conn *framed) bool { return conn.admitted.Load() > a.calls().few }
	return !many(a.incoming.conn) && c.refuse(leastGrace, errMakeRoom, many)
}

// tooMany returns the error of a call that is not admitted.
func (a *arrival) tooMany() error {
	if a.throttled {
		return errTooManyCalls
	}
	return errTooManyOthers
}

// throttles reports whether the method is one of a throttled service.
func (c *admission) throttles(method string) bool {
	for _, prefix := range c.prefixes { // in tap, before every call: without a closure
		if strings.HasPrefix(method, prefix) {
			return true
		}
	}
	return false
}

// tap is called by gRPC when the headers of a call have arrived.
func (c *admission) tap(ctx context.Context, info *tap.Info) (context.Context, error) {
	a := &arrival{Context: ctx, admission: c, throttled: c.throttles(info.FullMethodName)}
	a.incoming.conn = connOf(ctx)
	if !a.enter() && !c.refuseOldest(receiveGrace, errMakeRoom) && !c.refuseGreedy(a) {
		a.end()
		c.refused.Inc()
		if t, ok := ctx.Deadline(); ok && time.Until(t) > cheapRefusal {
			return a, nil
		}
		return nil, a.tooMany()
	}
	a.counted = true
	// Not every call reaches its handler: its method may be unknown, or its deadline may have passed. Its context always ends.
	a.stop = context.AfterFunc(ctx, a.end)
	return a, nil
}

// begun returns the call of a handler's context, or an error if it must be refused. A call that is not counted
// is nil.
func begun(ctx context.Context) (*arrival, error) {
	a, ok := ctx.Value(arrivalKey{}).(*arrival)
	switch {
	case !ok:
		return nil, nil //nolint:nilnil // as documented
	case !a.counted:
		return nil, a.tooMany()
	}
	a.inHandler = a.stop()
	return a, nil
}

// done records that the call is answered.
func (a *arrival) done() {
	if a != nil && a.inHandler {
		a.end()
	}
}

// counted returns the service with methods that record their start and their end, and that bound the wait for their message.
func (c *admission) counted(desc *grpc.ServiceDesc) *grpc.ServiceDesc {
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
				hold(a.incoming.conn, answer)
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
			most := int64(maxStreamCalls)
			if a != nil && a.incoming.conn.admitted.Load() > fewCalls {
				most -= keptStreams
			}
			defer c.streams.Add(-1)
			if c.streams.Add(1) > most {
				c.refused.Inc()
				return errTooManyStreams
			}
			leave, err := c.openPacked(stream.Context())
			if err != nil {
				c.refused.Inc()
				return err
			}
			defer leave()
			if a != nil && c.largeAnswers {
				stream = held{stream, a.incoming.conn}
			}
			return m.Handler(impl, stream)
		}
	}
	return &wrapped
}

// hold counts an answer that the client has to read.
func hold(conn *framed, answer any) {
	if m, ok := answer.(proto.Message); ok && conn.wire != nil {
		conn.answer(int64(proto.Size(m)) + messageHeader)
	}
}

// held is a stream whose answers are counted.
type held struct {
	grpc.ServerStream

	conn *framed
}

// SendMsg implements grpc.ServerStream.
func (s held) SendMsg(m any) error {
	hold(s.conn, m)
	return s.ServerStream.SendMsg(m)
}
