package enginetest_test

import (
	"context"
	"math"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

// batch is a request of n random states.
func batch(schema *feature.Schema, n int) *mlenginev1.BatchPredictRequest {
	rng := rand.New(rand.NewPCG(1, 2))
	req := &mlenginev1.BatchPredictRequest{Schema: schema.Name}
	for range n {
		req.Values = append(req.Values, enginetest.Vector(rng, schema)...)
	}
	return req
}

func TestEngineScoresWithItsModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := enginetest.Start(t, enginetest.Options{})
		schema := e.Model().Schema
		req := batch(schema, 3)
		resp, err := e.Client().BatchPredict(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		for i, got := range resp.GetScores() {
			want := e.Model().Scorer.Score(req.GetValues()[i*schema.Len():])
			if math.Float64bits(got) != math.Float64bits(want) {
				t.Errorf("row %d: got %v, want %v", i, got, want)
			}
		}
		if resp.GetModelDigest() != e.Model().Digest() {
			t.Errorf("digest: got %q, want %q", resp.GetModelDigest(), e.Model().Digest())
		}
		calls := e.Calls()
		if len(calls) != 1 || calls[0].Rows != 3 || e.Peak() != 1 {
			t.Errorf("calls: got %+v at peak %d, want one of 3 rows", calls, e.Peak())
		}
	})
}

func TestEngineFaults(t *testing.T) {
	const timeout = 60 * time.Millisecond
	for name, tt := range map[string]struct {
		fault enginetest.Fault
		code  codes.Code
		took  time.Duration
		check func(t *testing.T, scores []float64, errors int)
	}{
		"delay":     {fault: enginetest.Delay(20 * time.Millisecond), took: 20 * time.Millisecond},
		"too slow":  {fault: enginetest.Delay(time.Second), code: codes.DeadlineExceeded, took: timeout},
		"hang":      {fault: enginetest.Hang(), code: codes.DeadlineExceeded, took: timeout},
		"fail":      {fault: enginetest.Fail(codes.DataLoss), code: codes.DataLoss},
		"NaN":       {fault: enginetest.Answer(math.NaN()), check: func(t *testing.T, s []float64, _ int) { want(t, math.IsNaN(s[0]), s) }},
		"infinite":  {fault: enginetest.Answer(math.Inf(1)), check: func(t *testing.T, s []float64, _ int) { want(t, math.IsInf(s[1], 1), s) }},
		"surplus":   {fault: enginetest.Surplus(2), check: func(t *testing.T, s []float64, _ int) { want(t, len(s) == 4, s) }},
		"shortage":  {fault: enginetest.Surplus(-1), check: func(t *testing.T, s []float64, _ int) { want(t, len(s) == 1, s) }},
		"row error": {fault: enginetest.RefuseRows(mlenginev1.ErrorReason_ERROR_REASON_SCORE_INVALID), check: func(t *testing.T, s []float64, n int) { want(t, n == 2, s) }},
		"shift":     {fault: enginetest.Shift(2), check: func(t *testing.T, s []float64, _ int) { want(t, s[0] == 1, s) }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := enginetest.Start(t, enginetest.Options{})
				e.Break(tt.fault)
				ctx, cancel := context.WithTimeout(t.Context(), timeout)
				defer cancel()
				start := time.Now()
				resp, err := e.Client().BatchPredict(ctx, batch(e.Model().Schema, 2))
				if got := status.Code(err); got != tt.code {
					t.Fatalf("code: got %v (%v), want %v", got, err, tt.code)
				}
				if got := time.Since(start); got != tt.took {
					t.Errorf("took %v, want %v", got, tt.took)
				}
				if tt.check != nil {
					tt.check(t, resp.GetScores(), len(resp.GetErrors()))
				}
				e.Heal()
				if _, err := e.Client().BatchPredict(t.Context(), batch(e.Model().Schema, 2)); err != nil {
					t.Errorf("after Heal: %v", err)
				}
			})
		})
	}
}

func want(t *testing.T, ok bool, got []float64) {
	t.Helper()
	if !ok {
		t.Errorf("the fault does not show: scores %v", got)
	}
}

func TestEngineStopsAndRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := enginetest.Start(t, enginetest.Options{Absent: true})
		info := func() error {
			_, err := e.Client().GetModelInfo(t.Context(), &mlenginev1.GetModelInfoRequest{})
			return err
		}
		if got := status.Code(info()); got != codes.Unavailable {
			t.Errorf("absent: got %v, want Unavailable", got)
		}
		e.Restart()
		time.Sleep(2 * time.Second) // fake time, longer than the client's longest reconnect backoff
		if err := info(); err != nil {
			t.Errorf("restarted: %v", err)
		}
		e.Stop()
		e.Stop()
		if got := status.Code(info()); got != codes.Unavailable {
			t.Errorf("stopped: got %v, want Unavailable", got)
		}
	})
}

func TestEngineSwap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := enginetest.Start(t, enginetest.Options{})
		before := e.Model().Schema
		e.Swap("v1.8", "v1.8-b0")
		info, err := e.Client().GetModelInfo(t.Context(), &mlenginev1.GetModelInfoRequest{})
		if err != nil || info.GetVersion() != "v1.8-b0" || info.GetSchema() != "v1.8" {
			t.Errorf("info: got %v, %v; want v1.8-b0 of schema v1.8", info, err)
		}
		_, err = e.Client().BatchPredict(t.Context(), batch(before, 1))
		if got := status.Code(err); got != codes.InvalidArgument {
			t.Errorf("a batch of the old schema: got %v, want InvalidArgument", got)
		}
	})
}

func TestEngineOnLoopback(t *testing.T) {
	e := enginetest.Start(t, enginetest.Options{Loopback: true})
	if _, err := e.Client().GetModelInfo(t.Context(), &mlenginev1.GetModelInfoRequest{}); err != nil {
		t.Error(err)
	}
}
