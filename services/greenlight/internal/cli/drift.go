package cli

import "github.com/spf13/cobra"

func driftCommand(c console) *cobra.Command {
	cmd := &cobra.Command{
		Use: "drift", Short: "Measure how far what is scored has moved from what the model was trained on", Args: noArgs,
	}
	cmd.AddCommand(driftSnapshotCommand(c), driftWatchCommand(c), driftCompareCommand(c), driftCalibrateCommand(c))
	return cmd
}
