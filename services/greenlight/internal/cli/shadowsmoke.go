package cli

import (
	"context"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/flags"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/rehearsal"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
)

func shadowSmokeCommand(c console.Console) *cobra.Command {
	var l flags.Load
	var at flags.Endpoint
	var n int
	cmd := &cobra.Command{
		Use: "shadow-smoke", Short: "Send 1,000 varied decisions to executor and check baseline and shadow",
		Long: `Shadow-smoke sends varied market states to a running executor and waits for their shadows. Every baseline score and
every shadow score is compared bit for bit with one computed in process; outcomes must add up to requests. The baseline that
the executor names must be in --models: otherwise its answers cannot be checked, and the verdict is not PASS. It writes shadow_smoke_1k.json and exits 3 when an SLO is missed.`,
		Args: console.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return sendShadows(cmd.Context(), c, &l, at, "shadow", rehearsal.ShadowFile, func(states []traffic.State) []traffic.State { return traffic.Varied(states, n) })
		},
	}
	l.Declare(cmd.Flags())
	at.Declare(cmd.Flags(), c, "executor", "127.0.0.1:4020", "gRPC address of executor")
	declareCount(cmd.Flags(), &n, "decisions")
	return cmd
}

// sendShadows sends the states that pick returns to a running executor, and writes the file.
func sendShadows(ctx context.Context, c console.Console, l *flags.Load, at flags.Endpoint, stage, file string, pick func([]traffic.State) []traffic.State) error {
	return send(c, l, at, l.DecidesAt(ctx, c, at), func(t *rehearsal.Trial, states []traffic.State, conn *grpc.ClientConn, store *evidence.Store) error {
		r, err := t.Shadow(ctx, store, file, fleet.NewExecutor(conn.Target(), conn), pick(states), l.Pace(c.Progress(stage)))
		if err != nil {
			return err
		}
		c.Say("%-9s %s", stage, r)
		return c.Verdict(r.SLO)
	})
}
