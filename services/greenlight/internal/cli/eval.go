package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/study"
)

// judgeOffline reads offline_report.json, judges it, and writes eval_result.json and eval_result.txt.
func judgeOffline(c console, store *evidence.Store, folder string) (gate.Scorecard, error) {
	path := filepath.Join(folder, "offline_report.json")
	var report struct {
		evidence.Header
		study.OfflineReport
	}
	raw, err := durable.ReadFile(path, durable.MaxDocument)
	if errors.Is(err, os.ErrNotExist) {
		return gate.Scorecard{}, withHint(err, "greenlight train writes it")
	}
	if err != nil {
		return gate.Scorecard{}, err
	}
	if err := json.Unmarshal(raw, &report); err != nil {
		return gate.Scorecard{}, fmt.Errorf("%s: %w", path, err)
	}
	if report.Header.Schema != study.OfflineSchema || report.OfflineReport.Report == nil {
		return gate.Scorecard{}, fmt.Errorf("%s: schema %q: want %q", path, report.Header.Schema, study.OfflineSchema)
	}
	input, err := evidence.InputOf(path)
	if err != nil {
		return gate.Scorecard{}, err
	}
	card := report.Judge()
	result := study.EvalResult{Result: card.Verdict(), Checks: card.Results}
	header := evidence.Header{
		Schema: study.EvalSchema, Source: report.Source, Inputs: []evidence.Input{input},
		Model: report.Model, Git: revision(),
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
	c.say("eval      %s: %s", report.OfflineReport.Version, card.Verdict())
	return card, nil
}

func evalCommand(c console) *cobra.Command {
	var folder string
	cmd := &cobra.Command{
		Use: "eval", Short: "Judge offline_report.json: may this model be tried at all?",
		Long: `Eval judges the offline report of the last greenlight train by the offline gate (AUC >= 0.62, P@20 >= 0.58) and writes
eval_result.json and eval_result.txt. It exits 3 when the verdict is not PASS.`,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			store, err := evidence.Open(folder, evidence.Options{})
			if err != nil {
				return err
			}
			card, err := judgeOffline(c, store, folder)
			if err = errors.Join(err, store.Close()); err != nil {
				return err
			}
			return c.verdict(card)
		},
	}
	declareEvidence(cmd.Flags(), &folder)
	return cmd
}

// verdict prints the scorecard and makes its verdict the exit code.
func (c console) verdict(card gate.Scorecard) error {
	if err := card.Table(c.out); err != nil {
		return err
	}
	if !card.Verdict().OK() {
		return errGate
	}
	return nil
}
