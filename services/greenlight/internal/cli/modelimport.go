package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/trees"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/flags"
)

func modelImport(c console.Console, folder *string) *cobra.Command {
	var d flags.Data
	var file, schemaName, name, version, trainedTo string
	var allTrees bool
	cmd := &cobra.Command{
		Use: "import", Short: "Import a model that LightGBM or XGBoost trained",
		Long: `Import registers a gradient-boosted model that was trained elsewhere: the file of LightGBM's save_model (text) or
dump_model (JSON), or of XGBoost's save_model (JSON), also compressed with gzip. Its inputs are matched to the feature
schema by name. If the file has no names, they must be the schema's features in its order, without bias. After an early
stop, an XGBoost file has trees that XGBClassifier does not use; they are dropped, and the output says so.

The data provides what the file lacks: the baseline, golden vectors, the drift profile, and an evaluation against the
baseline, by which eval, canary and promote judge the model. Give the end of the model's training data with --trained-to: it
is evaluated on the days after. Otherwise the evaluation may include days that the model was trained on, and is INCONCLUSIVE.`,
		Args: console.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" || version == "" {
				return console.Usagef("--file and --version are required")
			}
			schema, ok := feature.Lookup(schemaName)
			if !ok {
				return console.Usagef("unknown feature schema %q", schemaName)
			}
			f := experiment.Foreign{Schema: schema, Name: name, Version: version, AllTrees: allTrees}
			if trainedTo != "" {
				t, err := time.Parse(time.DateOnly, trainedTo)
				if err != nil {
					return console.Usagef("--trained-to %q: want a date, YYYY-MM-DD", trainedTo)
				}
				f.TrainedTo = t
			}
			var err error
			if f.Raw, err = durable.ReadFile(file, trees.MaxFile); err != nil {
				return err
			}
			// Before the data are read: what is wrong with the file is said at once.
			if _, _, err := model.NewTrees(f.Raw, schema, model.Label{}, allTrees); err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			data, err := d.Load(c)
			if err != nil {
				return err
			}
			r, err := f.Register(cmd.Context(), data, model.OpenRegistry(*folder), console.Revision(), c.Progress("baseline"))
			if err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			m := r.Artifact.Manifest
			c.Say("model     %s/%s/%s, digest %.12s", *folder, m.Name, m.Version, r.Artifact.Digest())
			c.Say("          %s", m.Card)
			c.Say("          lift %.2f, Brier %.4f, ECE %.3f", r.Report.Lift, r.Report.Brier, r.Report.ECE)
			if r.Known {
				c.Say("          note: the registry had this model already, and keeps the evaluation that came with it; give another --version to keep this one")
			}
			if own, err := experiment.Own(r.Kept); err == nil {
				c.Say("offline   %s: greenlight eval --model %s/%s shows why", own.Judge().Verdict(), m.Name, m.Version)
			}
			return nil
		},
	}
	fs := cmd.Flags()
	d.Declare(fs)
	fs.StringVar(&file, "file", "", "the model's file (required)")
	fs.StringVar(&schemaName, "schema", feature.DefaultSchema, "feature schema of the model's inputs")
	fs.StringVar(&name, "name", "", "name in the registry; that of the data when it is not given")
	fs.StringVar(&version, "version", "", "version in the registry (required)")
	fs.BoolVar(&allTrees, "all-trees", false, "use all trees of the file, also those from after an early stop (best_iteration)")
	fs.StringVar(&trainedTo, "trained-to", "", "day after the last day of the model's training data, YYYY-MM-DD")
	return cmd
}
