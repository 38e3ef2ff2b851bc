package cli

import (
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/text"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/driftview"
)

func driftCommand(c console.Console) *cobra.Command {
	cmd := &cobra.Command{
		Use: "drift", Short: "Measure how far the inputs have drifted from the training data", Args: console.NoArgs,
	}
	cmd.AddCommand(driftSnapshotCommand(c), driftWatchCommand(c), driftCompareCommand(c))
	return cmd
}

// checkSource checks the value of --source.
func checkSource(source string) error {
	if !evidence.Source(source).Valid() {
		return console.Usagef("--source %q: want %s, %s or %s", source, evidence.Live, evidence.Replay, evidence.Simulated)
	}
	return nil
}

func declareCheck(fs *pflag.FlagSet, check *bool) {
	fs.BoolVar(check, "check", false, "exit 3 when the verdict is not PASS")
}

// gated returns the error of a verdict that is checked and is not PASS.
func gated(check bool, v gate.Verdict) error {
	if check && !v.OK() {
		return console.ErrGate
	}
	return nil
}

// keepDrift writes a report, and prints where it is.
func keepDrift(c console.Console, folder, file string, source evidence.Source, write func(*evidence.Store) (figures int, err error)) error {
	return withEvidence(folder, func(store *evidence.Store) error {
		figures, err := write(store)
		if err == nil {
			c.Say("evidence  %s (%s), with %s", filepath.Join(folder, file), source, text.Count(figures, "figure"))
		}
		return err
	})
}

// sayDrift prints the report, with drawings of the bins on a terminal.
func sayDrift(c console.Console, r *driftview.Report) error {
	bins := driftview.Numbers
	if c.Screen != nil {
		bins = driftview.Blocks
	}
	return r.Text(c.Out, bins)
}
