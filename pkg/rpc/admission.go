package rpc

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"
	"google.golang.org/protobuf/proto"
)

const (
	// maxCalls limits the open calls of the throttled services over all connections, both waiting and being answered. Two
	// cores answer 20,000 calls a second, so the last of 512 waits 26 ms. Beyond that callers would time out before their
	// answer, so excess calls are refused immediately.
	maxCalls = 512
	// maxStreamCalls limits the streams among them, which stay open for long. Unary calls keep the rest.
	maxStreamCalls = maxCalls / 2
	// maxOthers limits the open calls of the other services: control, reports, drift, health and reflection. They have a
	// separate limit, so that they get through and take no slot of a decision.
	maxOthers = 128
)

var errTooManyStreams = status.Errorf(codes.ResourceExhausted, "%d streams are open, and the remaining calls are reserved for decisions: send more on each stream", maxStreamCalls)

// calls counts the open calls of some services.
type calls struct {
	open, streams atomic.Int64
	limit         int64
	tooMany       error // of a call over the limit
}

// admission counts the open calls of a server, and refuses excess calls.
type admission struct {
	prefixes    []string // of the full method names of the throttled services
	own, others calls
	receiving
	refused prometheus.Counter
	// largeAnswers is true if answers can be as large as messages: then unread answers are counted.
	largeAnswers bool
}

func newAdmission(throttled []string, maxMessage int, reg prometheus.Registerer) *admission {
	a := &admission{
		largeAnswers: maxMessage > SmallMessage, receiving: newReceiving(maxMessage),
		own: calls{
			limit: maxCalls, tooMany: status.Errorf(codes.ResourceExhausted, "%d calls are open, more than the server can answer in time: retry later", maxCalls),
		},
		others: calls{
			limit: maxOthers, tooMany: status.Errorf(codes.ResourceExhausted, "%d calls of this kind are open, and the remaining calls are reserved for decisions: retry later", maxOthers),
		},
		refused: promauto.With(reg).NewCounter(prometheus.CounterOpts{
			Name: "grpc_server_crowded_out_total", Help: "Calls that were refused because too many were open.",
		}),
	}
	for _, service := range throttled {
		a.prefixes = append(a.prefixes, "/"+service+"/")
	}
	promauto.With(reg).NewGaugeFunc(prometheus.GaugeOpts{
		Name: "grpc_server_open_calls", Help: "Calls that were received and not answered yet.",
	}, func() float64 { return float64(a.open()) })
	return a
}

// throttles reports whether the method belongs to a throttled service.
func (a *admission) throttles(method string) bool {
	for _, prefix := range a.prefixes { // in tap, before every call: without a closure
		if strings.HasPrefix(method, prefix) {
			return true
		}
	}
	return false
}

// open returns the number of open calls.
func (a *admission) open() int64 { return a.own.open.Load() + a.others.open.Load() }

// slot is a call and the context of its handler, in one object to save an allocation.
type slot struct {
	context.Context //nolint:containedctx // slot is the handler's context

	calls *calls
	// stop cancels the callback on the end of the context. It reports false if the context has already ended. It is nil for a
	// call that its handler must refuse.
	stop func() bool
	// begun is true once the handler runs, unless the context ended first.
	begun bool
}

type slotKey struct{}

// Value implements context.Context.
func (s *slot) Value(key any) any {
	if key == (slotKey{}) {
		return s
	}
	return s.Context.Value(key)
}

// tap is called by gRPC when the headers of a call have arrived. Calls wait for a processor before their handler runs, so a
// count of handlers would miss them. The handler refuses an excess call: if tap did, gRPC would keep the call's timer until its
// deadline, which may be hours away.
func (a *admission) tap(ctx context.Context, info *tap.Info) (context.Context, error) {
	s := &slot{Context: ctx, calls: &a.others}
	if a.throttles(info.FullMethodName) {
		s.calls = &a.own
	}
	if s.calls.open.Add(1) > s.calls.limit {
		s.leave()
		a.refused.Inc()
		return s, nil
	}
	// Not every call reaches its handler: the method may be unknown, or the deadline may have passed. But its context always ends.
	s.stop = context.AfterFunc(ctx, s.leave)
	return s, nil
}

func (s *slot) leave() { s.calls.open.Add(-1) }

// begin returns the slot of a handler's context, or an error if the call must be refused.
func begin(ctx context.Context) (*slot, error) {
	s, _ := ctx.Value(slotKey{}).(*slot)
	if s.stop == nil {
		return nil, s.calls.tooMany
	}
	s.begun = s.stop()
	return s, nil
}

// end records that the call is answered.
func (s *slot) end() {
	if s.begun {
		s.leave()
	}
}

// counted returns desc with methods that count their calls and bound the wait for their message.
func (a *admission) counted(desc *grpc.ServiceDesc) *grpc.ServiceDesc {
	wrapped := *desc
	wrapped.Methods, wrapped.Streams = slices.Clone(desc.Methods), slices.Clone(desc.Streams)
	for i, m := range desc.Methods {
		wrapped.Methods[i].Handler = func(impl any, ctx context.Context, read func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
			s, err := begin(ctx)
			if err != nil {
				return nil, err
			}
			defer s.end()
			answerUnpacked(ctx)
			answer, err := m.Handler(impl, ctx, func(message any) error { return a.receive(ctx, s, read, message) }, interceptor)
			if err == nil && a.largeAnswers {
				hold(connOf(ctx), answer)
			}
			return answer, err
		}
	}
	for i, m := range desc.Streams {
		wrapped.Streams[i].Handler = func(impl any, stream grpc.ServerStream) error {
			s, err := begin(stream.Context())
			if err != nil {
				return err
			}
			defer s.end()
			answerUnpacked(stream.Context())
			defer s.calls.streams.Add(-1)
			if s.calls.streams.Add(1) > maxStreamCalls {
				a.refused.Inc()
				return errTooManyStreams
			}
			leave, err := a.openPacked(stream.Context())
			if err != nil {
				a.refused.Inc()
				return err
			}
			defer leave()
			if a.largeAnswers {
				stream = held{stream, connOf(stream.Context())}
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
