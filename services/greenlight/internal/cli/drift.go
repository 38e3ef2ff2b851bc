package cli

import "github.com/spf13/cobra"

func driftCommand(c Console) *cobra.Command {
	cmd := &cobra.Command{
		Use: "drift", Short: "Measure how far the inputs have moved from the training data", Args: NoArgs,
	}
	cmd.AddCommand(driftSnapshotCommand(c), driftWatchCommand(c), driftCompareCommand(c))
	return cmd
}
