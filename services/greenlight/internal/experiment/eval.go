package experiment

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/model"
)

// ScorecardSchema is the evidence schema of scorecard.json: the verdicts of all stages of an experiment.
const ScorecardSchema = "greenlight/scorecard/v1"

// EvalResult is the body of eval_result.json: the result of the offline gate.
type EvalResult struct {
	// Result is PASS or FAIL. It is INCONCLUSIVE if there is too little data, and ERROR if there is none.
	Result gate.Verdict  `json:"result"`
	Checks []gate.Result `json:"checks"`
}

// Judge judges the report by the rules of [gate.OfflineJudgment]: AUC and P@20, the amount of data behind them, and the
// quality of the data. A report of v1 has no data quality and is INCONCLUSIVE.
func (r *OfflineReport) Judge() gate.Scorecard {
	card := r.JudgeFigures()
	card.Results = append(card.Results, gate.Judge(gate.OfflineEvidence(), r.evidence()).Results...)
	switch {
	case r.TableInfo != nil:
		card.Results = append(card.Results, gate.Judge(gate.TableData(), r.TableInfo.observations()).Results...)
	case r.Quality != nil:
		card.Results = append(card.Results, NewDataQuality(r.Quality.Report).Checks...)
	default:
		for _, rule := range gate.DataQuality() {
			check := gate.Check(rule, gate.Observation{})
			check.Reason = "not examined: an older version wrote the report"
			card.Results = append(card.Results, check)
		}
	}
	return card
}

// JudgeFigures judges only AUC and P@20, as the gate of v1 did.
func (r *OfflineReport) JudgeFigures() gate.Scorecard {
	return gate.Judge(gate.Offline(), r.Observations())
}

// Headline returns AUC and P@20 of a judgment, and every other figure that is not PASS.
func Headline(card gate.Scorecard) []gate.Result {
	var rows []gate.Result
	for _, r := range card.Results {
		if r.Name == gate.AUC || r.Name == gate.PrecisionAt20 || !r.Verdict.OK() {
			rows = append(rows, r)
		}
	}
	return rows
}

// Text returns the content of eval_result.txt.
func (e EvalResult) Text(version string) (string, error) {
	var text strings.Builder
	fmt.Fprintf(&text, "%s: %s\n\n", version, e.Result)
	err := gate.Scorecard{Results: e.Checks}.Table(&text)
	return text.String(), err
}

// maxReport bounds the size of a report, in bytes.
const maxReport = 64 << 20

// JudgeFolder judges the offline report of the evidence folder and writes eval_result.json and eval_result.txt. The error
// is [os.ErrNotExist] if the folder has no report. git is the revision of the program.
func JudgeFolder(store *evidence.Store, folder, git string) (*OfflineFile, gate.Scorecard, error) {
	none := gate.Scorecard{}
	path := filepath.Join(folder, model.OfflineFile)
	raw, err := durable.ReadFile(path, maxReport)
	if err != nil {
		return nil, none, err
	}
	report, err := ReadOffline(path, raw)
	if err != nil {
		return nil, none, err
	}
	input, err := evidence.InputOf(path)
	if err != nil {
		return nil, none, err
	}
	card := report.Judge()
	result := EvalResult{Result: card.Verdict(), Checks: card.Results}
	text, err := result.Text(report.OfflineReport.Version)
	if err != nil {
		return nil, none, err
	}
	header := evidence.Header{
		Schema: EvalSchema, Source: report.Source, Inputs: []evidence.Input{input}, Model: report.Model, Git: git,
	}
	return report, card, errors.Join(store.WriteJSON("eval_result.json", header, result), store.WriteFile("eval_result.txt", []byte(text)))
}

// TakeOwn writes the model's evaluation to the evidence folder as its offline report. A model from an older version has none;
// the error is then [ErrNoOwnReport], unless the report in the folder is about the model.
func TakeOwn(store *evidence.Store, folder string, a *model.Artifact) error {
	own, err := Own(a)
	if errors.Is(err, ErrNoOwnReport) {
		if raw, missing := durable.ReadFile(filepath.Join(folder, model.OfflineFile), maxReport); missing == nil {
			if report, e := ReadOffline(model.OfflineFile, raw); e == nil && report.Model != nil && report.Model.Digest == a.Digest() {
				return nil
			}
		}
	}
	if err != nil {
		return err
	}
	return store.WriteJSON(model.OfflineFile, own.Header, own.OfflineReport)
}
