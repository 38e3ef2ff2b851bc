package rpc

import (
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
)

// Receive calls use for every message of a client's stream, and returns nil once the client has closed its side. It returns
// stopped when stopping is closed, and the first error of use.
//
// A stream may last as long as the market is open, and a stop does not wait for it. Only the return of the handler ends
// Recv, so a goroutine receives. Receive and the goroutine also wait for the stream's context, so that both end when the
// client cancels.
func Receive[Req, Res any](stream grpc.ClientStreamingServer[Req, Res], stopping <-chan struct{}, stopped error, use func(*Req) error) error {
	select {
	case <-stopping:
		return stopped
	default:
	}
	ctx := stream.Context()
	type received struct {
		req *Req
		err error
	}
	next := make(chan received)
	go func() {
		for {
			req, err := stream.Recv()
			select {
			case next <- received{req, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	for {
		select {
		case <-stopping:
			return stopped
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		case r := <-next:
			switch {
			case errors.Is(r.err, io.EOF):
				return nil
			case r.err != nil:
				return r.err
			}
			if err := use(r.req); err != nil {
				return err
			}
		}
	}
}
