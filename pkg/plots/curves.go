package plots

import (
	"fmt"
	"io"
	"math"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"

	"github.com/greenlight-ml/greenlight/pkg/text"
)

// Curve is one figure at increasing sizes, all > 0.
type Curve struct {
	// X and Y name the axes.
	X, Y string
	// Sizes are ascending. Values, Low (smallest) and High (largest) have one entry per size.
	Sizes, Values, Low, High []float64
}

// Curves draws each curve in its own panel, on a logarithmic axis of sizes.
func Curves(w io.Writer, title, subtitle string, curves []Curve) error {
	if len(curves) == 0 {
		return fmt.Errorf("curves: %w", ErrNothing)
	}
	f := figure{title: title, subtitle: subtitle, width: 640, height: vg.Length(60 + 150*len(curves))}
	for _, c := range curves {
		f.panels = append(f.panels, c.panel())
		f.shares = append(f.shares, 1/float64(len(curves)))
	}
	return f.write(w)
}

func (c Curve) panel() *panel {
	p := newPanel(c.X, c.Y)
	points := make(plotter.XYs, len(c.Sizes))
	var ticks plot.ConstantTicks
	top := 0.0
	for i, x := range c.Sizes {
		points[i] = plotter.XY{X: x, Y: c.Values[i]}
		ticks = append(ticks, plot.Tick{Value: x, Label: text.Grouped(int(x))})
		p.line(plotter.XYs{{X: x, Y: c.Low[i]}, {X: x, Y: c.High[i]}}, sky, 3)
		top = math.Max(top, c.High[i])
	}
	p.line(points, blue, 1.5)
	p.dots(points, circles(blue, 2.5))
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, ticks
	p.Y.Min, p.Y.Max = 0, top*1.08
	p.Y.Tick.Marker = plot.ConstantTicks(niceTicks(0, p.Y.Max))
	return p
}
