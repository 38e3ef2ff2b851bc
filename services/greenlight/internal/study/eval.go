package study

import (
	"fmt"
	"strings"

	"github.com/greenlight-ml/greenlight/pkg/gate"
)

// EvalResult is the body of eval_result.json: the verdict of the offline gate.
type EvalResult struct {
	// Result is PASS or FAIL; INCONCLUSIVE or ERROR when there is too little or no evidence.
	Result gate.Verdict  `json:"result"`
	Checks []gate.Result `json:"checks"`
}

// Judge judges the report by the offline gate.
func (r *OfflineReport) Judge() gate.Scorecard {
	return gate.Judge(gate.Offline(), r.Observations())
}

// Text is the result as people read it: eval_result.txt.
func (e EvalResult) Text(version string) (string, error) {
	var text strings.Builder
	fmt.Fprintf(&text, "%s: %s\n\n", version, e.Result)
	err := gate.Scorecard{Results: e.Checks}.Table(&text)
	return text.String(), err
}
