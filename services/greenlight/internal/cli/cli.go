// Package cli implements the greenlight command line: flags, texts and exit codes, with one command or group per file. Other
// packages do the work.
package cli

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleetcmd"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/gatecmd"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/modelcmd"
)

// Main runs the command line and returns the exit code.
func Main(ctx context.Context, args, environ []string, stdin io.Reader, stdout, stderr io.Writer) int {
	return console.Run(ctx, newRoot, args, environ, stdin, stdout, stderr)
}

// newRoot returns the command with all its subcommands.
func newRoot(c console.Console) *cobra.Command {
	root := &cobra.Command{
		Use:   "greenlight",
		Short: "Prove a trading model against the production heuristic before it can affect an order",
		Long: `Greenlight proves a trading model against the production heuristic before it can affect an order.

A day's work, in order:
  status                the current model, rollout, shadow and canary
  drift snapshot        how far the inputs have drifted
  canary                run a model's shadows on a growing share of the requests
  promote               show what blocks the release of a model, and release it
  gate                  let a promoted model decide a share of the requests
  fleet                 see and stop a group of executors that report over NATS
  rollback              the emergency brake

Results go to standard output, everything else to standard error. All commands that call a service take these flags for TLS
and control: --tls-ca, --tls-cert, --tls-key, --tls-server-name, --control-token-file.

Exit codes:
  0  done; every gate said PASS
  1  failure: something could not be reached, read or written
  2  wrong usage: a mistyped command, flag or value
  3  a gate said no: FAIL, INCONCLUSIVE or ERROR`,
	}
	root.AddCommand(
		runCommand(c), simulateCommand(c), trainCommand(c), evalCommand(c), qualityCommand(c), retrainCommand(c), canaryCommand(c), gatecmd.Command(c), fleetcmd.Command(c),
		smokeCommand(c), shadowSmokeCommand(c), replayCommand(c), modelcmd.Command(c), promoteCommand(c), rollbackCommand(c), statusCommand(c), reportCommand(c),
		agentCommand(c), rowsCommand(c),
		console.Group("drift", "Measure how far the inputs have drifted from the training data", "", driftSnapshotCommand(c), driftWatchCommand(c), driftCompareCommand(c)),
		console.Group("shadow", "Show an executor's shadows: single comparisons, or the models side by side", "", shadowWatchCommand(c), shadowReportCommand(c)),
		console.Group("evidence", "Check the evidence folder, and render it", "", evidenceVerifyCommand(c), evidenceRenderCommand(c)),
		console.Group("rollout", "Read or set the percentage of requests that get a shadow", "", rolloutGet(c), rolloutSet(c)),
		console.Group("feed", "Control the features that executors compute from quotes", "", feedResetCommand(c)),
		console.Group("schema", "Write and check the schema of features that a desk computes itself", "", schemaNew(c), schemaCheck(c)),
	)
	return root
}
