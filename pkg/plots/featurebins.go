package plots

import (
	"fmt"
	"image/color"
	"io"
	"math"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/vg/draw"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/text"
)

// PSI draws the shares of reference and current rows in the bins of one feature, and above each bin its contribution to
// the index. Bins that are empty in both are left out.
func PSI(w io.Writer, title string, f drift.FeatureReading) error {
	p := newPanel(f.Feature+", by bins of the reference", "Share of rows (%)")
	p.Y.Min = 0
	p.X.Label.Padding = 10
	var ticks plot.ConstantTicks
	highest := 0.0
	for _, b := range f.Bins {
		if b.Reference == 0 && b.Current == 0 {
			continue
		}
		at := float64(len(ticks))
		ticks = append(ticks, plot.Tick{Value: at, Label: b.Range})
		for i, bar := range []struct {
			name   string
			share  float64
			colour color.Color
		}{{"reference", b.Reference, grey}, {"current", b.Current, blue}} {
			left := at - 0.4 + 0.4*float64(i)
			drawn := p.box(left+0.02, left+0.38, 0, 100*bar.share, bar.colour)
			if len(ticks) == 1 {
				p.Legend.Add(bar.name, drawn)
			}
		}
		most := 100 * max(b.Reference, b.Current)
		highest = max(highest, most)
		p.label(at, most, fmt.Sprintf("%.3f", b.PSI))
	}
	if len(ticks) == 0 || math.IsNaN(highest) {
		return fmt.Errorf("PSI of %s without rows: %w", f.Feature, ErrNothing)
	}
	p.X.Min, p.X.Max = bars(len(ticks))
	p.Y.Max = 1.3 * highest
	p.X.Tick.Marker = ticks
	// The legend needs space above the bars, but no tick is above 100 %.
	p.Y.Tick.Marker = plot.TickerFunc(func(low, high float64) []plot.Tick { return niceTicks(low, min(high, 100)) })
	p.slant()
	p.Legend.Top, p.Legend.Left = true, true
	p.Legend.XOffs, p.Legend.YOffs = 8, -6
	noise := "noise not known"
	if f.Noise != nil {
		noise = fmt.Sprintf("99 %% without drift %.3f", f.Q99)
	}
	return figure{
		title: fmt.Sprintf("Drift of %s: %s", f.Feature, title),
		subtitle: fmt.Sprintf("PSI %.3f (%s), threshold %.1f, %s: %s; n = %s rows; numbers: contribution of each bin",
			f.PSI, f.Status, f.Threshold, noise, f.Verdict, text.Grouped(f.Samples)),
		width: 620, height: 380, panels: []*panel{p}, shares: []float64{1},
	}.write(w)
}

// slant turns the labels of the horizontal axis, to make room for long ones.
func (p *panel) slant() {
	p.X.Tick.Label.Rotation = math.Pi / 6
	// The labels start a little below the axis: otherwise the end of a rising label would cover the bars.
	p.X.Tick.Label.XAlign, p.X.Tick.Label.YAlign = draw.XRight, draw.YTop-0.5
	p.X.Tick.Length = 3
}

// bars returns the ends of an axis with n bars at 0, 1, and so on. A few bars keep their width and are centred.
func bars(n int) (left, right float64) {
	spare := max(0, 6-float64(n)) / 2
	return -0.6 - spare, float64(n) - 0.4 + spare
}
