package gate

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"github.com/greenlight-ml/greenlight/pkg/table"
	"github.com/greenlight-ml/greenlight/pkg/text"
)

// rows returns the scorecard as a table.
func (c Scorecard) rows() *table.Table {
	t := table.New("SLO", "target", ">achieved", ">n", "verdict", "reason")
	for _, r := range c.Results {
		t.Row(r.Name, r.Target(), r.Achieved(), text.Grouped(r.N), r.Verdict.known(), r.Reason)
	}
	return t
}

// Table writes the scorecard as aligned plain text, with the overall verdict as the last line.
func (c Scorecard) Table(w io.Writer) error {
	var out bytes.Buffer
	_ = c.rows().Text(&out) // a bytes.Buffer does not fail
	out.WriteString("overall: " + c.Summary() + "\n")
	if _, err := out.WriteTo(w); err != nil {
		return fmt.Errorf("table: %w", err)
	}
	return nil
}

// Markdown writes the scorecard as a Markdown table, with the overall verdict below.
func (c Scorecard) Markdown(w io.Writer) error {
	var out bytes.Buffer
	_ = c.rows().Markdown(&out) // a bytes.Buffer does not fail
	out.WriteString("\nOverall: **" + string(c.Verdict()) + "**" + strings.TrimPrefix(c.Summary(), string(c.Verdict())) + "\n")
	if _, err := out.WriteTo(w); err != nil {
		return fmt.Errorf("markdown: %w", err)
	}
	return nil
}
