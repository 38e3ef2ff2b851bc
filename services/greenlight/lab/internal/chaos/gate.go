package chaos

import (
	"context"
	"math"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/faults"
)

// gate lets the model of the steady executor decide for the event's time, kills the gate, and clears the kill. Afterwards
// every request has a shadow again. If ml-engine is down or has another model, no gate is opened.
func (r *run) gate(ctx context.Context, e Event) error {
	if err := r.steady.OpenGate(ctx); status.Code(err) == codes.FailedPrecondition {
		r.happened("gate, refused")
		return nil
	} else if err != nil {
		return err
	}
	traffic.Pause(ctx, e.For)
	// An open gate is killed even after the time is up.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*lease)
	defer cancel()
	killed, err := r.steady.Rollouts.KillGate(ctx, &executorv1.KillGateRequest{Reason: "chaos"})
	if err != nil {
		return err
	}
	if g := killed.GetGate(); g.GetOpen() || len(g.GetLatches()) != 1 {
		r.book.wrong(control, "the gate after a kill is %v", g)
	}
	if err := r.steady.OpenGate(ctx); status.Code(err) != codes.Aborted {
		r.book.wrong(control, "a renewal after a kill: got %v, want ABORTED", err)
	}
	if _, err := r.steady.Rollouts.ClearGateLatches(ctx, &executorv1.ClearGateLatchesRequest{
		Latches: []executorv1.GateLatch{executorv1.GateLatch_GATE_LATCH_KILLED}, Reason: "chaos goes on",
	}); err != nil {
		return err
	}
	r.happened("gate, killed and cleared")
	return r.observe(ctx)
}

// observe gives every request a shadow, without a lease.
func (r *run) observe(ctx context.Context) error {
	_, err := r.steady.Rollouts.SetRollout(ctx, &executorv1.SetRolloutRequest{
		Percent: 100, Mode: executorv1.RolloutMode_ROLLOUT_MODE_OBSERVE_ONLY, Reason: "chaos goes on",
	})
	return err
}

// decision returns the score and the digest that the decision must have. ok is false if a model decided although the gate does
// not allow it, or too far from the baseline.
func (s State) decision(g *executorv1.GateDecision, baseline string) (want score, ok bool) {
	want = score{s.Baseline, baseline}
	if g.GetDecidedBy() != executorv1.Decider_DECIDER_MODEL {
		return want, g == nil || same(g.GetBaselineScore(), s.Baseline)
	}
	value, known := s.Scores[g.GetModelDigest()]
	return score{value, g.GetModelDigest()}, known && math.Abs(value-s.Baseline) <= faults.MaxDistance && same(g.GetBaselineScore(), s.Baseline)
}

// now removes the times from half of the requests: a gate refuses features that are minutes old.
func now(i int, req *executorv1.PredictRequest) {
	if i%2 == 1 {
		req.EventTime = nil
	}
}
