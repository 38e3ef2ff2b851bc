package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/text"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
)

func replayCommand(c Console) *cobra.Command {
	var l loadFlags
	var at endpoint
	var loop bool
	cmd := &cobra.Command{
		Use: "replay", Short: "Send a market to executor in the order of its minutes",
		Long: `Replay sends every minute that the model was not trained on to a running executor, in order, waits for the shadows
and checks them as shadow-smoke does. It writes shadow_replay.json and exits 3 when an SLO is missed.

With --loop it goes round and round until it is stopped, as the load of a demonstration; give it a --rate. Like a trader
it then asks over streams and waits for no shadow, writes no evidence, and prints what executor counted per round.`,
		Args: NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if loop {
				return l.loop(cmd.Context(), c, at)
			}
			return l.withStates(c, l.decidesAt(cmd.Context(), c, at), func(data *experiment.Data, a *model.Artifact, states []traffic.State, store *evidence.Store) error {
				r, err := shadowLoad(cmd.Context(), c, store, "replay", "shadow_replay.json", at, data, a, states, l.pace(c.Progress("replay")))
				if err != nil {
					return err
				}
				return c.Verdict(r.SLO)
			})
		},
	}
	l.declare(cmd.Flags())
	at.declare(cmd.Flags(), c, "executor", "127.0.0.1:4020", "gRPC address of executor")
	cmd.Flags().BoolVar(&loop, "loop", false, "repeat until stopped")
	return cmd
}

// loop replays until it is stopped. An executor that is away is waited for.
func (l *loadFlags) loop(ctx context.Context, c Console, at endpoint) error {
	data, _, states, err := l.states(c, func(a *model.Artifact) (traffic.Baseline, error) {
		for {
			b, err := l.decidesAt(ctx, c, at)(a)
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
		return nil //nolint:nilerr // stopped, as one stops a loop
	}
	if err != nil {
		return err
	}
	const round = 10_000 // states between two lines
	return at.dial(func(conn *grpc.ClientConn) error {
		for from := 0; ; from = (from + round) % len(states) {
			part := states[from:min(from+round, len(states))]
			r, err := executorClient(conn).Round(ctx, part, l.pace(nil))
			if ctx.Err() != nil {
				return nil //nolint:nilerr // stopped, as one stops a loop
			}
			if err != nil {
				c.Say("%s  executor is not reached, trying again: %v", data.Name, err)
				if !traffic.Pause(ctx, time.Second) {
					return nil
				}
				continue
			}
			c.Say("%s  %s, match rate %.1f %% of %d, %s, shadow p95 %.2f ms",
				data.Name, text.Count(r.Total, "decision"), 100*r.MatchRate(), r.Compared(),
				text.Count(r.Counts.Failed(), "shadow error"), r.Latency.Quantile(0.95))
		}
	})
}
