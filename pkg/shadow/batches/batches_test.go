package batches

import (
	"context"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc"

	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

// unread is a stream with any number of messages, whose client does not read.
type unread struct {
	grpc.ServerStream

	ctx      context.Context
	received int
}

// Context implements grpc.ServerStream.
func (s *unread) Context() context.Context { return s.ctx }

// Recv implements Stream.
func (s *unread) Recv() (*mlenginev1.BatchPredictRequest, error) {
	s.received++
	return &mlenginev1.BatchPredictRequest{}, nil
}

// Send implements Stream.
func (s *unread) Send(*mlenginev1.BatchPredictResponse) error {
	<-s.ctx.Done()
	return s.ctx.Err()
}

// While an answer waits for its client, no further message, of up to 4 MiB, is received.
func TestAnUnreadAnswerHoldsNoMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		stream := &unread{ctx: ctx}
		ended := make(chan error, 1)
		go func() {
			ended <- Answer(stream, nil, func(context.Context, *mlenginev1.BatchPredictRequest) (*mlenginev1.BatchPredictResponse, error) {
				return &mlenginev1.BatchPredictResponse{}, nil
			})
		}()
		synctest.Wait()
		if stream.received != 1 {
			t.Errorf("received %d messages, want 1", stream.received)
		}
		cancel()
		if err := <-ended; err == nil {
			t.Error("the stream ended without its error")
		}
	})
}
