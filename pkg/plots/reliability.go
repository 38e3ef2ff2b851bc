package plots

import (
	"fmt"
	"io"
	"math"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"

	"github.com/greenlight-ml/greenlight/pkg/eval"
	"github.com/greenlight-ml/greenlight/pkg/text"
)

// Reliability draws the observed rate of the label in each bin of [eval.Reliability] against the predicted probability, and
// the number of rows in each bin.
func Reliability(w io.Writer, title string, bins []eval.Bin) error {
	n, gap := 0, 0.0
	for _, b := range bins {
		n += b.N
		gap += float64(b.N) * math.Abs(b.MeanScore-b.Rate)
	}
	if n == 0 {
		return fmt.Errorf("reliability of %d bins without rows: %w", len(bins), ErrNothing)
	}
	top := newPanel("", "Observed rate of moves")
	top.X.Min, top.X.Max, top.Y.Min, top.Y.Max = 0, 1, 0, 1
	top.X.Tick.Marker, top.Y.Tick.Marker = steps(0, 1, 0.1, 1), steps(0, 1, 0.2, 1)
	bottom := newPanel("Score (predicted probability of a move)", "Rows")
	bottom.X.Min, bottom.X.Max, bottom.Y.Min = 0, 1, 0
	bottom.X.Tick.Marker, bottom.Y.Tick.Marker = steps(0, 1, 0.1, 1), plot.TickerFunc(niceTicks)

	ideal := top.line(plotter.XYs{{X: 0, Y: 0}, {X: 1, Y: 1}}, grey, 1, 4, 3)
	var points plotter.XYs
	most := 0
	for _, b := range bins {
		most = max(most, b.N)
		if b.N == 0 {
			continue
		}
		points = append(points, plotter.XY{X: b.MeanScore, Y: b.Rate})
		inset := (b.High - b.Low) / 20
		bottom.box(b.Low+inset, b.High-inset, 0, float64(b.N), blue)
	}
	bottom.Y.Max = 1.25 * float64(most)
	for _, b := range bins {
		bottom.label((b.Low+b.High)/2, float64(b.N), text.Grouped(b.N))
	}
	top.Legend.Top, top.Legend.Left = true, true
	top.Legend.XOffs, top.Legend.YOffs = 8, -6
	top.Legend.Add("model, mean score and rate of each bin", top.line(points, blue, 1.6), top.dots(points, circles(blue, 3)))
	top.Legend.Add("calibrated: rate = score", ideal)
	return figure{
		title:    "Reliability: " + title,
		subtitle: fmt.Sprintf("n = %s rows, expected calibration error %.3f", text.Grouped(n), gap/float64(n)),
		width:    420, height: 500, panels: []*panel{top, bottom}, shares: []float64{0.7, 0.3},
	}.write(w)
}
