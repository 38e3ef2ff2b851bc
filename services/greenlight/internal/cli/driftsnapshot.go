package cli

import (
	"github.com/spf13/cobra"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/text"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/driftfleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/flags"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

func driftSnapshotCommand(c console.Console) *cobra.Command {
	var e flags.Engines
	var folder, source string
	var check bool
	cmd := &cobra.Command{
		Use: "snapshot", Short: "Record the drift of the inputs that ml-engine has scored",
		Long: `Snapshot adds up the counts of one or several replicas of ml-engine and judges the sum: the population stability index (PSI)
of every feature against the model's training rows, compared with its noise, which is the index without any drift. It writes
psi_snapshot.json and figures to the evidence folder.

An index is FAIL above its threshold (0.2 overall, 0.3 for a feature) and above the 99 % quantile without drift; above the
threshold alone it is INCONCLUSIVE, and so are fewer than 500 rows or 5 days. Replicas with different models or references
are refused. It exits 0 whatever the verdict, and with --check it exits 3 when it is not PASS.`,
		Args: console.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := e.Validate(); err != nil {
				return err
			}
			if err := checkSource(source); err != nil {
				return err
			}
			var r *driftfleet.Report
			if err := e.Dial(func(replicas []fleet.Engine) (err error) {
				r, err = e.Read(cmd.Context(), replicas, true)
				return err
			}); err != nil {
				return err
			}
			for _, replica := range r.Replicas {
				c.Say("engine    %s: %s, digest %.12s, %s", replica.Address, r.Model.Version, r.Model.Digest, text.Count(replica.Rows, "row"))
			}
			if err := sayDrift(c, &r.Report); err != nil {
				return err
			}
			header := evidence.Header{Schema: driftfleet.Schema, Source: evidence.Source(source), Model: &r.Model, Git: console.Revision()}
			if err := keepDrift(c, folder, driftfleet.File, r.Sources.Least(header.Source), func(store *evidence.Store) (int, error) {
				return r.Write(store, header)
			}); err != nil {
				return err
			}
			return gated(check, r.Verdict)
		},
	}
	fs := cmd.Flags()
	e.Declare(fs, c)
	fs.StringVar(&source, "source", string(evidence.Live), "where the scored states come from: live, replay or simulated")
	declareCheck(fs, &check)
	flags.Evidence(fs, &folder)
	return cmd
}
