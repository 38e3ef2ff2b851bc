package app_test

import (
	"context"
	"io"
	"net/http"
	"testing"

	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// Streams that are canceled at any moment leave nothing behind.
func TestCanceledStreamsLeaveNothing(t *testing.T) {
	r := start(t, options(t, loopback(t)))
	streams := r.Streams()
	streams["quotes"] = func(ctx context.Context) error {
		stream, err := executorv1.NewDecisionServiceClient(r.Conn).ObserveQuotes(ctx)
		if err != nil {
			return err
		}
		return stream.Send(&executorv1.ObserveQuotesRequest{Symbol: "S", Quotes: []*executorv1.Quote{{Bid: 1, Ask: 2}}})
	}
	streams["status page"] = func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.HTTP+"/status/events", http.NoBody)
		if err != nil {
			return err
		}
		req.Close = true
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		context.AfterFunc(ctx, func() { _ = resp.Body.Close() })
		_, err = io.ReadFull(resp.Body, make([]byte, 6))
		return err
	}
	r.WantStreamsEnd(t, streams)
}

// A client that keeps a stream open, for example to watch the health, does not delay a stop.
func TestAStopDoesNotWaitForStreams(t *testing.T) {
	r := start(t, options(t, loopback(t)))
	for name, open := range r.Streams() {
		if err := open(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := r.Stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
}
