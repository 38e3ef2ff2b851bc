package gate

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// columns are the headings of both formats.
var columns = [...]string{"SLO", "target", "achieved", "n", "verdict", "reason"}

// cells returns one row of both formats.
func (r Result) cells() [len(columns)]string {
	target := r.target()
	if r.Op == "" {
		target = "-"
	}
	return [...]string{r.Name, target, r.Achieved(), grouped(r.N), string(r.Verdict.known()), r.Reason}
}

// Table writes the scorecard as aligned plain text, with the overall verdict as the last line.
func (c Scorecard) Table(w io.Writer) error {
	var aligned bytes.Buffer
	tw := tabwriter.NewWriter(&aligned, 0, 0, 2, ' ', 0)
	row := func(cells [len(columns)]string) {
		for i, cell := range cells {
			cells[i] = oneLine(cell)
		}
		_, _ = fmt.Fprintln(tw, strings.Join(cells[:], "\t")) // a bytes.Buffer never fails
	}
	row(columns)
	for _, r := range c.Results {
		row(r.cells())
	}
	if err := tw.Flush(); err != nil {
		return fmt.Errorf("table: %w", err)
	}
	var out strings.Builder
	for line := range strings.Lines(aligned.String()) {
		out.WriteString(strings.TrimRight(line, " \n") + "\n") // an empty reason leaves padding
	}
	out.WriteString("overall: " + c.Summary() + "\n")
	if _, err := io.WriteString(w, out.String()); err != nil {
		return fmt.Errorf("table: %w", err)
	}
	return nil
}

// Markdown writes the scorecard as a Markdown table, with the overall verdict below.
func (c Scorecard) Markdown(w io.Writer) error {
	var out strings.Builder
	row := func(cells [len(columns)]string) {
		for i, cell := range cells {
			cells[i] = strings.ReplaceAll(oneLine(cell), "|", `\|`)
		}
		out.WriteString("| " + strings.Join(cells[:], " | ") + " |\n")
	}
	row(columns)
	out.WriteString("|---|---|---:|---:|---|---|\n")
	for _, r := range c.Results {
		row(r.cells())
	}
	out.WriteString("\nOverall: **" + string(c.Verdict()) + "**" + strings.TrimPrefix(c.Summary(), string(c.Verdict())) + "\n")
	if _, err := io.WriteString(w, out.String()); err != nil {
		return fmt.Errorf("markdown: %w", err)
	}
	return nil
}

// oneLine keeps a cell on one line: tabs and line ends would break either table.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
