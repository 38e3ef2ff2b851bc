package plots

import (
	"fmt"
	"image/color"
	"io"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"

	"github.com/greenlight-ml/greenlight/pkg/drift"
)

// leastPSI is the lower end of the axis of [PSIOverview]. Smaller values are drawn there.
const leastPSI = 0.005

// PSIOverview draws the index of every feature next to its range without drift, on a logarithmic axis. A point within
// its band is noise, even above a threshold. The overall index comes first; nil leaves it out.
func PSIOverview(w io.Writer, title string, overall *drift.Reading, features []drift.FeatureReading) error {
	o := overview{panel: newPanel("PSI (logarithmic)", ""), left: len(features), highest: 1}
	if overall != nil {
		o.left++
	}
	if o.left == 0 {
		return fmt.Errorf("overview of no features: %w", ErrNothing)
	}
	top := float64(o.left) - 0.4
	if overall != nil {
		o.add("overall", *overall, "overall", ink)
	}
	for _, f := range features {
		kind := roles[f.Role]
		o.add(f.Feature, f.Reading, kind.name, kind.colour)
	}
	for _, t := range psiLevels() {
		o.Legend.Add(t.name, o.line(plotter.XYs{{X: t.level, Y: -0.6}, {X: t.level, Y: top}}, t.colour, 0.9, t.dashes...))
	}
	p := o.panel
	p.X.Scale, p.X.Min, p.X.Max = plot.LogScale{}, leastPSI, 2*o.highest
	p.Y.Min, p.Y.Max = -0.6, top
	p.X.Tick.Marker, p.Y.Tick.Marker = decades(leastPSI, p.X.Max), o.names
	p.Y.Tick.Length = 3
	return figure{
		title:    "Drift at a glance: " + title,
		subtitle: "points: PSI against the reference; bands: the range of 99 % of windows without drift",
		width:    760, height: vg.Length(120 + 24*len(o.names)), panels: []*panel{p}, shares: []float64{1}, side: true,
	}.write(w)
}

// roles are the names and colours of indices by their role.
var roles = map[drift.Role]struct {
	name   string
	colour color.Color
}{drift.ModelFeature: {"feature of the model", blue}, drift.Score: {"score of the model", green}, drift.RawInput: {"raw input", orange}}

// overview has one row per index, from top to bottom.
type overview struct {
	*panel

	// left is the number of remaining rows.
	left    int
	names   plot.ConstantTicks
	shown   map[string]bool
	highest float64
}

// add draws one row; the legend names each kind once.
func (o *overview) add(name string, r drift.Reading, kind string, c color.Color) {
	o.left--
	y := float64(o.left)
	o.names = append(o.names, plot.Tick{Value: y, Label: name})
	o.highest = max(o.highest, r.PSI)
	if o.shown == nil {
		o.shown = map[string]bool{}
	}
	if r.Noise != nil {
		o.highest = max(o.highest, r.Q99)
		band := o.box(leastPSI, max(leastPSI, r.Q99), y-0.28, y+0.28, faint)
		if !o.shown["noise"] {
			o.Legend.Add("99 % without drift", band)
			o.shown["noise"] = true
		}
	}
	dot := o.dots(plotter.XYs{{X: max(leastPSI, r.PSI), Y: y}}, circles(c, 4))
	if !o.shown[kind] {
		o.Legend.Add(kind, dot)
		o.shown[kind] = true
	}
}

// decades returns ticks at 1, 2 and 5 times the powers of ten from low to high.
func decades(low, high float64) plot.ConstantTicks {
	var ticks plot.ConstantTicks
	for power := -3; power <= 3; power++ {
		for _, digit := range []string{"1", "2", "5"} {
			v, err := strconv.ParseFloat(digit+"e"+strconv.Itoa(power), 64)
			if err == nil && low <= v && v <= high {
				ticks = append(ticks, plot.Tick{Value: v, Label: strconv.FormatFloat(v, 'f', -1, 64)})
			}
		}
	}
	return ticks
}
