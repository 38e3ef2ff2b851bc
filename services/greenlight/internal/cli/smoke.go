package cli

import (
	"maps"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"google.golang.org/grpc"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/text"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/flags"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/rehearsal"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
)

func smokeCommand(c console.Console) *cobra.Command {
	var l flags.Load
	var at flags.Endpoint
	var n int
	cmd := &cobra.Command{
		Use: "smoke", Short: "Send 1,000 varied predictions to ml-engine and check every answer",
		Long: `Smoke sends varied market states to a running ml-engine, by name and as vectors in turn, and compares every answer,
to the last bit, with what the same model computes in process. It writes smoke_1k.json and exits 3 when an SLO is missed.`,
		Args: console.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return send(c, &l, at, flags.Released, func(t *rehearsal.Trial, states []traffic.State, conn *grpc.ClientConn, store *evidence.Store) error {
				r, err := t.Smoke(cmd.Context(), store, mlenginev1.NewScoringServiceClient(conn), traffic.Varied(states, n), l.Pace(c.Progress("smoke")))
				if err != nil {
					return err
				}
				saySmoke(c, r)
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

func saySmoke(c console.Console, r *traffic.SmokeResult) {
	c.Say("smoke     %s, %.1f %% right, %s, p50 %.2f ms, p95 %.2f ms, p99 %.2f ms: %s",
		text.Count(r.Total, "prediction"), 100*r.SuccessRate, text.Count(r.Distinct, "distinct score"), r.Latency.P50, r.Latency.P95, r.Latency.P99, r.SLO.Verdict())
	sayErrors(c, r.Errors, r.Examples)
}

// sayShadow prints the result of a stage.
func sayShadow(c console.Console, stage string, r *traffic.ShadowResult) {
	c.Say("%-9s %s, match rate %.1f %% of %s, %s, shadow p95 %.2f ms: %s",
		stage, text.Count(r.Total, "decision"), 100*r.MatchRate, text.Count(r.Comparisons, "comparison"), text.Count(r.ShadowErrors, "shadow error"), r.ShadowLatency.P95, r.SLO.Verdict())
	sayErrors(c, r.Errors, r.Examples)
}

// sayErrors prints how many calls failed, and the first failure of each kind with what to do.
func sayErrors(c console.Console, counts map[string]int, first map[string]error) {
	for _, code := range slices.Sorted(maps.Keys(counts)) {
		c.Say("          %s failed: %v", text.Count(counts[code], "call"), fleet.Plain(first[code]))
		if hint := fleet.Hint(first[code]); hint != "" {
			c.Say("          hint: %s", hint)
		}
	}
}
