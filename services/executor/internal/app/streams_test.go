package app_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/greenlight-ml/greenlight/pkg/rpc"
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
	streams["decisions"] = func(ctx context.Context) error {
		stream, err := executorv1.NewDecisionServiceClient(r.Conn).Decide(ctx)
		if err != nil {
			return err
		}
		return stream.Send(&executorv1.DecideRequest{Request: &executorv1.PredictRequest{Vector: vector()}})
	}
	streams["comparisons"] = r.watch
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

// Of 10,000 streams 256 are served, the others are refused immediately, and calls are answered meanwhile.
func TestTenThousandStreams(t *testing.T) {
	r := start(t, options(t, loopback(t)))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var served, refused atomic.Int64
	var clients sync.WaitGroup
	for range 100 {
		conn, err := rpc.Dial(r.Conn.Target(), nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		clients.Go(func() {
			for range 100 {
				_, err := decide(ctx, conn)
				switch status.Code(err) {
				case codes.OK:
					served.Add(1)
				case codes.ResourceExhausted:
					refused.Add(1)
				default:
					t.Error(err)
				}
			}
		})
	}
	clients.Wait()
	// A refused stream counts for a moment, so another may be refused before the 256th is served.
	if n := served.Load(); n < 128 || n > 256 || n+refused.Load() != 10_000 {
		t.Errorf("%d streams are served and %d refused", n, refused.Load())
	}
	if _, err := executorv1.NewDecisionServiceClient(r.Conn).Predict(t.Context(), &executorv1.PredictRequest{Vector: vector()}); err != nil {
		t.Errorf("a call beside the streams: %v", err)
	}
	cancel()
	for {
		_, err := decide(t.Context(), r.Conn)
		if err == nil {
			break
		}
		if status.Code(err) != codes.ResourceExhausted {
			t.Fatalf("after the streams have ended: %v", err)
		}
	}
}

// decide opens a stream and returns it after one decision.
func decide(ctx context.Context, conn *grpc.ClientConn) (executorv1.DecisionService_DecideClient, error) {
	stream, err := executorv1.NewDecisionServiceClient(conn).Decide(ctx)
	if err != nil {
		return nil, err
	}
	if err := stream.Send(&executorv1.DecideRequest{Request: &executorv1.PredictRequest{Vector: vector()}}); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	_, err = stream.Recv()
	return stream, err
}

// Messages of streams and calls share a client's rate. Only the message over the rate is refused.
func TestRateOfMessages(t *testing.T) {
	o := options(t, loopback(t))
	o.MaxRequestRate = 0.001 // one, and then none for the time of a test
	r := start(t, o)
	stream, err := decide(t.Context(), r.Conn)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := stream.Send(&executorv1.DecideRequest{Sequence: 5, Request: &executorv1.PredictRequest{Vector: vector()}}); err != nil {
			t.Fatal(err)
		}
		got, err := stream.Recv()
		if err != nil || got.GetSequence() != 5 || codes.Code(got.GetError().GetCode()) != codes.ResourceExhausted {
			t.Errorf("got %v, %v", got, err)
		}
	}
	if _, err := decide(t.Context(), r.Conn); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("another stream: got %v", err)
	}
}

// watch opens a stream of comparisons, and returns once requests are selected.
func (r *running) watch(ctx context.Context) error {
	stream, err := executorv1.NewShadowServiceClient(r.Conn).WatchComparisons(ctx, &executorv1.WatchComparisonsRequest{})
	if err == nil {
		_, err = stream.Header()
	}
	return err
}

// A client that keeps a stream open, for example to watch the health, does not delay a stop.
func TestAStopDoesNotWaitForStreams(t *testing.T) {
	r := start(t, options(t, loopback(t)))
	streams := r.Streams()
	streams["decisions"] = func(ctx context.Context) error {
		_, err := decide(ctx, r.Conn)
		return err
	}
	streams["comparisons"] = r.watch
	for name, open := range streams {
		if err := open(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := r.Stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
}

// A client that reads no comparison does not delay a stop either.
func TestAStopDoesNotWaitForAClientThatDoesNotRead(t *testing.T) {
	r := start(t, options(t, loopback(t)))
	if err := r.watch(t.Context()); err != nil {
		t.Fatal(err)
	}
	decisions := executorv1.NewDecisionServiceClient(r.Conn)
	for {
		for range 100 {
			if _, err := decisions.Predict(t.Context(), &executorv1.PredictRequest{Vector: vector()}); err != nil {
				t.Fatal(err)
			}
		}
		if _, body := r.Get("/metrics"); !strings.Contains(body, "\nml_shadow_watch_dropped_total 0\n") {
			break
		}
	}
	if err := r.Stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
}
