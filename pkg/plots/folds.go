package plots

import (
	"fmt"
	"io"
	"math"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg/draw"

	"github.com/greenlight-ml/greenlight/pkg/eval"
	"github.com/greenlight-ml/greenlight/pkg/text"
)

// maxDates is the largest number of folds named on the axis.
const maxDates = 8

// Folds draws AUC and P@20 of every fold of a report with their intervals, the pooled values, and what uninformative
// scores would reach: 0.5, and the fold's base rate.
func Folds(w io.Writer, title string, r *eval.Report) error {
	auc := newPanel("", "AUC")
	precision := newPanel("First day of the test (UTC), folds in order of time", "P@20 (share of moves)")
	pooledAUC, pooledPrecision := (*eval.Interval)(nil), (*eval.Interval)(nil)
	if r.Intervals != nil {
		pooledAUC, pooledPrecision = &r.Intervals.AUC, &r.Intervals.PrecisionAt20
	}
	var aucs, precisions, base series
	var ticks plot.ConstantTicks
	every := (len(r.Folds) + maxDates - 1) / maxDates
	for i, f := range r.Folds {
		tick := plot.Tick{Value: float64(i)}
		if i%every == 0 {
			tick.Label = f.TestFirst
		}
		ticks = append(ticks, tick)
		if f.Metrics == nil {
			auc.label(float64(i), 0.5, "not measured")
			precision.label(float64(i), 0.5, "not measured")
			continue
		}
		var a, p *eval.Interval
		if f.Intervals != nil {
			a, p = &f.Intervals.AUC, &f.Intervals.PrecisionAt20
		}
		aucs.add(float64(i), f.AUC, a)
		precisions.add(float64(i), f.PrecisionAt20, p)
		base.add(float64(i), f.BaseRate, nil)
	}
	if len(aucs.XYs) == 0 {
		return fmt.Errorf("%d folds without metrics: %w", len(r.Folds), ErrNothing)
	}
	left, right := -0.6, float64(len(r.Folds))-0.4
	for _, v := range []struct {
		p      *panel
		points *series
		name   string
		pooled float64
		in     *eval.Interval
	}{{auc, &aucs, "AUC", r.AUC, pooledAUC}, {precision, &precisions, "P@20", r.PrecisionAt20, pooledPrecision}} {
		v.p.X.Min, v.p.X.Max, v.p.Y.Min, v.p.Y.Max = left, right, 0, 1.02
		v.p.X.Tick.Marker, v.p.Y.Tick.Marker = ticks, steps(0, 1, 0.2, 1)
		name := fmt.Sprintf("pooled, %.3f", v.pooled)
		if v.in != nil {
			v.p.box(left, right, v.in.Low, v.in.High, faint)
			name += fmt.Sprintf(" (%.3f to %.3f)", v.in.Low, v.in.High)
		}
		pooled := v.p.across(left, right, v.pooled, blue, 1.2)
		v.p.Legend.Add(v.name+" of the fold", v.points.draw(v.p, circles(ink, 2.6)))
		v.p.Legend.Add(name, pooled)
	}
	auc.Y.Min = min(0.45, lowest(aucs)-0.02)
	auc.Y.Tick.Marker = steps(math.Ceil(10*auc.Y.Min)/10, 1, 0.1, 1)
	auc.Legend.Add("chance", auc.across(left, right, 0.5, grey, 1, 4, 3))
	precision.Legend.Add("base rate of the fold", base.draw(precision, draw.GlyphStyle{Color: orange, Radius: 3.2, Shape: draw.PyramidGlyph{}}))
	bars := "no intervals: too few days"
	if in := r.Intervals; in != nil {
		bars = fmt.Sprintf("bars and bands: %.0f %% intervals by bootstrap of whole days", 100*in.Level)
	}
	return figure{
		title:    "Out of time, fold by fold: " + title,
		subtitle: fmt.Sprintf("n = %s rows in %d folds, base rate %.3f; %s", text.Grouped(r.N), len(r.Folds), r.BaseRate, bars),
		width:    800, height: 520, panels: []*panel{auc, precision}, shares: []float64{0.48, 0.52}, side: true,
	}.write(w)
}

// series holds points, with the intervals of those that have one.
type series struct {
	plotter.XYs
	low, high []plotter.XY
}

func (s *series) add(x, y float64, in *eval.Interval) {
	s.XYs = append(s.XYs, plotter.XY{X: x, Y: y})
	if in != nil {
		s.low, s.high = append(s.low, plotter.XY{X: x, Y: in.Low}), append(s.high, plotter.XY{X: x, Y: in.High})
	}
}

// draw adds the bars and the points, and returns the points for the legend.
func (s *series) draw(p *panel, style draw.GlyphStyle) *plotter.Scatter {
	for i, low := range s.low {
		p.line(plotter.XYs{low, s.high[i]}, style.Color, 1)
	}
	return p.dots(s.XYs, style)
}

// lowest returns the smallest value of a series or of its bars.
func lowest(s series) float64 {
	v := 1.0
	for _, points := range [][]plotter.XY{s.XYs, s.low} {
		for _, p := range points {
			v = min(v, p.Y)
		}
	}
	return v
}
