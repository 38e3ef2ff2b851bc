package decision_test

import (
	"context"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	protobuf "google.golang.org/protobuf/proto"

	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

// Whatever ml-engine sends, decisions and reports are answered in time and stay small.
func TestALyingEngineLosesNoDecision(t *testing.T) {
	long := strings.Repeat("v", 4<<20)
	fail := func(message string) enginetest.Fault {
		return enginetest.Fault{Everywhere: true, Before: func(context.Context) error { return status.Error(codes.Internal, message) }}
	}
	for name, fault := range map[string]enginetest.Fault{
		"a version just under what is taken": enginetest.Version(long[:60<<10], "d"),
		"a version of 4 MB":                  enginetest.Version(long, "d"),
		"an error that is not UTF-8":         fail("bad \xff\xfe text"),
		"a long error":                       fail(long[:5<<10]),
		"an error of 4 MB":                   fail(long),
		"a long row error": {After: func(r *mlenginev1.BatchPredictResponse) {
			r.Errors = []*mlenginev1.RowError{{Message: long[:50<<10]}}
		}},
		"no number": enginetest.Answer(math.NaN()),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := start(t, enginetest.Options{}, 100)
				e.engine.Break(fault)
				x := enginetest.Vector(e.rng, e.engine.Model().Schema)
				for range 5 {
					begin := time.Now()
					r, err := e.PredictWithShadow(t.Context(), &executorv1.PredictWithShadowRequest{
						Vector: &executorv1.FeatureVector{Schema: "v1.8.1", Values: x},
					})
					if err != nil || time.Since(begin) > 60*time.Millisecond || protobuf.Size(r) > 2<<10 {
						t.Fatalf("got %.200v of %d bytes after %v, error %v", r, protobuf.Size(r), time.Since(begin), err)
					}
					if got := r.GetBaseline().GetScore(); math.Float64bits(got) != math.Float64bits(e.baselineOf(e.engine.Model().Schema, x)) {
						t.Errorf("the baseline answers %v", got)
					}
				}
				if r, _ := e.report(); protobuf.Size(r) > 8<<10 {
					t.Errorf("the report has %d bytes", protobuf.Size(r))
				}
			})
		})
	}
}

// A client that cancels quote streams at any moment frees their slots of its connection.
func TestCanceledStreamsEnd(t *testing.T) {
	minutes, _ := simulated(t)
	synctest.Test(t, func(t *testing.T) {
		e := start(t, enginetest.Options{}, 0)
		for i := range 400 { // more than three times what a connection may have open
			ctx, cancel := context.WithCancel(t.Context())
			stream, err := e.ObserveQuotes(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for range e.rng.IntN(4) {
				_ = stream.Send(&executorv1.ObserveQuotesRequest{Symbol: "S", Quotes: []*executorv1.Quote{proto(minutes[0][0])}})
			}
			switch e.rng.IntN(3) {
			case 0:
				synctest.Wait()
			case 1:
				_ = stream.CloseSend()
			}
			cancel()
			synctest.Wait()
			begin := time.Now()
			if _, err := e.Predict(t.Context(), &executorv1.PredictRequest{
				Vector: &executorv1.FeatureVector{Schema: "v1.8.1", Values: enginetest.Vector(e.rng, e.engine.Model().Schema)},
			}); err != nil || time.Since(begin) > 0 {
				t.Fatalf("a decision after %d given-up streams: %v after %v", i+1, err, time.Since(begin))
			}
		}
	})
}
