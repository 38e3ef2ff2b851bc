package plots

import (
	"fmt"
	"image/color"
	"io"

	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"

	"github.com/greenlight-ml/greenlight/pkg/eval"
	"github.com/greenlight-ml/greenlight/pkg/text"
)

// maxPoints is the largest number of points drawn for a curve: no screen is that many columns wide for it.
const maxPoints = 800

// Scorer holds a scorer's scores for the rows of a sample, and its name in the legend.
type Scorer struct {
	Name   string
	Scores []float64
}

// styles are the styles of the scorers in one figure, in order. They keep overlapping curves distinguishable.
var styles = []struct {
	colour color.Color
	dashes []vg.Length
}{{blue, nil}, {orange, []vg.Length{6, 3}}, {green, []vg.Length{2, 2}}, {purple, []vg.Length{8, 2, 2, 2}}}

// ROC draws the ROC curves of up to four scorers of the same rows, usually the model and the baseline.
func ROC(w io.Writer, title string, labels []bool, scorers ...Scorer) error {
	if len(scorers) == 0 || len(scorers) > len(styles) {
		return fmt.Errorf("ROC curves of %d scorers: want 1 to %d: %w", len(scorers), len(styles), ErrNothing)
	}
	p := newPanel("False positive rate (share of quiet minutes called a move)", "True positive rate (share of moves found)")
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = 0, 1, 0, 1
	p.X.Tick.Marker, p.Y.Tick.Marker = steps(0, 1, 0.2, 1), steps(0, 1, 0.2, 1)
	chance := p.line(plotter.XYs{{X: 0, Y: 0}, {X: 1, Y: 1}}, grey, 1, 4, 3)
	for i, s := range scorers {
		if len(s.Scores) != len(labels) {
			return fmt.Errorf("ROC curve of %s: %d scores but %d labels", s.Name, len(s.Scores), len(labels))
		}
		curve := eval.Thin(eval.ROC(s.Scores, labels), maxPoints)
		if len(curve) == 0 {
			return fmt.Errorf("ROC curve of %s: %w: %w", s.Name, ErrNothing, eval.ErrOneClass)
		}
		points := make(plotter.XYs, len(curve))
		for j, c := range curve {
			points[j] = plotter.XY{X: c.FalsePositiveRate, Y: c.TruePositiveRate}
		}
		l := p.line(points, styles[i].colour, 1.6, styles[i].dashes...)
		p.Legend.Add(fmt.Sprintf("%s, AUC %.3f", s.Name, eval.AUC(s.Scores, labels)), l)
	}
	p.Legend.Add("chance, AUC 0.500", chance)
	return figure{
		title: "ROC curve: " + title, subtitle: sampleLine(labels),
		width: 420, height: 440, panels: []*panel{p}, shares: []float64{1},
	}.write(w)
}

// sampleLine describes the rows behind a figure.
func sampleLine(labels []bool) string {
	return fmt.Sprintf("n = %s rows, base rate %.3f", text.Grouped(len(labels)), eval.BaseRate(labels))
}
