package cli

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/console"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/flags"
)

// judgeOffline judges offline_report.json of the evidence folder, and writes eval_result.json and eval_result.txt.
func judgeOffline(c console.Console, store *evidence.Store, folder string) (gate.Scorecard, error) {
	report, card, err := experiment.JudgeFolder(store, folder, console.Revision())
	if errors.Is(err, os.ErrNotExist) {
		return card, console.WithHint(err, "greenlight train writes it, and greenlight eval --model takes it from a model")
	}
	if err == nil {
		c.Say("eval      %s: %s", report.OfflineReport.Version, card.Verdict())
	}
	return card, err
}

// takeOffline makes the evidence folder's offline_report.json that of the model.
func takeOffline(store *evidence.Store, folder, models, ref string) error {
	a, err := model.OpenRegistry(models).Load(ref)
	if err != nil {
		return console.WithHint(err, "greenlight model list says which models there are; --models names their folder")
	}
	err = experiment.TakeOwn(store, folder, a)
	if errors.Is(err, experiment.ErrNoOwnReport) {
		return console.WithHint(fmt.Errorf("%s: %w, and %s has none of it", ref, err, folder), "train, retrain or import it with this version of greenlight")
	}
	return err
}

func evalCommand(c console.Console) *cobra.Command {
	var folder, models, ref string
	cmd := &cobra.Command{
		Use: "eval", Short: "Judge a model's offline evaluation: may this model be tried at all?",
		Long: `Eval judges an offline evaluation by the offline gate, and writes eval_result.json and eval_result.txt: AUC >= 0.62 and P@20
>= 0.58; at least 10 test days, and intervals entirely above chance; real market data.
It exits 3 when the verdict is not PASS.

With --model it judges the evaluation that train, retrain and model import keep with the model, and writes it to the evidence
folder as offline_report.json. Otherwise it judges the offline_report.json there, which is that of the last train.`,
		Args: console.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			var card gate.Scorecard
			err := withEvidence(folder, func(store *evidence.Store) (err error) {
				if ref != "" {
					if err := takeOffline(store, folder, models, ref); err != nil {
						return err
					}
				}
				card, err = judgeOffline(c, store, folder)
				return err
			})
			if err != nil {
				return err
			}
			return c.Verdict(card)
		},
	}
	cmd.Flags().StringVar(&ref, "model", "", "the model to judge by its own evaluation: name/version, or version")
	cmd.Flags().StringVar(&models, "models", "models", "registry folder with the model")
	flags.Evidence(cmd.Flags(), &folder)
	return cmd
}
