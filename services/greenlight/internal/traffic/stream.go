package traffic

import (
	"context"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// maxStreams is the number of streams per executor: more concurrent decisions would only wait.
const maxStreams = 64

// Streams are streams of decisions to one executor, with one decision in flight on each.
type Streams struct {
	client executorv1.DecisionServiceClient
	idle   chan *stream
}

// stream is a stream, or a slot for one that is not open.
type stream struct {
	executorv1.DecisionService_DecideClient

	cancel   context.CancelFunc
	sequence uint64
}

// NewStreams returns n streams, at most maxStreams, which are opened on demand.
func NewStreams(client executorv1.DecisionServiceClient, n int) *Streams {
	s := &Streams{client: client, idle: make(chan *stream, min(n, maxStreams))}
	for range cap(s.idle) {
		s.idle <- &stream{}
	}
	return s
}

// Decide requests a decision before ctx's deadline. A failed request is not sent again.
func (s *Streams) Decide(ctx context.Context, req *executorv1.PredictRequest) (*executorv1.PredictResponse, error) {
	select {
	case one := <-s.idle:
		defer func() { s.idle <- one }()
		resp, err := one.decide(ctx, s.client, req)
		if err != nil {
			one.close()
			return nil, err
		}
		if e := resp.GetError(); e != nil {
			return nil, status.Error(codes.Code(e.GetCode()), e.GetMessage())
		}
		return resp.GetResponse(), nil
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
}

// Close ends all streams. None may be in use.
func (s *Streams) Close() {
	for range cap(s.idle) {
		(<-s.idle).close()
	}
}

func (s *stream) close() {
	if s.cancel != nil {
		s.cancel()
		*s = stream{}
	}
}

// open opens the stream before ctx's deadline. It outlives ctx.
func (s *stream) open(ctx context.Context, client executorv1.DecisionServiceClient) error {
	lifetime, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer context.AfterFunc(ctx, cancel)()
	opened, err := client.Decide(lifetime)
	if err != nil {
		cancel()
		return err
	}
	s.DecisionService_DecideClient, s.cancel = opened, cancel
	return nil
}

// decide sends a message and waits for its answer. After an error the stream has ended, or must not be used again.
func (s *stream) decide(ctx context.Context, client executorv1.DecisionServiceClient, req *executorv1.PredictRequest) (*executorv1.DecideResponse, error) {
	if s.cancel == nil {
		if err := s.open(ctx, client); err != nil {
			return nil, err
		}
	}
	defer context.AfterFunc(ctx, s.cancel)() // nobody reads a late answer
	s.sequence++
	m := &executorv1.DecideRequest{Sequence: s.sequence, Request: req}
	if t, ok := ctx.Deadline(); ok {
		m.Deadline = timestamppb.New(t)
	}
	_ = s.Send(m) // if the stream has ended, Recv returns the reason
	resp, err := s.Recv()
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, status.FromContextError(ctx.Err()).Err()
	case err != nil:
		return nil, err
	case resp.GetSequence() != s.sequence:
		return nil, fmt.Errorf("the executor answered message %d, which was not sent or was already answered, instead of %d", resp.GetSequence(), s.sequence)
	}
	return resp, nil
}
