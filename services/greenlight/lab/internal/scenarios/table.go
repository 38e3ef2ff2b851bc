package scenarios

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/greenlight-ml/greenlight/pkg/gate"
)

var heads = []string{"scenario", "verdict", "time", "answers", "changed", "expected", "seen"}

func (r Result) cells() []string {
	return []string{
		r.Name, string(r.Verdict), fmt.Sprintf("%.1f s", r.Took.Seconds()), fmt.Sprint(r.Answers.Total - r.Answers.Away), fmt.Sprint(r.Answers.Changed), r.Expect, r.Seen,
	}
}

// Table writes a line per scenario for people.
func Table(out io.Writer, all []Result) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, strings.Join(heads, "\t"))
	for _, r := range all {
		fmt.Fprintln(w, strings.Join(r.cells(), "\t"))
	}
	return w.Flush()
}

// Markdown is the table as a document.
func Markdown(all []Result) []byte {
	var out strings.Builder
	fmt.Fprintf(&out, "# Scenarios of a canary\n\n| %s |\n|%s\n", strings.Join(heads, " | "), strings.Repeat("---|", len(heads)))
	for _, r := range all {
		cells := r.cells()
		for i := range cells {
			cells[i] = strings.ReplaceAll(cells[i], "|", `\|`)
		}
		fmt.Fprintf(&out, "| %s |\n", strings.Join(cells, " | "))
	}
	return []byte(out.String())
}

// Scorecard judges the scenarios together: all must pass.
func Scorecard(all []Result) gate.Scorecard {
	var card gate.Scorecard
	for _, r := range all {
		card.Results = append(card.Results, gate.Result{Name: r.Name, Verdict: r.Verdict})
	}
	return card
}
