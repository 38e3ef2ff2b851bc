package traffic

import (
	"context"
	"errors"
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

	n, opened atomic.Int64
	answer    func(n int64) (*executorv1.PredictResponse, error)
}

func (d *decisions) Decide(ctx context.Context, _ ...grpc.CallOption) (executorv1.DecisionService_DecideClient, error) {
	d.opened.Add(1)
	return &answering{decisions: d, ctx: ctx}, nil
}

// answering is a stream that answers in turn. It ends when the executor is down.
type answering struct {
	grpc.ClientStream

	decisions *decisions
	ctx       context.Context
	sequence  uint64
}

func (a *answering) Send(m *executorv1.DecideRequest) error {
	a.sequence = m.GetSequence()
	return nil
}

func (a *answering) Recv() (*executorv1.DecideResponse, error) {
	resp, err := a.decisions.answer(a.decisions.n.Add(1))
	switch {
	case errors.Is(err, errHangs):
		<-a.ctx.Done()
		return nil, status.FromContextError(a.ctx.Err()).Err()
	case status.Code(err) == codes.Unavailable:
		return nil, err
	case err != nil:
		return &executorv1.DecideResponse{Sequence: a.sequence, Result: &executorv1.DecideResponse_Error{
			Error: &executorv1.DecideError{Code: int32(status.Code(err)), Message: err.Error()},
		}}, nil
	}
	return &executorv1.DecideResponse{Sequence: a.sequence, Result: &executorv1.DecideResponse_Response{Response: resp}}, nil
}

var errHangs = errors.New("no answer")

// Every kind of answer has its own count, and decisions keep the pace until ctx ends. A stream is used until it fails.
func TestDecide(t *testing.T) {
	t.Parallel()
	a := enginetest.Artifact(t, "v1.8.1", "v1.8.1-test")
	states := []State{{ID: "one", Baseline: 0.25, Decides: evidence.Model{Digest: a.Baseline.Digest()}}}
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
		case 5:
			return nil, errHangs
		}
		return right, nil
	}}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		got := Decide(ctx, d, states, Pace{Rate: 10})
		if want := (Answers{Total: got.Total, Changed: 2, Away: 1, Failed: 2}); got != want || got.Total < 99 || got.Total > 101 {
			t.Errorf("got %+v, want about 100 answers and %+v", got, want)
		}
		if n := d.opened.Load(); n != 6 { // four, and another for each that ended
			t.Errorf("%d streams were opened, want 6", n)
		}
	})
}

// Answers of an unknown baseline never give a PASS. Older evidence, which lacks that count, is judged as before.
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

// One stream answer that is lost, or differs from the baseline's, fails the run.
func TestStreamedAnswersAreJudged(t *testing.T) {
	t.Parallel()
	for name, streamed := range map[string]Answers{"changed": {Total: 1000, Changed: 1}, "away": {Total: 1000, Away: 1}, "failed": {Total: 1000, Failed: 1}, "": {Total: 1000}} {
		r := ShadowResult{Total: 1000, Succeeded: 1000, Comparisons: 1000, Outcomes: map[string]int{"match": 1000}, Streamed: &streamed}
		want := gate.Fail
		if name == "" {
			want = gate.Pass
		}
		card := r.Judge()
		if i := slices.IndexFunc(card.Results, func(r gate.Result) bool { return r.Name == gate.BaselineChanged && r.N == 2000 }); card.Verdict() != want || i < 0 {
			t.Errorf("%q: %s, want %s: %+v", name, card.Verdict(), want, card.Results)
		}
	}
}
