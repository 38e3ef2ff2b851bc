package driftview

import (
	"fmt"
	"io"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/table"
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

// Table writes a line per feature with its bins below it, and the overall lines. It writes nothing without a PSI.
func (r *Report) Table(w io.Writer, bins Bins) error {
	if r.Overall == nil {
		return nil
	}
	t := table.New("feature", "role", "PSI", "status", "null 99 %", "p", "q", "rows", "effective", "verdict")
	for _, f := range r.Features {
		t.Row(cells(f.Feature, string(f.Role), f.Reading, f.Q, fmt.Sprintf("%.0f", f.Effective))...)
		t.Below(bars(f.Bins, bins))
	}
	t.Row(cells("overall", "mean", *r.Overall, nil, "-")...)
	if r.Weighted != nil {
		t.Row(cells("overall", "weighted", *r.Weighted, nil, "-")...)
	}
	return t.Text(w)
}

// cells returns one row of the table.
func cells(name, role string, r drift.Reading, q *float64, effective string) []any {
	q99 := "-"
	if r.Noise != nil {
		q99 = fmt.Sprintf("%.3f", r.Q99)
	} else {
		effective = "-"
	}
	return []any{name, role, fmt.Sprintf("%.3f", r.PSI), r.Status, q99, probability(r.P), probability(q), r.Samples, effective, r.Verdict}
}

func probability(p *float64) string {
	if p == nil {
		return "-"
	}
	return fmt.Sprintf("%.3f", *p)
}
