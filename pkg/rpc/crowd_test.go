package rpc_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/greenlight-ml/greenlight/pkg/rpc"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

// More calls than the server can answer in time are refused at once, whatever time they have; operators get through; and
// when the crowd has gone, everybody does.
func TestCrowdIsRefusedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most, conns = 1024, 3
		gate := make(chan struct{})
		reg := prometheus.NewRegistry()
		server := rpc.NewServer(rpc.ServerOptions{
			Logger: slog.New(slog.DiscardHandler), Registerer: reg, SlowCall: time.Hour,
			Crowded: mlenginev1.ScoringService_ServiceDesc.ServiceName,
		})
		mlenginev1.RegisterScoringServiceServer(server, &stub{predict: func(ctx context.Context, _ *mlenginev1.PredictRequest) (*mlenginev1.PredictResponse, error) {
			select {
			case <-gate:
				return &mlenginev1.PredictResponse{}, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}})
		server.Ready()
		l := bufconn.Listen(1 << 20)
		var serving sync.WaitGroup
		serving.Go(func() { _ = server.Serve(l) })
		var clients []mlenginev1.ScoringServiceClient
		var first *grpc.ClientConn
		for range conns {
			conn, err := rpc.Dial("passthrough:///bufnet", nil, grpc.WithContextDialer(
				func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			first = conn
			clients = append(clients, mlenginev1.NewScoringServiceClient(conn))
		}
		defer serving.Wait()
		defer server.Stop()

		// Half of the crowd gives up, half waits for its answer: both leave room behind.
		ctx, giveUp := context.WithCancel(t.Context())
		errs := make(chan error, most)
		for i := range most {
			go func() {
				ctx := ctx
				if i%2 == 0 {
					ctx = t.Context()
				}
				_, err := clients[i%conns].Predict(ctx, &mlenginev1.PredictRequest{})
				errs <- err
			}()
		}
		synctest.Wait()
		for name, timeout := range map[string]time.Duration{"little time": time.Second, "much time": time.Hour} {
			for range 10 {
				ctx, cancel := context.WithTimeout(t.Context(), timeout)
				start := time.Now()
				_, err := clients[0].Predict(ctx, &mlenginev1.PredictRequest{})
				cancel()
				if status.Code(err) != codes.ResourceExhausted || time.Since(start) != 0 {
					t.Fatalf("one too many, with %s: got %v after %v, want RESOURCE_EXHAUSTED at once", name, err, time.Since(start))
				}
			}
		}
		if _, err := healthpb.NewHealthClient(first).Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil {
			t.Errorf("health, in the crowd: %v", err)
		}
		giveUp()
		synctest.Wait()
		close(gate)
		var answered, gone int
		for range most {
			switch err := <-errs; {
			case err == nil:
				answered++
			case status.Code(err) == codes.Canceled || errors.Is(err, context.Canceled):
				gone++
			default:
				t.Errorf("of the crowd: %v", err)
			}
		}
		if answered != most/2 || gone != most/2 {
			t.Errorf("%d answered and %d gone, want %d of each", answered, gone, most/2)
		}
		synctest.Wait()
		var group sync.WaitGroup
		for i := range most {
			group.Go(func() {
				if _, err := clients[i%conns].Predict(t.Context(), &mlenginev1.PredictRequest{}); err != nil {
					t.Errorf("after the crowd: %v", err)
				}
			})
		}
		group.Wait()
		if n := testutil.CollectAndCount(reg, "grpc_server_crowded_out_total"); n != 1 {
			t.Errorf("%d series of refusals, want 1", n)
		}
	})
}
