package cli

import (
	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/rehearsal"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
)

func smokeCommand(c console.Console) *cobra.Command {
	var l loadFlags
	var at endpoint
	var n int
	cmd := &cobra.Command{
		Use: "smoke", Short: "Send 1,000 varied predictions to ml-engine and check every answer",
		Long: `Smoke sends varied market states to a running ml-engine, by name and as vectors in turn, and compares every answer,
to the last bit, with what the same model computes in process. It writes smoke_1k.json and exits 3 when an SLO is missed.`,
		Args: console.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return l.send(c, at, released, func(t *rehearsal.Trial, states []traffic.State, conn *grpc.ClientConn, store *evidence.Store) error {
				r, err := t.Smoke(cmd.Context(), store, mlenginev1.NewScoringServiceClient(conn), traffic.Varied(states, n), l.pace(c.Progress("smoke")))
				if err != nil {
					return err
				}
				saySmoke(c, r)
				return c.Verdict(r.SLO)
			})
		},
	}
	l.declare(cmd.Flags())
	at.declare(cmd.Flags(), c, "engine", "127.0.0.1:4010", "gRPC address of ml-engine")
	declareCount(cmd.Flags(), &n, "predictions")
	return cmd
}
