package traffic

import (
	"context"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// decisions answers the n-th call with answer(n).
type decisions struct {
	executorv1.DecisionServiceClient

	n      atomic.Int64
	answer func(n int64) (*executorv1.PredictResponse, error)
}

func (d *decisions) Predict(context.Context, *executorv1.PredictRequest, ...grpc.CallOption) (*executorv1.PredictResponse, error) {
	return d.answer(d.n.Add(1))
}

// Every kind of answer has its own count, and calls keep the pace until ctx ends.
func TestDecide(t *testing.T) {
	t.Parallel()
	a := enginetest.Artifact(t, "v1.8.1", "v1.8.1-test")
	states := []State{{ID: "one", Baseline: 0.25}}
	right := &executorv1.PredictResponse{Score: 0.25, ModelDigest: a.Baseline.Digest()}
	d := &decisions{answer: func(n int64) (*executorv1.PredictResponse, error) {
		switch n {
		case 1:
			return &executorv1.PredictResponse{Score: math.Nextafter(0.25, 1), ModelDigest: right.GetModelDigest()}, nil
		case 2:
			return &executorv1.PredictResponse{Score: 0.25, ModelDigest: "another baseline"}, nil
		case 3:
			return nil, status.Error(codes.Unavailable, "connection refused")
		case 4:
			return nil, status.Error(codes.Internal, "broken")
		}
		return right, nil
	}}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		got := Decide(ctx, d, a, states, Pace{Rate: 10})
		if want := (Answers{Total: got.Total, Changed: 2, Away: 1, Failed: 1}); got != want || got.Total < 99 || got.Total > 101 {
			t.Errorf("got %+v, want about 100 answers and %+v", got, want)
		}
	})
}

// Answers of an unknown baseline are never a PASS. Older evidence, which lacks that count, is judged as before.
func TestUncheckedBaselineIsNoPass(t *testing.T) {
	t.Parallel()
	right := ShadowResult{Total: 1000, Succeeded: 1000, Comparisons: 1000, Outcomes: map[string]int{"match": 1000}}
	if v := right.Judge().Verdict(); v != gate.Pass {
		t.Fatalf("a run without a fault: %s", v)
	}
	right.BaselineUnchecked, right.Baseline = 1, &evidence.Model{Version: "incumbent", Digest: "0123456789abcdef"}
	card := right.Judge()
	if !slices.ContainsFunc(card.Results, func(r gate.Result) bool {
		return r.Name == gate.BaselineChanged && r.Verdict == gate.Error && strings.Contains(r.Reason, "incumbent (0123456789ab) is not in the registry")
	}) {
		t.Errorf("one unchecked answer: %+v", card.Results)
	}
}
