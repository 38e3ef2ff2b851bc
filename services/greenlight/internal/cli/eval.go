package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
)

// judgeOffline judges offline_report.json of the evidence folder, and writes eval_result.json and eval_result.txt.
func judgeOffline(c Console, store *evidence.Store, folder string) (gate.Scorecard, error) {
	path := filepath.Join(folder, model.OfflineFile)
	raw, err := durable.ReadFile(path, maxReport)
	if errors.Is(err, os.ErrNotExist) {
		return gate.Scorecard{}, WithHint(err, "greenlight train writes it, and greenlight eval --model takes it from a model")
	}
	if err != nil {
		return gate.Scorecard{}, err
	}
	report, err := experiment.ReadOffline(path, raw)
	if err != nil {
		return gate.Scorecard{}, err
	}
	input, err := evidence.InputOf(path)
	if err != nil {
		return gate.Scorecard{}, err
	}
	card := report.Judge()
	result := experiment.EvalResult{Result: card.Verdict(), Checks: card.Results}
	header := evidence.Header{
		Schema: experiment.EvalSchema, Source: report.Source, Inputs: []evidence.Input{input},
		Model: report.Model, Git: Revision(),
	}
	if err := store.WriteJSON("eval_result.json", header, result); err != nil {
		return card, err
	}
	text, err := result.Text(report.OfflineReport.Version)
	if err != nil {
		return card, err
	}
	if err := store.WriteFile("eval_result.txt", []byte(text)); err != nil {
		return card, err
	}
	c.Say("eval      %s: %s", report.OfflineReport.Version, card.Verdict())
	return card, nil
}

// maxReport bounds what is read of a report, in bytes.
const maxReport = 64 << 20

// takeOffline makes the evidence folder's offline_report.json that of the model. A model of an older version has none: then
// the folder's must be about it already.
func takeOffline(store *evidence.Store, folder, models, ref string) error {
	a, err := model.OpenRegistry(models).Load(ref)
	if err != nil {
		return WithHint(err, "greenlight model list says which models there are; --models names their folder")
	}
	own, err := experiment.Own(a)
	if errors.Is(err, experiment.ErrNoOwnReport) {
		raw, missing := durable.ReadFile(filepath.Join(folder, model.OfflineFile), maxReport)
		if report, e := experiment.ReadOffline(model.OfflineFile, raw); missing == nil && e == nil && report.Model != nil && report.Model.Digest == a.Digest() {
			return nil
		}
		return WithHint(fmt.Errorf("%s: %w, and %s has none of it", ref, err, folder), "train, retrain or import it with this version of greenlight")
	}
	if err != nil {
		return err
	}
	return store.WriteJSON(model.OfflineFile, own.Header, own.OfflineReport)
}

func evalCommand(c Console) *cobra.Command {
	var folder, models, ref string
	cmd := &cobra.Command{
		Use: "eval", Short: "Judge a model's offline evaluation: may this model be tried at all?",
		Long: `Eval judges an offline evaluation by the offline gate, and writes eval_result.json and eval_result.txt: AUC >= 0.62 and P@20
>= 0.58; at least 10 test days, and lower ends of the intervals that are better than a coin; market data that a market made.
It exits 3 when the verdict is not PASS.

With --model it is the model's own evaluation, which train, retrain and model import keep with the model; the evidence
folder's offline_report.json is then that one. Without, it is the offline_report.json that is there: of the last train.`,
		Args: NoArgs,
		RunE: func(*cobra.Command, []string) error {
			store, err := evidence.Open(folder, evidence.Options{})
			if err != nil {
				return err
			}
			if ref != "" {
				if err := takeOffline(store, folder, models, ref); err != nil {
					return errors.Join(err, store.Close())
				}
			}
			card, err := judgeOffline(c, store, folder)
			if err = errors.Join(err, store.Close()); err != nil {
				return err
			}
			return c.Verdict(card)
		},
	}
	cmd.Flags().StringVar(&ref, "model", "", "the model to judge by its own evaluation: name/version, or version")
	cmd.Flags().StringVar(&models, "models", "models", "registry folder with the model")
	DeclareEvidence(cmd.Flags(), &folder)
	return cmd
}

// Verdict prints the scorecard and makes its verdict the exit code.
func (c Console) Verdict(card gate.Scorecard) error {
	if err := card.Table(c.Out); err != nil {
		return err
	}
	if !card.Verdict().OK() {
		return ErrGate
	}
	return nil
}
