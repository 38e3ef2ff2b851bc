package retrain

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/plots"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/experiment"
)

// Figure is one figure of a report.
type Figure struct {
	// Name is its file in the evidence folder, Caption its description.
	Name, Caption string
	SVG           []byte
}

// Draw draws the figures of a report: the evaluation of the candidate, the drift of its features between the halves of
// the window, and the drift of features and raw inputs in the newest holdout. Empty figures are skipped.
func Draw(s *experiment.Study, c *experiment.Candidate, r *Report) ([]Figure, error) {
	title := fmt.Sprintf("%s on %s", c.Version, s.Data.Name)
	made := ""
	if s.Data.Simulated {
		made = " (SIMULATED)"
	}
	title += made
	ours, _ := c.Pooled()
	theirs, _ := s.Baseline.Pooled()
	d := drawing{folder: "retrain/" + c.Version + "/"}
	d.add("roc", "ROC curve, out of time", func(w io.Writer) error {
		return plots.ROC(w, title, ours.Labels, plots.Scorer{Name: c.Version, Scores: ours.Scores},
			plots.Scorer{Name: experiment.BaselineVersion, Scores: theirs.Scores})
	})
	d.add("reliability", "Reliability, out of time", func(w io.Writer) error { return plots.Reliability(w, title, c.Report.Reliability) })
	d.add("scores", "Scores by class, out of time", func(w io.Writer) error { return plots.Scores(w, title, ours.Scores, ours.Labels) })
	d.add("folds", "Fold by fold", func(w io.Writer) error { return plots.Folds(w, title, c.Report) })
	for _, h := range r.Validation.Features {
		if h.InCandidate && h.Halves != nil {
			d.psi("halves_"+h.Feature, h.Feature+": first half of the window against the second", "first half of the window (grey) and second"+made, *h.Halves)
		}
	}
	if newest := r.Drift.Newest; newest != nil {
		watched := experiment.Watched(c.Schema)
		for _, f := range newest.Features {
			if slices.Contains(watched, f.Feature) {
				d.psi("psi_"+f.Feature, f.Feature+": newest holdout week against its training days", "newest holdout week"+made, f)
			}
		}
	}
	return d.figures, d.err
}

// drawing collects figures until the first error.
type drawing struct {
	folder  string
	figures []Figure
	err     error
}

func (d *drawing) add(name, caption string, draw func(io.Writer) error) {
	if d.err != nil {
		return
	}
	var svg bytes.Buffer
	switch err := draw(&svg); {
	case errors.Is(err, plots.ErrNothing):
	case err != nil:
		d.err = fmt.Errorf("figure %s: %w", name, err)
	default:
		d.figures = append(d.figures, Figure{d.folder + name + ".svg", caption, svg.Bytes()})
	}
}

func (d *drawing) psi(name, caption, title string, f drift.FeatureReading) {
	d.add(name, caption, func(w io.Writer) error { return plots.PSI(w, title, f) })
}
