package relay_test

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/greenlight-ml/greenlight/pkg/rpc"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/relay"
)

// A relay changes nothing at first, and then exactly what it is set to change.
func TestRelay(t *testing.T) {
	t.Parallel()
	engine := enginetest.Start(t, enginetest.Options{Loopback: true})
	r, err := relay.Start(t.Context(), engine.Addr())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := rpc.Dial(r.Addr(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	client := mlenginev1.NewScoringServiceClient(conn)
	x := engine.Model().Golden.Vectors[0]
	score := func(ctx context.Context) (float64, error) {
		all, err := client.BatchPredict(ctx, &mlenginev1.BatchPredictRequest{Schema: "v1.8.1", Values: x.X})
		if err != nil {
			return 0, err
		}
		return all.GetScores()[0], nil
	}
	if got, err := score(t.Context()); got != x.Score || err != nil {
		t.Errorf("got %v and %v, want %v", got, err, x.Score)
	}
	info, err := client.GetModelInfo(t.Context(), &mlenginev1.GetModelInfoRequest{})
	if err != nil || info.GetDigest() != engine.Model().Digest() {
		t.Errorf("%v, %v", info, err)
	}
	r.Set(relay.Scores(func(s float64) float64 { return s / 2 }))
	if got, err := score(t.Context()); got != x.Score/2 || err != nil || r.Changed() != 1 {
		t.Errorf("halved: got %v and %v, want %v; %d answers were changed, want 1", got, err, x.Score/2, r.Changed())
	}
	r.Set(nil)
	if got, err := score(t.Context()); got != x.Score || err != nil || r.Changed() != 0 {
		t.Errorf("unchanged again: got %v and %v, want %v; %d answers were changed, want 0", got, err, x.Score, r.Changed())
	}
	// An answer that is an hour late is never delivered.
	r.Set(relay.Late(time.Hour))
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := score(ctx); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("late: %v", err)
	}
}
