package cli

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/text"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/canary"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/canaryview"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/process"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/rehearsal"
)

// rehearse runs the phases against a pair that it starts.
func (s *canaryStart) rehearse(ctx context.Context, c console.Console) error {
	p, err := s.Prepare(c)
	if err != nil {
		return err
	}
	dir := filepath.Join(s.state, "rehearsals", time.Now().UTC().Format("20060102T150405.000Z"))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	pace := s.Pace(nil)
	if pace.Rate == 0 {
		pace.Rate = rehearsal.Rate
	}
	return rehearsal.WithPair(ctx, p.Services, process.Pair{Dir: dir, ShadowTimeout: p.ShadowTimeout}, func(pair *rehearsal.Pair) error {
		if err := pair.Warm(ctx, p.States[0]); err != nil {
			return err
		}
		r, err := dryRun(ctx, c, &rehearsal.Canary{
			Trial: *p.Trial, Pair: pair, State: canary.State(s.state), Folder: s.Evidence, Policy: p.Policy, States: p.States, Pace: pace,
			Keep: func(write func(*evidence.Store) error) error { return withEvidence(s.Evidence, write) },
		})
		if err != nil {
			return err
		}
		if r.Decision == canary.Interrupted {
			return context.Canceled
		}
		if err := canaryview.Table(c.Out, r.Record); err != nil {
			return err
		}
		return c.Verdict(gate.Scorecard{Results: r.Checks})
	})
}

// dryRun runs and shows a dry run.
func dryRun(ctx context.Context, c console.Console, r *rehearsal.Canary) (*rehearsal.CanaryResult, error) {
	r.Run = func(ctx context.Context, run *canary.Run, services *fleet.Services, in *canary.Inspection) (*canary.Record, error) {
		return show(ctx, c, run, services, in)
	}
	result, err := r.Rehearse(ctx)
	if err != nil {
		return nil, refusedCanary(err)
	}
	if result.Decision != canary.Interrupted {
		c.Say("canary    dry run on %s: %s%s; %s, %d other than the baseline's; %s.json", r.Data.Name, result.Decision, because(result.Reason),
			text.Count(result.Answers, "answer"), result.Changed, rehearsal.CanaryName)
	}
	return result, nil
}
