package experiment

import (
	"fmt"
	"strings"

	"github.com/greenlight-ml/greenlight/pkg/gate"
)

// ScorecardSchema is the evidence schema of scorecard.json: the verdicts of all stages of an experiment.
const ScorecardSchema = "greenlight/scorecard/v1"

// EvalResult is the body of eval_result.json: the result of the offline gate.
type EvalResult struct {
	// Result is PASS or FAIL. It is INCONCLUSIVE or ERROR if there is too little or no data.
	Result gate.Verdict  `json:"result"`
	Checks []gate.Result `json:"checks"`
}

// Judge judges the report by the rules of [gate.OfflineJudgment]: AUC and P@20, the amount of data behind them, and the
// quality of the data. A report of v1 has no data quality, which is INCONCLUSIVE.
func (r *OfflineReport) Judge() gate.Scorecard {
	card := r.JudgeFigures()
	card.Results = append(card.Results, gate.Judge(gate.OfflineEvidence(), r.evidence()).Results...)
	if r.Quality != nil {
		card.Results = append(card.Results, NewDataQuality(r.Quality.Quality).Checks...)
	} else {
		for _, check := range gate.Judge(gate.DataQuality(), unexamined()).Results {
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

// Headline returns AUC and P@20 of a judgment, and every other figure that is not a PASS.
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
