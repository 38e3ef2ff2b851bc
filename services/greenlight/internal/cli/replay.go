package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/text"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/flags"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/rehearsal"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
)

func replayCommand(c console.Console) *cobra.Command {
	var l flags.Load
	var at flags.Endpoint
	var loop bool
	cmd := &cobra.Command{
		Use: "replay", Short: "Send a market to executor in the order of its minutes",
		Long: `Replay sends every minute that the model was not trained on to a running executor, in order, waits for the shadows
and checks them as shadow-smoke does. It writes shadow_replay.json and exits 3 when an SLO is missed.

With --loop it repeats until it is stopped, as the load of a demonstration; give it a --rate. It then writes no evidence, and
prints a line per round.`,
		Args: console.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if loop {
				return loopReplay(cmd.Context(), c, &l, at)
			}
			return sendShadows(cmd.Context(), c, &l, at, "replay", rehearsal.ReplayFile, func(states []traffic.State) []traffic.State { return states })
		},
	}
	l.Declare(cmd.Flags())
	at.Declare(cmd.Flags(), c, "executor", "127.0.0.1:4020", "gRPC address of executor")
	cmd.Flags().BoolVar(&loop, "loop", false, "repeat until stopped")
	return cmd
}

// loopReplay replays until it is stopped. It waits for an executor that is not reached.
func loopReplay(ctx context.Context, c console.Console, l *flags.Load, at flags.Endpoint) error {
	t, states, err := l.States(c, func(a *model.Artifact) (traffic.Baseline, error) {
		for {
			b, err := l.DecidesAt(ctx, c, at)(a)
			if code := status.Code(err); code != codes.Unavailable && code != codes.DeadlineExceeded || ctx.Err() != nil {
				return b, err
			}
			c.Say("executor is not reached, trying again: %v", err)
			if !traffic.Pause(ctx, time.Second) {
				return b, ctx.Err()
			}
		}
	})
	if ctx.Err() != nil {
		return nil //nolint:nilerr // the operator stopped the loop
	}
	if err != nil {
		return err
	}
	return at.Dial(func(conn *grpc.ClientConn) error {
		traffic.Loop(ctx, fleet.NewExecutor(conn.Target(), conn), t.Artifact, states, l.Pace(nil), func(r *traffic.ShadowResult, err error) {
			if err != nil {
				c.Say("%s  executor is not reached, trying again: %v", t.Data.Name, err)
				return
			}
			c.Say("%s  %s, match rate %.1f %% of %d, %s, shadow p95 %.2f ms",
				t.Data.Name, text.Count(r.Total, "decision"), 100*r.MatchRate, r.Comparisons, text.Count(r.ShadowErrors, "shadow error"), r.ShadowLatency.P95)
		})
		return nil
	})
}
