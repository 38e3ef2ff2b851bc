package cli

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"google.golang.org/grpc"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/flags"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/rehearsal"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
)

func smokeCommand(c console.Console) *cobra.Command {
	var l flags.Load
	var at flags.Endpoint
	var n int
	cmd := &cobra.Command{
		Use: "smoke", Short: "Send 1,000 varied predictions to ml-engine and check every answer",
		Long: `Smoke sends varied market states to a running ml-engine, alternately by name and as vectors, and compares every answer bit for
bit with the score of the same model in process. It writes smoke_1k.json and exits 3 when an SLO is missed.`,
		Args: console.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return send(c, &l, at, flags.Released, func(t *rehearsal.Trial, states []traffic.State, conn *grpc.ClientConn, store *evidence.Store) error {
				r, err := t.Smoke(cmd.Context(), store, mlenginev1.NewScoringServiceClient(conn), traffic.Varied(states, n), l.Pace(c.Progress("smoke")))
				if err != nil {
					return err
				}
				c.Say("smoke     %s", r)
				return c.Verdict(r.SLO)
			})
		},
	}
	l.Declare(cmd.Flags())
	at.Declare(cmd.Flags(), c, "engine", "127.0.0.1:4010", "gRPC address of ml-engine")
	declareCount(cmd.Flags(), &n, "predictions")
	return cmd
}

// declareCount declares the number of calls, what.
func declareCount(fs *pflag.FlagSet, n *int, what string) {
	fs.IntVar(n, "n", 1000, "how many "+what)
	console.Require(fs, "n", "at least 1", func() bool { return *n >= 1 })
}

// send reads the states, and hands them to fn with the evidence and a connection to the service.
func send(c console.Console, l *flags.Load, at flags.Endpoint, decides flags.Decider, fn func(*rehearsal.Trial, []traffic.State, *grpc.ClientConn, *evidence.Store) error) error {
	if err := at.Open(); err != nil {
		return err
	}
	t, states, err := l.States(c, decides)
	if err != nil {
		return err
	}
	return withEvidence(l.Evidence, func(store *evidence.Store) error {
		return at.Dial(func(conn *grpc.ClientConn) error { return fn(t, states, conn, store) })
	})
}
