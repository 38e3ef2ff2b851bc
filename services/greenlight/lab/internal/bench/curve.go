package bench

import (
	"fmt"
	"io"

	"github.com/greenlight-ml/greenlight/pkg/table"
)

// ScaleSchema names the kind of the JSON.
const ScaleSchema = "greenlight/scale/v1"

// Scale shows how costs grow with sizes on one machine.
type Scale struct {
	Header

	Curves []Curve `json:"curves"`
	// Capacity is computed from the curves.
	Capacity []Capacity `json:"capacity,omitempty"`
}

// Curve is one figure over growing sizes.
type Curve struct {
	// Of is what grows ("rows in a batch"), Measure is the measured figure, in Unit.
	Of      string `json:"of"`
	Measure string `json:"measure"`
	Unit    string `json:"unit"`
	// More reports whether larger is better: a rate, not a cost.
	More   bool    `json:"more_is_better"`
	Points []Point `json:"points"`
}

// Point is the figure at one size.
type Point struct {
	Size  int    `json:"size"`
	Value Spread `json:"value"`
}

// A curve is flat within the first share of its best figure, and bends beyond the second.
const (
	flatShare = 1.25
	bentShare = 1.5
)

// Bends returns the first size at which the curve is within a quarter of its best, and the first size after the best at which
// it is worse by half; 0 if there is none.
func (c Curve) Bends() (flat, bent int) {
	if len(c.Points) == 0 {
		return 0, 0
	}
	worse := func(v, best float64) float64 {
		if c.More {
			return best / v
		}
		return v / best
	}
	best := 0
	for i, p := range c.Points {
		if worse(p.Value.Median, c.Points[best].Value.Median) < 1 {
			best = i
		}
	}
	top := c.Points[best].Value.Median
	for _, p := range c.Points[:best+1] {
		if worse(p.Value.Median, top) <= flatShare {
			flat = p.Size
			break
		}
	}
	for _, p := range c.Points[best:] {
		if worse(p.Value.Median, top) >= bentShare {
			return flat, p.Size
		}
	}
	return flat, 0
}

// Table writes the curves for people.
func (s *Scale) Table(w io.Writer) error {
	var tables []*table.Table
	for i, c := range s.Curves {
		if i == 0 || s.Curves[i-1].Of != c.Of {
			heads := []string{c.Of}
			for _, p := range c.Points {
				heads = append(heads, fmt.Sprintf(">%d", p.Size))
			}
			tables = append(tables, table.New(append(heads, ">best from", ">worse from")...))
		}
		cells := []any{fmt.Sprintf("%s (%s)", c.Measure, c.Unit)}
		for _, p := range c.Points {
			cells = append(cells, threeDigits(p.Value.Median))
		}
		flat, bent := c.Bends()
		worse := "-"
		if bent > 0 {
			worse = fmt.Sprint(bent)
		}
		tables[len(tables)-1].Row(append(cells, flat, worse)...)
	}
	for i, t := range tables {
		if i > 0 {
			_, _ = fmt.Fprintln(w)
		}
		if err := t.Text(w); err != nil {
			return err
		}
	}
	if err := s.capacityTable(w); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n"+s.end(""))
	return err
}

// threeDigits formats a figure with three significant digits.
func threeDigits(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
