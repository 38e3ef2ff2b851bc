package report

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/table"
	"github.com/greenlight-ml/greenlight/pkg/twosample"
)

// Markdown formats the summary for people.
func (w *Weekly) Markdown(source evidence.Source) []byte {
	var out bytes.Buffer
	fmt.Fprintf(&out, "# Week %s: %s\n\n%s to %s (UTC), source %s. Counts cover %.1f %% of it; %d requests, %d restarts, %d samples.\n",
		w.Name, w.Verdict, w.Start.Format(time.DateOnly), w.End.Add(-day).Format(time.DateOnly), source, 100*w.Coverage, w.Requests, w.Restarts, w.Samples)
	for _, m := range w.Models {
		fmt.Fprintf(&out, "Model %s, digest %.12s.\n", m.Version, m.Digest)
	}
	if w.PSIMax != nil {
		fmt.Fprintf(&out, "Largest PSI %s.\n", gate.Score.Format(*w.PSIMax))
	}
	if w.Decisions != nil {
		fmt.Fprintf(&out, "Who decided: %s.\n", w.Decisions)
	}
	for _, m := range w.Missing {
		fmt.Fprintf(&out, "- No answer from %s %s in %d of %d samples: %s\n", m.Service, m.Address, m.Samples, w.Samples, oneLine(m.Reason))
	}
	figures := table.New("figure", "target", "achieved", ">n", "status", "action", "reason")
	heads := []string{"day", ">requests"}
	for _, f := range w.Figures {
		figures.Row(f.Name, f.Target(), f.Achieved(), f.N, f.Verdict, f.Action, f.Reason)
		heads = append(heads, ">"+f.Name)
	}
	if w.Quality != nil {
		figures.Row(w.Quality.cells()...)
	}
	days := table.New(append(heads, "status")...)
	for _, d := range w.Days {
		cells := []any{d.Name, d.Requests}
		for _, f := range d.Figures {
			value := "-"
			if f.Value != nil {
				value = f.Unit.Format(*f.Value)
			}
			if f.Verdict != gate.Pass && f.Value != nil {
				value += " " + string(f.Verdict)
			}
			cells = append(cells, value)
		}
		days.Row(append(cells, d.Verdict)...)
	}
	for _, t := range []*table.Table{figures, days} {
		out.WriteString("\n")
		_ = t.Markdown(&out) // a bytes.Buffer does not fail
	}
	return out.Bytes()
}

// Apart describes the classifier's result in a line; empty without one.
func Apart(c *twosample.Result) string {
	switch {
	case c == nil:
		return ""
	case len(c.LeansOn) == 0:
		return fmt.Sprintf("%s: %s", c.Verdict, c.Reason)
	default:
		return fmt.Sprintf("%s: AUC %.3f between reference and present, p %.3f; it leans on %s", c.Verdict, c.AUC, c.P, c.LeansOn[0].Input)
	}
}

// oneLine escapes a table cell: one line, without column separators.
func oneLine(s string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(s), " "), "|", `\|`)
}
