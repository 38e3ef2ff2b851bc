package scenarios

import (
	"bytes"
	"fmt"
	"io"

	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/table"
)

func tableOf(all []Result) *table.Table {
	t := table.New("scenario", "verdict", "time", "answers", "changed", "expected", "seen")
	for _, r := range all {
		t.Row(r.Name, r.Verdict, fmt.Sprintf("%.1f s", r.Took.Seconds()), r.Answers.Total-r.Answers.Away, r.Answers.Changed, r.Expect, r.Seen)
	}
	return t
}

// Table writes a line per scenario.
func Table(out io.Writer, all []Result) error { return tableOf(all).Text(out) }

// Markdown returns the table as a document.
func Markdown(all []Result) []byte {
	var out bytes.Buffer
	out.WriteString("# Scenarios of a canary\n\n")
	_ = tableOf(all).Markdown(&out) // a bytes.Buffer does not fail
	return out.Bytes()
}

// Scorecard judges the scenarios together: all must pass.
func Scorecard(all []Result) gate.Scorecard {
	var card gate.Scorecard
	for _, r := range all {
		card.Results = append(card.Results, gate.Result{Name: r.Name, Verdict: r.Verdict})
	}
	return card
}
