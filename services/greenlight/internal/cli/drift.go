package cli

import "github.com/spf13/cobra"

func driftCommand(c console) *cobra.Command {
	cmd := &cobra.Command{
		Use: "drift", Short: "Measure how far the inputs have moved from the training data", Args: noArgs,
	}
	cmd.AddCommand(driftSnapshotCommand(c), driftWatchCommand(c), driftCompareCommand(c), driftCalibrateCommand(c))
	return cmd
}
