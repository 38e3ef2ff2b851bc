package cli

import (
	"cmp"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/text"
	"github.com/greenlight-ml/greenlight/pkg/trees"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/flags"
)

func modelImport(c console.Console, folder *string) *cobra.Command {
	var d flags.Data
	var sample flags.Table
	var file, schemaName, name, version, trainedTo, label, baseline string
	var horizon time.Duration
	var allTrees bool
	cmd := &cobra.Command{
		Use: "import", Short: "Import a model that LightGBM or XGBoost trained",
		Long: `Import registers a gradient-boosted model that was trained elsewhere: the file of LightGBM's save_model (text) or
dump_model (JSON), or of XGBoost's save_model (JSON), also compressed with gzip. Its inputs are matched to the feature
schema by name. If the file has no names, they must be the schema's features in its order, without bias. Inputs that
are not features of v1.8.1 make a schema of their own, unless --schema names one. After an early stop, an XGBoost file has
trees that XGBClassifier does not use; they are dropped, and the output says so.

The data provides what the file lacks: the baseline, golden vectors, the drift profile, and an evaluation against the
baseline, by which eval, canary and promote judge the model. Give the end of the model's training data with --trained-to: it
is evaluated on the days after. Otherwise the evaluation may include days that the model was trained on, and is INCONCLUSIVE.

A model of a desk's own features needs rows with them, --sample, instead of market data: they give golden vectors and the
drift profile, and with --label and --time also the baseline and the evaluation. Without labels, --baseline names the
baseline.json that production decides by, and the model has no evaluation.`,
		Args: console.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" || version == "" {
				return console.Usagef("--file and --version are required")
			}
			f := experiment.Foreign{Name: name, Version: version, AllTrees: allTrees}
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
			if f.Schema, err = importSchema(schemaName, file, name, f.Raw); err != nil {
				return err
			}
			// Before the data are read: what is wrong with the file is said at once.
			if _, _, err := model.NewTrees(f.Raw, f.Schema, model.Label{}, allTrees); err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			if baseline != "" {
				if f.Baseline, err = model.LoadBaseline(baseline); err != nil {
					return err
				}
			}
			var data *experiment.Data
			switch {
			case sample.Path != "":
				if label != "" && horizon == 0 {
					horizon = f.Schema.Horizon
				}
				if label != "" && (sample.Time == "" || horizon == 0) {
					return console.Usagef("--label needs --time and --horizon: rows whose label looks into a test are left out of the training of the baseline")
				}
				if horizon > 0 {
					if f.Schema, err = f.Schema.WithHorizon(horizon); err != nil {
						return err
					}
				}
				o := experiment.TableOptions{Schema: f.Schema, Label: label, Horizon: horizon}
				if f.Baseline != nil {
					o.Baseline = f.Baseline.Inputs()
				}
				data, err = sample.Load(c, o)
			case !f.Schema.Computable():
				return console.WithHint(fmt.Errorf("%s takes features that cannot be computed from market data: schema %s", file, f.Schema), "give rows with them: --sample, with --time and --label")
			default:
				data, err = d.Load(c)
			}
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
			if !r.Artifact.Schema.Builtin() {
				c.Say("schema    %s: %s", r.Artifact.Schema.Name, text.Count(r.Artifact.Schema.Len(), "feature"))
			}
			if r.Report != nil {
				c.Say("          lift %.2f, Brier %.4f, ECE %.3f", r.Report.Lift, r.Report.Brier, r.Report.ECE)
			}
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
	fs.StringVar(&schemaName, "schema", "", "feature schema of the model's inputs: a built-in one, or a file; by default it is v1.8.1 if that has the inputs, or else made from the model's file")
	fs.StringVar(&sample.Path, "sample", "", "CSV or Parquet file with rows of the model's features, instead of market data")
	fs.StringVar(&sample.Time, "time", "", "column of --sample with the time of a row")
	fs.StringVar(&sample.Group, "group", "", "column of --sample with the symbol of a row, if it has several")
	fs.StringVar(&label, "label", "", "column of --sample with the label, 1 or 0")
	fs.DurationVar(&horizon, "horizon", 0, "how far ahead the label looks, for example 15m; that of the schema when it is not given")
	fs.StringVar(&baseline, "baseline", "", "baseline.json of a model whose --sample has no labels")
	fs.StringVar(&name, "name", "", "name in the registry; that of the data when it is not given")
	fs.StringVar(&version, "version", "", "version in the registry (required)")
	fs.BoolVar(&allTrees, "all-trees", false, "use all trees of the file, also those from after an early stop (best_iteration)")
	fs.StringVar(&trainedTo, "trained-to", "", "day after the last day of the model's training data, YYYY-MM-DD")
	return cmd
}

var notSchemaName = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

// importSchema returns the schema of a model's file: the named one, or that of its inputs.
func importSchema(named, file, as string, raw []byte) (*feature.Schema, error) {
	if named != "" {
		if s, ok := feature.Lookup(named); ok {
			return s, nil
		}
		s, err := flags.ReadSchema(named)
		if err != nil {
			return nil, console.WithHint(fmt.Errorf("--schema: %w", err), "the built-in schemas are %s; or give a file: greenlight schema new writes one", strings.Join(feature.NewKnown().Names(), ", "))
		}
		return s, nil
	}
	base, _, _ := strings.Cut(filepath.Base(file), ".")
	name := strings.Trim(notSchemaName.ReplaceAllString(cmp.Or(as, base), "-"), "-._")
	s, err := model.SchemaOf(raw, cmp.Or(name, "model"))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return s, nil
}
