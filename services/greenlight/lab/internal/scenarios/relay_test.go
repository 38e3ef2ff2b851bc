package scenarios

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/greenlight-ml/greenlight/pkg/rpc"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

// A relay changes nothing until it is told to, and then exactly that.
func TestRelay(t *testing.T) {
	t.Parallel()
	engine := enginetest.Start(t, enginetest.Options{Loopback: true})
	r, err := startRelay(t.Context(), engine.Client())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
	conn, err := rpc.Dial(r.addr, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	client := mlenginev1.NewScoringServiceClient(conn)
	x := engine.Model().Golden.Vectors[0]
	score := func() (one, batch float64) {
		t.Helper()
		resp, err := client.Predict(t.Context(), &mlenginev1.PredictRequest{Vector: &mlenginev1.FeatureVector{Schema: "v1.8.1", Values: x.X}})
		if err != nil {
			t.Fatal(err)
		}
		all, err := client.BatchPredict(t.Context(), &mlenginev1.BatchPredictRequest{Schema: "v1.8.1", Values: x.X})
		if err != nil {
			t.Fatal(err)
		}
		return resp.GetScore(), all.GetScores()[0]
	}
	if one, batch := score(); one != x.Score || batch != x.Score {
		t.Errorf("got %v and %v, want %v", one, batch, x.Score)
	}
	info, err := client.GetModelInfo(t.Context(), &mlenginev1.GetModelInfoRequest{})
	if err != nil || info.GetDigest() != engine.Model().Digest() {
		t.Errorf("%v, %v", info, err)
	}
	by := -0.1
	r.shift.Store(&by)
	want := max(0, x.Score+by)
	if one, batch := score(); one != want || batch != want {
		t.Errorf("shifted: got %v and %v, want %v", one, batch, want)
	}
	// An answer that is an hour late reaches nobody.
	r.delay.Store(int64(time.Hour))
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := client.BatchPredict(ctx, &mlenginev1.BatchPredictRequest{Schema: "v1.8.1", Values: x.X}); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("late: %v", err)
	}
}
