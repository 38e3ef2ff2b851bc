package chaos

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
)

const (
	lease   = 2 * time.Second
	renewal = lease / 4
	control = "RolloutService"
)

// canary sets the steady executor's rollout with a lease, renews the lease for the event's time, and ends it as the event
// requires. Afterwards every request has a shadow again, without a lease.
func (r *run) canary(ctx context.Context, e Event) error {
	if e.What == Gated {
		return r.gate(ctx, e)
	}
	rollouts := r.steady.Rollouts
	holder := fmt.Sprintf("chaos-%v", e.At)
	renew := func(ctx context.Context) (*executorv1.SetRolloutResponse, error) {
		return rollouts.SetRollout(ctx, &executorv1.SetRolloutRequest{
			Percent: e.Percent, Mode: executorv1.RolloutMode_ROLLOUT_MODE_OBSERVE_ONLY, Lease: durationpb.New(lease), Holder: holder, Reason: "soak",
		})
	}
	for began := time.Now(); time.Since(began) < e.For; {
		resp, err := renew(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			r.book.lost(control, err)
		case resp.GetRollout().GetPercent() != e.Percent:
			r.book.wrong(control, "%v %% after a renewal: want %v", resp.GetRollout().GetPercent(), e.Percent)
		default:
			r.book.add(control, func(c *Calls) { c.Answered++ })
		}
		traffic.Pause(ctx, renewal)
	}
	// A canary that has started is ended even after the time is up.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*lease)
	defer cancel()
	if e.What == Lapsed {
		traffic.Pause(ctx, lease+lease/4)
	} else if err := r.steady.AbortRollout(ctx, e.What); err != nil {
		return err
	}
	now, err := r.steady.Rollout(ctx)
	if err != nil {
		return err
	}
	if p := now.GetRollout().GetPercent(); p != 0 {
		r.book.wrong(control, "%v %% after %s: want 0", p, e.What)
	}
	if e.What == Aborted {
		if _, err := renew(ctx); status.Code(err) != codes.Aborted {
			r.book.wrong(control, "a renewal after an abort: got %v, want ABORTED", err)
		}
	}
	r.happened("canary, " + e.What)
	return r.observe(ctx)
}
