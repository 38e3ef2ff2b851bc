package experiment

import (
	"bytes"
	"fmt"
	"io"

	"github.com/greenlight-ml/greenlight/pkg/plots"
)

// Figure is a drawing of an evaluation.
type Figure struct {
	// Name is the file name, for example "offline/roc.svg".
	Name string
	SVG  []byte
}

// Figures draws the out-of-time evaluation of the candidate: its ROC curve and the baseline's, the reliability of its
// probabilities, its scores by class, and its folds.
func (s *Study) Figures(c *Candidate) ([]Figure, error) {
	ours, _ := c.Pooled()
	theirs, _ := s.Baseline.Pooled()
	title := fmt.Sprintf("%s on %s, out of time", c.Version, s.Data.Name)
	if s.Data.Simulated {
		title += " (simulated)"
	}
	drawings := []struct {
		name string
		draw func(io.Writer) error
	}{
		{"roc", func(w io.Writer) error {
			return plots.ROC(w, title, ours.Labels, plots.Scorer{Name: c.Version, Scores: ours.Scores}, plots.Scorer{Name: BaselineVersion, Scores: theirs.Scores})
		}},
		{"reliability", func(w io.Writer) error { return plots.Reliability(w, title, c.Report.Reliability) }},
		{"scores", func(w io.Writer) error { return plots.Scores(w, title, ours.Scores, ours.Labels) }},
		{"folds", func(w io.Writer) error { return plots.Folds(w, title, c.Report) }},
	}
	figures := make([]Figure, 0, len(drawings))
	for _, d := range drawings {
		var svg bytes.Buffer
		if err := d.draw(&svg); err != nil {
			return nil, fmt.Errorf("draw %s: %w", d.name, err)
		}
		figures = append(figures, Figure{Name: "offline/" + d.name + ".svg", SVG: svg.Bytes()})
	}
	return figures, nil
}
