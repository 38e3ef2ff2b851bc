// Package command is the greenlight-lab command: one file per subcommand.
package command

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
)

// Main runs the command line and returns the exit code.
func Main(ctx context.Context, args, environ []string, stdin io.Reader, stdout, stderr io.Writer) int {
	return console.Run(ctx, newRoot, args, environ, stdin, stdout, stderr)
}

func newRoot(c console.Console) *cobra.Command {
	root := &cobra.Command{
		Use:   "greenlight-lab",
		Short: "Test Greenlight: what it costs, how it scales, how faults affect it, and how often its gates err",
		Long: `Greenlight-lab tests Greenlight. Greenlight runs without it. It needs the programs ml-engine, executor and greenlight in its own
folder, or in the folder of --bin.

Results go to standard output, everything else to standard error. Exit codes: 0 ok, 1 failed, 2 wrong usage, 3 a target
was missed.`,
	}
	root.AddCommand(
		benchCommand(c), scaleCommand(c), faultsCommand(c), chaosCommand(c), scenariosCommand(c), powerCommand(c), calibrateCommand(c), fleetCommand(c),
	)
	return root
}
