package plots

import (
	"fmt"
	"image/color"
	"io"
	"math"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"

	"github.com/greenlight-ml/greenlight/pkg/outcome"
	"github.com/greenlight-ml/greenlight/pkg/text"
)

// Quality draws the bounds of the mean difference of Brier losses over time, with the margin, the daily means and the
// claims. Positive differences favour the model.
func Quality(w io.Writer, title string, v *outcome.Judgment) error {
	if len(v.Points) == 0 {
		return fmt.Errorf("quality bounds of no blocks: %w", ErrNothing)
	}
	end := func(block int64) float64 { return days(v.Plan.Start(block + 1)) }
	left, right := end(v.Points[0].Block), end(v.Points[len(v.Points)-1].Block)
	right = max(right, left+0.5)
	// The first bounds are as wide as the range of differences. The axis leaves them out.
	reach := max(3*v.Plan.Margin, min(v.Plan.MaxDifference(), 2.5*math.Abs(v.Lower)), min(v.Plan.MaxDifference(), 2.5*math.Abs(v.Upper)))
	shown := func(y float64) float64 { return max(-reach, min(reach, y)) }
	p := newPanel("End of the block (UTC)", "Brier loss, baseline less model")
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = left, right, -reach, reach
	p.X.Tick.Marker, p.Y.Tick.Marker = dates(left, right), plot.TickerFunc(niceTicks)

	var lower, upper [2]plotter.XYs
	var daily plotter.XYs
	sum, n, day := 0.0, 0.0, int64(0)
	flush := func() {
		if n > 0 {
			daily = append(daily, plotter.XY{X: float64(day) + 0.5, Y: shown(sum / n)})
		}
		sum, n = 0, 0
	}
	// A constant bound needs only its first and last point.
	extend := func(to *plotter.XYs, i int, x, y float64) {
		if n := len(*to); n == 0 || (*to)[n-1].Y != y || i >= len(v.Points)-2 {
			*to = append(*to, plotter.XY{X: x, Y: y})
		}
	}
	for i, at := range v.Points {
		x := end(at.Block)
		extend(&lower[at.Stream], i, x, shown(at.Lower))
		extend(&upper[at.Stream], i, x, shown(at.Upper))
		if of := v.Plan.Start(at.Block).Unix() / int64(24*time.Hour/time.Second); of != day {
			flush()
			day = of
		}
		sum, n = sum+at.X, n+1
	}
	flush()
	add := func(name string, points plotter.XYs, c color.Color, width vg.Length, dashes ...vg.Length) {
		if len(points) == 0 {
			return
		}
		l := p.line(points, c, width, dashes...)
		l.StepStyle = plotter.PostStep
		p.Legend.Add(name, l)
	}
	across := func(y float64) plotter.XYs { return plotter.XYs{{X: left, Y: y}, {X: right, Y: y}} }
	dashes := [][]vg.Length{nil, {4, 2}}
	for k, s := range v.Streams {
		add("upper bound, "+s.Name+" blocks", upper[k], orange, 1.5, dashes[k]...)
		add("lower bound, "+s.Name+" blocks", lower[k], blue, 1.5, dashes[k]...)
	}
	add("no difference", across(0), grey, 0.9)
	add(fmt.Sprintf("worse by the margin of %.3g", v.Plan.Margin), across(-v.Plan.Margin), grey, 0.9, 6, 3)
	p.Legend.Add("mean of a day", p.dots(daily, circles(ink, 1.8)))
	colours := map[outcome.Verdict]color.Color{outcome.Pass: green, outcome.Better: purple, outcome.Fail: ink}
	for _, c := range v.Claims {
		x := end(c.Block)
		add(fmt.Sprintf("%s after %s", c.Verdict, outcome.Days(c.Time.Sub(v.Start).Hours()/24)), plotter.XYs{{X: x, Y: -reach}, {X: x, Y: reach}},
			colours[c.Verdict], 1.2, 2, 2)
	}
	return figure{
		title: "Is it better? " + title,
		subtitle: fmt.Sprintf("%s; bounds hold at all times together, alpha %.3g a side; %s blocks of %v, cap %.3g", v.Verdict, v.Plan.Alpha, text.Grouped(v.Counted),
			v.Plan.Width(), v.Plan.DisagreementCap),
		width: 800, height: 380, panels: []*panel{p}, shares: []float64{1}, side: true,
	}.write(w)
}
