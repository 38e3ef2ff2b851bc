package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/text"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/flags"
)

// trainFlags are the flags that select what to train and where to store it.
type trainFlags struct {
	flags.Train

	models string
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
	start := time.Now()
	s, err := t.Study(ctx, c)
	if err != nil {
		return nil, err
	}
	candidate, err := s.Candidate(t.Model)
	if err != nil {
		return nil, console.Usage(err)
	}
	artifact, report, err := s.Register(model.OpenRegistry(t.models), store, candidate, console.Revision(), time.Now())
	if taken := (*experiment.RegisterError)(nil); errors.As(err, &taken) && errors.Is(err, model.ErrExists) {
		if s.Data.Table != nil {
			return nil, console.WithHint(err, "give the new model another version, for example --model %s-2", taken.Candidate.Version)
		}
		return nil, console.WithHint(err, "give the new model another version, for example --versions %s=%s-2", taken.Candidate.Schema.Name, taken.Candidate.Version)
	}
	if err != nil {
		return nil, err
	}
	c.Say("train     %s and the baseline, walk-forward over %s, in %s", text.Count(len(s.Candidates), "model"), text.Count(len(candidate.Folds), "fold"),
		time.Since(start).Round(10*time.Millisecond))
	if err := c.Indented(report.Table); err != nil {
		return nil, err
	}
	if report.QualityPlan != nil {
		c.Say("quality   %s", report.QualityPlan.Line())
	}
	return &trained{s, candidate, artifact}, nil
}

func trainCommand(c console.Console) *cobra.Command {
	var t trainFlags
	var folder string
	cmd := console.Command("train", "Train the models and the baseline walk-forward, and register them",
		`Train fits one model per feature schema and the baseline heuristic, walk-forward by UTC days, and judges them out of time
on the same rows. The models of the newest training window go to the registry folder, each with its baseline, golden vectors,
own evaluation and manifest; offline_report.json of the model under trial goes to the evidence folder. For the verdict, run
greenlight eval.

The quality of the data is checked first. Frozen stretches (one price for hours, a few prices, a straight line, a copy of other
minutes) are skipped like gaps, and the verdict fails if there are too many.

With --table it trains on a desk's own features and labels instead: a CSV or Parquet file with a column for each feature of
--schema, for the label (1 or 0), and for the time of a row. Folds, gates, drift profile and artifact are the same. Rows whose
label overlaps the days of a test are left out of its training.`,
		func(ctx context.Context) error {
			return flags.WithEvidence(c, folder, func(store *evidence.Store) error {
				result, err := t.train(ctx, c, store)
				if err != nil {
					return err
				}
				for _, other := range result.Candidates {
					c.Say("model     %s/%s/%s", t.models, result.Data.Name, other.Version)
				}
				return nil
			})
		})
	t.Declare(cmd.Flags())
	t.DeclareTable(cmd.Flags())
	cmd.Flags().StringVar(&t.models, "models", "models", "registry folder")
	flags.Evidence(cmd.Flags(), &folder)
	return cmd
}

// judgeOffline judges offline_report.json of the evidence folder, and writes eval_result.json and eval_result.txt.
func judgeOffline(c console.Console, store *evidence.Store, folder string) (gate.Scorecard, error) {
	report, card, err := experiment.JudgeFolder(store, folder, console.Revision())
	if errors.Is(err, os.ErrNotExist) {
		return card, console.WithHint(err, "greenlight train writes it; greenlight eval --model takes it from a model")
	}
	if err == nil {
		c.Say("eval      %s: %s", report.OfflineReport.Version, card.Verdict())
	}
	return card, err
}

// takeOffline copies the model's own evaluation to offline_report.json in the evidence folder.
func takeOffline(store *evidence.Store, folder, models, ref string) error {
	a, err := model.OpenRegistry(models).Load(ref)
	if err != nil {
		return console.WithHint(err, "greenlight model list shows the models; --models names their folder")
	}
	err = experiment.TakeOwn(store, folder, a)
	if errors.Is(err, experiment.ErrNoOwnReport) {
		return console.WithHint(fmt.Errorf("%s: %w, and %s has none of it", ref, err, folder), "train, retrain or import it with this version of greenlight")
	}
	return err
}

func evalCommand(c console.Console) *cobra.Command {
	var folder, models, ref string
	cmd := console.Command("eval", "Judge a model's offline evaluation: is the model good enough for a trial?",
		`Eval judges an offline evaluation by the offline gate, and writes eval_result.json and eval_result.txt: AUC >= 0.62 and P@20
>= 0.58; at least 10 test days, and intervals entirely above chance; real market data.
It exits 3 unless the verdict is PASS.

With --model it judges the evaluation that train, retrain and model import store with the model, and writes it to the evidence
folder as offline_report.json. Otherwise it judges the existing offline_report.json, which the last train wrote.`,
		func(context.Context) error {
			card, err := flags.Keep(c, folder, func(store *evidence.Store) (gate.Scorecard, error) {
				if ref != "" {
					if err := takeOffline(store, folder, models, ref); err != nil {
						return gate.Scorecard{}, err
					}
				}
				return judgeOffline(c, store, folder)
			})
			if err != nil {
				return err
			}
			return c.Verdict(card)
		})
	cmd.Flags().StringVar(&ref, "model", "", "the model to judge by its own evaluation: name/version, or version")
	cmd.Flags().StringVar(&models, "models", "models", "registry folder with the model")
	flags.Evidence(cmd.Flags(), &folder)
	console.OutputsVerdict(c, cmd)
	return cmd
}
