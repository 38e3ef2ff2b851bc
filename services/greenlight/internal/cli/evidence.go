package cli

import (
	"github.com/spf13/cobra"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
)

func evidenceCommand(c console) *cobra.Command {
	cmd := &cobra.Command{Use: "evidence", Short: "Check the evidence folder", Args: noArgs}
	var folder string
	verify := &cobra.Command{
		Use: "verify", Short: "Recompute every digest and chain link, and name the first that does not hold",
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			report, err := evidence.Verify(folder)
			if err != nil {
				return err
			}
			for _, p := range report.Problems {
				c.say("%s", p)
			}
			for _, s := range report.Stale {
				c.say("note: %v", s)
			}
			if !report.OK() {
				c.say("%s does not hold", folder)
				return errGate
			}
			c.say("%s holds: %d files, %d lines, head %s", folder, report.Files, report.Lines, report.Head)
			return nil
		},
	}
	declareEvidence(verify.Flags(), &folder)
	cmd.AddCommand(verify)
	return cmd
}
