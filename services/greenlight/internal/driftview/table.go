package driftview

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/greenlight-ml/greenlight/pkg/drift"
)

// Bins selects how a table shows the bins of each feature.
type Bins int

// The ways to show bins.
const (
	// NoBins omits the bins.
	NoBins Bins = iota
	// Numbers shows shares in percent, for pipes and files.
	Numbers
	// Blocks shows bars of Unicode blocks, for terminals.
	Blocks
)

var heads = []string{"feature", "role", "PSI", "status", "null 99 %", "p", "q", "rows", "effective", "verdict"}

// Table writes a line per feature with its bins below it, and the overall lines. It writes nothing without a PSI.
func (r *Report) Table(w io.Writer, bins Bins) error {
	if r.Overall == nil {
		return nil
	}
	var aligned bytes.Buffer
	tw := tabwriter.NewWriter(&aligned, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(tw, strings.Join(heads, "\t"))
	for _, f := range r.Features {
		_, _ = fmt.Fprintln(tw, strings.Join(cells(f.Feature, string(f.Role), f.Reading, f.Q, fmt.Sprintf("%.0f", f.Effective)), "\t"))
	}
	_, _ = fmt.Fprintln(tw, strings.Join(cells("overall", "mean", *r.Overall, nil, "-"), "\t"))
	if r.Weighted != nil {
		_, _ = fmt.Fprintln(tw, strings.Join(cells("overall", "weighted", *r.Weighted, nil, "-"), "\t"))
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	// The bins stand between aligned lines, and so are put there when these have been aligned.
	var out strings.Builder
	line := 0
	for text := range strings.Lines(aligned.String()) {
		out.WriteString(text)
		if i := line - 1; i >= 0 && i < len(r.Features) {
			out.WriteString(bars(r.Features[i].Bins, bins))
		}
		line++
	}
	_, err := io.WriteString(w, out.String())
	return err
}

// cells returns one row of the table.
func cells(name, role string, r drift.Reading, q *float64, effective string) []string {
	q99 := "-"
	if r.Noise != nil {
		q99 = fmt.Sprintf("%.3f", r.Q99)
	} else {
		effective = "-"
	}
	return []string{
		name, role, fmt.Sprintf("%.3f", r.PSI), string(r.Status), q99, probability(r.P), probability(q), fmt.Sprint(r.Samples), effective, string(r.Verdict),
	}
}

func probability(p *float64) string {
	if p == nil {
		return "-"
	}
	return fmt.Sprintf("%.3f", *p)
}
