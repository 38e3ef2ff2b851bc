package cli

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/text"
	"github.com/greenlight-ml/greenlight/pkg/train"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/flags"
)

// trainFlags say what to train and where to keep it.
type trainFlags struct {
	data     flags.Data
	models   string
	model    string
	versions map[string]string
}

func (t *trainFlags) declare(fs *pflag.FlagSet) {
	t.data.Declare(fs)
	fs.StringVar(&t.model, "model", flags.DefaultModel, "version of the model under trial: the one that the report is about")
	fs.StringToStringVar(&t.versions, "versions", experiment.DefaultVersions(), "version of the model to train, by feature schema")
}

// trained is a study whose models are in the registry.
type trained struct {
	*experiment.Study

	// candidate is the model under trial, artifact its files.
	candidate *experiment.Candidate
	artifact  *model.Artifact
}

// train loads the data, trains every model, registers them and writes offline_report.json.
func (t *trainFlags) train(ctx context.Context, c console.Console, store *evidence.Store) (*trained, error) {
	data, err := t.data.Load(c)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	s, err := experiment.Run(ctx, data, experiment.Options{Versions: t.versions, Progress: c.Progress("training")})
	if errors.Is(err, train.ErrTooFewDays) {
		return nil, console.WithHint(err, "train on at least 8 days of one-minute data; greenlight run without --data simulates 42")
	}
	if err != nil {
		return nil, err
	}
	candidate, err := s.Candidate(t.model)
	if err != nil {
		return nil, console.Usage(err)
	}
	artifact, report, err := s.Register(model.OpenRegistry(t.models), store, candidate, console.Revision(), time.Now())
	if taken := (*experiment.RegisterError)(nil); errors.As(err, &taken) && errors.Is(err, model.ErrExists) {
		return nil, console.WithHint(err, "give the new model another version, for example --versions %s=%s-2", taken.Candidate.Schema.Name, taken.Candidate.Version)
	}
	if err != nil {
		return nil, err
	}
	c.Say("train     %s and the baseline, walk-forward over %s, in %s", text.Count(len(s.Candidates), "model"), text.Count(len(candidate.Folds), "fold"),
		time.Since(start).Round(10*time.Millisecond))
	return &trained{s, candidate, artifact}, c.Indented(report.Table)
}

func trainCommand(c console.Console) *cobra.Command {
	var t trainFlags
	var folder string
	cmd := &cobra.Command{
		Use: "train", Short: "Train the models and the baseline walk-forward, and register them",
		Long: `Train fits a model per feature schema and the baseline heuristic, walk-forward by UTC days, and judges them out of
time on the same rows. The models of the newest training window go to the registry folder, each with its baseline,
golden vectors, own evaluation and manifest; offline_report.json of the model under trial goes to the evidence folder.
greenlight eval gives the verdict.

The quality of the data is checked first. Frozen stretches (one price for hours, a few prices, a straight line, a copy of other
minutes) are skipped like gaps, and the verdict fails if there are too many.`,
		Args: console.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withEvidence(folder, func(store *evidence.Store) error {
				result, err := t.train(cmd.Context(), c, store)
				if err != nil {
					return err
				}
				for _, other := range result.Candidates {
					c.Say("model     %s/%s/%s", t.models, result.Data.Name, other.Version)
				}
				return nil
			})
		},
	}
	t.declare(cmd.Flags())
	cmd.Flags().StringVar(&t.models, "models", "models", "registry folder")
	flags.Evidence(cmd.Flags(), &folder)
	return cmd
}
