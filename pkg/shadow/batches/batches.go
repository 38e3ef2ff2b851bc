// Package batches is the server side of StreamPredict, for ml-engine and for its stand-ins in tests.
package batches

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/greenlight-ml/greenlight/pkg/rpc"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

// Stream is the server side of StreamPredict.
type Stream = grpc.BidiStreamingServer[mlenginev1.BatchPredictRequest, mlenginev1.BatchPredictResponse]

// Answer answers every message of a stream with the result of predict, in order. It ends when the client closes its
// side, or when stopping is closed and every message it has read is answered. An error of predict affects only its own message.
// A message that does not decode, or is too large, ends the stream, and Answer returns the stream's error.
func Answer(
	stream Stream, stopping <-chan struct{},
	predict func(context.Context, *mlenginev1.BatchPredictRequest) (*mlenginev1.BatchPredictResponse, error),
) error {
	// Recv ends only when the handler returns. A goroutine receives, so that the handler can react to stopping. predict runs in the
	// handler, where a panic is recovered. The next message is received only after the previous answer was sent: otherwise a client
	// that does not read would make the server hold a message for each of its streams.
	type received struct {
		req *mlenginev1.BatchPredictRequest
		err error
	}
	wanted, next := make(chan struct{}, 1), make(chan received, 1)
	defer close(wanted)
	go func() {
		for range wanted {
			req, err := stream.Recv()
			next <- received{req, err}
		}
	}()
	answer := func(r received) error {
		if r.err != nil {
			return r.err
		}
		resp, err := predict(stream.Context(), r.req)
		if err != nil {
			resp = &mlenginev1.BatchPredictResponse{Error: batchError(err)}
		}
		resp.Sequence = r.req.GetSequence()
		return stream.Send(resp)
	}
	for {
		wanted <- struct{}{}
		var err error
		select {
		case r := <-next:
			err = answer(r)
		case <-stopping:
			select {
			case r := <-next:
				err = answer(r)
			default:
				return nil
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// batchError converts an error of BatchPredict to the error of one message.
func batchError(err error) *mlenginev1.BatchError {
	s := status.Convert(err)
	return &mlenginev1.BatchError{
		Code: int32(s.Code()), Message: rpc.Short(s.Message()),
		Reason: mlenginev1.ErrorReason(mlenginev1.ErrorReason_value["ERROR_REASON_"+rpc.Reason(err)]),
	}
}
