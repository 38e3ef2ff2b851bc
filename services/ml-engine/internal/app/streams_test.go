package app_test

import (
	"context"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/testkit/servetest"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

// streams are all streaming calls of the service.
func streams(s *servetest.Service) map[string]func(context.Context) error {
	all := s.Streams()
	all["predictions"] = func(ctx context.Context) error {
		stream, err := mlenginev1.NewScoringServiceClient(s.Conn).StreamPredict(ctx)
		if err != nil {
			return err
		}
		return stream.Send(&mlenginev1.BatchPredictRequest{Schema: "v1.8.1", Values: []float64{1, 0, 0, 0, 0, 0, 0}})
	}
	return all
}

// Streams that are canceled at any moment leave nothing behind.
func TestCanceledStreamsLeaveNothing(t *testing.T) {
	s := start(t, options(t))
	s.WantStreamsEnd(t, streams(s))
}

// A client that keeps a stream open, for example to watch the health, does not delay a stop.
func TestAStopDoesNotWaitForStreams(t *testing.T) {
	s := start(t, options(t))
	for name, open := range streams(s) {
		if err := open(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := s.Stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
}
