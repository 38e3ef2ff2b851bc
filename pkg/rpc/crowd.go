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
)

const (
	// maxCrowd is how many calls of the crowded service may have come and not have begun, over all connections. At the 20,000
	// a second that two cores answer, the last of so many waits 40 ms. More would be answered when their callers have gone,
	// and the work would be lost to those who still wait; so they are refused at once, which costs a fraction of an answer.
	// Calls that have begun do not count: those that wait for something else, a shadow for example, keep nobody waiting.
	maxCrowd = 768
	// busyCrowd is how many wait when there is no time for anything but answers: more than a connection has.
	busyCrowd = maxStreams
	// cheapRefusal is the longest time left to a call that is refused before its message is read. gRPC leaves the timer of
	// such a call behind until it fires, so that refusing one with an hour left would hold memory for an hour.
	cheapRefusal = 2 * time.Second
)

// One connection has at most a sixth of the room.
var _ [maxCrowd - 6*maxStreams]struct{}

// crowd counts the calls of a service that wait to begin.
type crowd struct {
	prefix  string // of the methods' full names
	waiting atomic.Int64
	refused prometheus.Counter
}

func newCrowd(service string, reg prometheus.Registerer) *crowd {
	return &crowd{prefix: "/" + service + "/", refused: promauto.With(reg).NewCounter(prometheus.CounterOpts{
		Name: "grpc_server_crowded_out_total", Help: "Calls that were refused because too many waited to begin.",
	})}
}

var errCrowded = status.Errorf(codes.ResourceExhausted, "%d calls wait to begin: this is more than the server can answer in time", maxCrowd)

// arrival is a call that has come, as the context of its handler. One object is all that it takes, beside the watch of its
// context: see "executor, shadow off / echo" in the bench.
type arrival struct {
	context.Context //nolint:containedctx // it is the context

	crowd *crowd
	// stop ends the watch of the context, unless that has ended; nil for a call that its handler must refuse.
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

// leave says that the call no longer waits.
func (a *arrival) leave() { a.crowd.waiting.Add(-1) }

// tap is asked by gRPC when the headers of a call have come.
func (c *crowd) tap(ctx context.Context, info *tap.Info) (context.Context, error) {
	if !strings.HasPrefix(info.FullMethodName, c.prefix) {
		return ctx, nil
	}
	a := &arrival{Context: ctx, crowd: c}
	if c.waiting.Add(1) > maxCrowd {
		a.leave()
		c.refused.Inc()
		if t, ok := ctx.Deadline(); ok && time.Until(t) > cheapRefusal {
			return a, nil
		}
		return nil, errCrowded
	}
	// Not every call comes to its handler: its message may be none, its time be up. Its context ends in any case.
	a.stop = context.AfterFunc(ctx, a.leave)
	return a, nil
}

// begin notes that the call has begun, or says that it must be refused.
func begin(ctx context.Context) error {
	a, counted := ctx.Value(arrivalKey{}).(*arrival)
	switch {
	case !counted:
		return nil
	case a.stop == nil:
		return errCrowded
	}
	if a.stop() {
		a.leave()
	}
	return nil
}

// crowded is the service with methods that note their beginning.
func crowded(desc *grpc.ServiceDesc) *grpc.ServiceDesc {
	wrapped := *desc
	wrapped.Methods, wrapped.Streams = slices.Clone(desc.Methods), slices.Clone(desc.Streams)
	for i, m := range desc.Methods {
		wrapped.Methods[i].Handler = func(impl any, ctx context.Context, read func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
			if err := begin(ctx); err != nil {
				return nil, err
			}
			return m.Handler(impl, ctx, read, interceptor)
		}
	}
	for i, m := range desc.Streams {
		wrapped.Streams[i].Handler = func(impl any, stream grpc.ServerStream) error {
			if err := begin(stream.Context()); err != nil {
				return err
			}
			return m.Handler(impl, stream)
		}
	}
	return &wrapped
}
