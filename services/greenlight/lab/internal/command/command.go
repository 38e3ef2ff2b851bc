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
		Short: "Prove Greenlight: its costs, its growth, its faults, and how often its gates are wrong",
		Long: `Greenlight-lab proves Greenlight. Nothing of it is needed to run Greenlight; it needs the programs ml-engine, executor and
greenlight in its own folder, or in that of --bin.

Results go to standard output, everything else to standard error. Exit codes: 0 ok, 1 failed, 2 wrong usage, 3 a target
was missed.`,
	}
	root.AddCommand(
		benchCommand(c), scaleCommand(c), faultsCommand(c), chaosCommand(c), scenariosCommand(c), powerCommand(c), calibrateCommand(c), fleetCommand(c),
	)
	return root
}
