package plots

import (
	"fmt"
	"image/color"
	"io"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"

	"github.com/greenlight-ml/greenlight/pkg/text"
)

// scoreBins is the number of bins of [Scores], of equal width on [0,1].
const scoreBins = 40

// Scores draws the distribution of scores, in [0,1], separately for rows with and without a move. Each class adds up to
// 100 %.
func Scores(w io.Writer, title string, scores []float64, labels []bool) error {
	if len(scores) != len(labels) {
		return fmt.Errorf("%d scores but %d labels", len(scores), len(labels))
	}
	var counts [2][scoreBins]int
	var n [2]int
	for i, s := range scores {
		if !(s >= 0 && s <= 1) {
			return fmt.Errorf("score %v of row %d is not in [0,1]", s, i)
		}
		class := 0
		if labels[i] {
			class = 1
		}
		counts[class][min(scoreBins-1, int(s*scoreBins))]++
		n[class]++
	}
	if len(scores) == 0 {
		return fmt.Errorf("histogram of no scores: %w", ErrNothing)
	}
	p := newPanel("Score (predicted probability of a move)", "Share of the class in the bin (%)")
	p.X.Min, p.X.Max, p.Y.Min = 0, 1, 0
	p.X.Tick.Marker, p.Y.Tick.Marker = steps(0, 1, 0.1, 1), plot.TickerFunc(niceTicks)
	p.Legend.Top = true
	p.Legend.YOffs = -6
	highest := 0.0
	for class, style := range []struct {
		name   string
		colour color.NRGBA
	}{{"no move", grey}, {"move", orange}} {
		if n[class] == 0 {
			continue
		}
		outline := plotter.XYs{{X: 0, Y: 0}}
		for b, count := range counts[class] {
			share := 100 * float64(count) / float64(n[class])
			highest = max(highest, share)
			outline = append(outline, plotter.XY{X: float64(b) / scoreBins, Y: share}, plotter.XY{X: float64(b+1) / scoreBins, Y: share})
		}
		outline = append(outline, plotter.XY{X: 1, Y: 0})
		fill := style.colour
		fill.A = 0x50
		p.Legend.Add(fmt.Sprintf("%s, n = %s", style.name, text.Grouped(n[class])), p.area(outline, fill), p.line(outline, style.colour, 1.3))
	}
	p.Y.Max = 1.08 * highest
	return figure{
		title: "Scores by class: " + title, subtitle: sampleLine(labels),
		width: 520, height: 340, panels: []*panel{p}, shares: []float64{1},
	}.write(w)
}
