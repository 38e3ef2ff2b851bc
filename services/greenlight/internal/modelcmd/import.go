package modelcmd

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/text"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/flags"
)

func modelImport(c console.Console, folder *string) *cobra.Command {
	var i flags.Import
	cmd := &cobra.Command{
		Use: "import", Short: "Import a model that LightGBM or XGBoost trained",
		Long: `Import registers a gradient-boosted model that was trained elsewhere: the file of LightGBM's save_model (text) or
of XGBoost's save_model (JSON), also compressed with gzip. Its inputs are matched to the feature schema by name. If the
file has no names, they must be the schema's features in its order, without bias. Inputs that are not features of v1.8.1
get a schema of their own, unless --schema names one. After early stopping, an XGBoost file has trees that XGBClassifier
does not use; they are dropped, and the output says so.

The data provides what the file lacks: the baseline, golden vectors, the drift profile, and an evaluation against the
baseline, by which eval, canary and promote judge the model. Give the end of the model's training data with --trained-to: the
model is evaluated on later days. Otherwise the evaluation may include days that the model was trained on, and is INCONCLUSIVE.

A model with a desk's own features needs rows with these features (--sample) instead of market data. They provide the golden
vectors and the drift profile, and with --label and --time also the baseline and the evaluation. Without labels, --baseline
names the baseline.json that production uses, and the model has no evaluation.`,
		Args: console.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, data, err := i.Read(c)
			if err != nil {
				return err
			}
			r, err := f.Register(cmd.Context(), data, model.OpenRegistry(*folder), console.Revision(), c.Progress("baseline"))
			if err != nil {
				return fmt.Errorf("%s: %w", i.File, err)
			}
			m := r.Artifact.Manifest
			c.Say("model     %s/%s/%s, digest %.12s", *folder, m.Name, m.Version, r.Artifact.Digest())
			c.Say("          %s", m.Card)
			if !r.Artifact.Schema.Builtin() {
				c.Say("schema    %s: %s", r.Artifact.Schema.Name, text.Count(r.Artifact.Schema.Len(), "feature"))
			}
			if r.Report != nil {
				c.Say("          lift %.2f, Brier %.4f, ECE %.3f", r.Report.Lift, r.Report.Brier, r.Report.ECE)
			}
			if r.Known {
				c.Say("          note: the registry already had this model, and keeps its first evaluation; give another --version to keep this one")
			}
			c.Say("gate      the model %s", gateText(r.Kept))
			if own, err := experiment.Own(r.Kept); err == nil {
				c.Say("offline   %s: greenlight eval --model %s/%s shows why", own.Judge().Verdict(), m.Name, m.Version)
			}
			return nil
		},
	}
	i.Declare(cmd.Flags())
	return cmd
}
