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
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
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

// A request without an outcome, one that somebody else sent, and all requests across a restart are unaccounted.
func TestUnaccounted(t *testing.T) {
	t.Parallel()
	reading := func(process string, requests, matches, inFlight uint64) fleet.Counters {
		return fleet.Counters{Process: process, InFlight: inFlight, Counts: fleet.Counts{Requests: requests, Outcomes: map[string]uint64{"match": matches}}}
	}
	before := reading("p", 100, 98, 2)
	for name, test := range map[string]struct {
		after fleet.Counters
		want  int64
	}{
		"all ended":      {reading("p", 150, 150, 0), 0},
		"some under way": {reading("p", 150, 147, 3), 0},
		"two lost":       {reading("p", 150, 148, 0), 2},
		"one too many":   {reading("p", 150, 151, 0), 1},
		"foreign":        {reading("p", 160, 160, 0), 10},
		"too few":        {reading("p", 140, 140, 0), 10},
		"restart":        {reading("q", 150, 150, 0), 50},
		"fell":           {reading("p", 99, 99, 0), 50},
	} {
		if got := unaccounted(before, test.after, 50); got != test.want {
			t.Errorf("%s: got %d, want %d", name, got, test.want)
		}
	}
}
