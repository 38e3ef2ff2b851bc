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
	// maxCrowd is how many calls of the crowded service may be under way at once, over all connections. At the 15,000 a
	// second that two cores answer, the last of so many waits 70 ms. More would be answered when their callers have gone,
	// and the work would be lost to those who still wait; so they are refused at once, which costs a fraction of an answer.
	maxCrowd = 1024
	// cheapRefusal is the longest time left to a call that is refused before its message is read. gRPC leaves the timer of
	// such a call behind until it fires, so that refusing one with an hour left would hold memory for an hour.
	cheapRefusal = 2 * time.Second
)

// crowd counts the calls of a service that are under way.
type crowd struct {
	prefix   string // of the methods' full names
	underWay atomic.Int64
	refused  prometheus.Counter
}

func newCrowd(service string, reg prometheus.Registerer) *crowd {
	return &crowd{prefix: "/" + service + "/", refused: promauto.With(reg).NewCounter(prometheus.CounterOpts{
		Name: "grpc_server_crowded_out_total", Help: "Calls that were refused because too many were under way.",
	})}
}

var errCrowded = status.Errorf(codes.ResourceExhausted, "%d calls are under way: this is more than the server can answer in time", maxCrowd)

// crowdedOut marks the context of a call that its handler must refuse.
type crowdedOut struct{}

// tap is asked by gRPC when the headers of a call have come. A stream that lasts is a call under way for as long.
func (c *crowd) tap(ctx context.Context, info *tap.Info) (context.Context, error) {
	if !strings.HasPrefix(info.FullMethodName, c.prefix) {
		return ctx, nil
	}
	if c.underWay.Add(1) > maxCrowd {
		c.underWay.Add(-1)
		c.refused.Inc()
		if t, ok := ctx.Deadline(); ok && time.Until(t) > cheapRefusal {
			return context.WithValue(ctx, crowdedOut{}, true), nil
		}
		return nil, errCrowded
	}
	// gRPC ends the context of every call, also of one that never comes to a handler. Nothing else is as sure.
	context.AfterFunc(ctx, func() { c.underWay.Add(-1) })
	return ctx, nil
}

// refusing is the service with methods that refuse what tap has marked.
func refusing(desc *grpc.ServiceDesc) *grpc.ServiceDesc {
	wrapped := *desc
	wrapped.Methods, wrapped.Streams = slices.Clone(desc.Methods), slices.Clone(desc.Streams)
	for i, m := range desc.Methods {
		wrapped.Methods[i].Handler = func(impl any, ctx context.Context, read func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
			if ctx.Value(crowdedOut{}) != nil {
				return nil, errCrowded
			}
			return m.Handler(impl, ctx, read, interceptor)
		}
	}
	for i, m := range desc.Streams {
		wrapped.Streams[i].Handler = func(impl any, stream grpc.ServerStream) error {
			if stream.Context().Value(crowdedOut{}) != nil {
				return errCrowded
			}
			return m.Handler(impl, stream)
		}
	}
	return &wrapped
}
