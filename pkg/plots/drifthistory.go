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

	"github.com/greenlight-ml/greenlight/pkg/drift"
)

// PSILine is one index over time.
type PSILine struct {
	Name string
	// Role determines the panel of the line.
	Role drift.Role
	// Values has one value per time, NaN if there was no row.
	Values []float64
}

// lineStyles are the styles of the features in one panel, in order. Nine are distinct; further lines repeat them.
var lineStyles = []struct {
	colour color.Color
	dashes []vg.Length
}{
	{blue, nil},
	{orange, nil},
	{green, nil},
	{purple, nil},
	{sky, nil},
	{amber, nil},
	{blue, []vg.Length{3, 2}},
	{orange, []vg.Length{3, 2}},
	{green, []vg.Length{3, 2}},
}

// PSITimes holds indices over time.
type PSITimes struct {
	// At are the ends of the windows, ascending.
	At []time.Time
	// Overall has the overall index of each time; Lines has the features.
	Overall []float64
	Lines   []PSILine
	// Filling is how many of the first windows start before the data. Their indices cover fewer days and are noisier. They
	// have a grey background, and set the scale only if there are no others.
	Filling int
}

// PSIHistory draws indices over time with the thresholds as lines: the model's inputs and score above, and raw inputs,
// which move far more, below. A single window is drawn as bars.
func PSIHistory(w io.Writer, title string, t PSITimes) error {
	if len(t.At) == 0 || len(t.Overall) != len(t.At) {
		return fmt.Errorf("PSI over time: %d times and %d overall: %w", len(t.At), len(t.Overall), ErrNothing)
	}
	model, inputs := newHistory("PSI of the model's features"), newHistory("PSI of the raw inputs")
	model.add(t, PSILine{Name: "overall", Values: t.Overall}, ink, 2.2, nil)
	for _, l := range t.Lines {
		if len(l.Values) != len(t.At) {
			return fmt.Errorf("PSI of %s over time: %d values for %d times", l.Name, len(l.Values), len(t.At))
		}
		h := model
		if l.Role == drift.RawInput {
			h = inputs
		}
		style := lineStyles[h.styled%len(lineStyles)]
		h.styled++
		h.add(t, l, style.colour, 1.2, style.dashes)
	}
	model.finish(t)
	f := figure{
		title:    "Drift over time: " + title,
		subtitle: fmt.Sprintf("PSI against the reference, of windows that end at the time shown; %d of them", len(t.At)),
		width:    800, height: 330, panels: []*panel{model.panel}, shares: []float64{1}, side: true,
	}
	bottom, axis := model, "End of the window (UTC)"
	if len(t.At) == 1 {
		axis, f.subtitle = "", "PSI against the reference, window to "+t.At[0].UTC().Format("2006-01-02 15:04 UTC")
		if t.Filling > 0 {
			f.subtitle += ", which is not full yet"
		}
	}
	if inputs.drawn > 0 {
		inputs.finish(t)
		f.height, f.panels, f.shares = 540, append(f.panels, inputs.panel), []float64{0.56, 0.44}
		bottom = inputs
	}
	if model.drawn+inputs.drawn == 0 {
		return fmt.Errorf("the history of PSI has no values: %w", ErrNothing)
	}
	bottom.X.Label.Text = axis
	return f.write(w)
}

// history is one panel of indices over time.
type history struct {
	*panel

	// styled counts the lines with a style, drawn the lines with a value.
	styled, drawn int
	// names are the names under the bars of a single window.
	names   plot.ConstantTicks
	highest float64
}

func newHistory(y string) *history {
	h := &history{panel: newPanel("", y)}
	h.Y.Tick.Marker = plot.TickerFunc(niceTicks)
	return h
}

// add draws a line with a point per value, so that single values are visible. It breaks where a value is missing.
func (h *history) add(t PSITimes, l PSILine, c color.Color, width vg.Length, dashes []vg.Length) {
	var shown bool
	var run plotter.XYs
	end := func() {
		if len(run) == 0 {
			return
		}
		drawn, dots := h.line(run, c, width, dashes...), h.dots(run, circles(c, 1.1+width/2))
		if !shown {
			h.Legend.Add(l.Name, drawn, dots)
			h.drawn++
		}
		shown, run = true, nil
	}
	if len(t.At) == 1 {
		h.bar(l, c)
		return
	}
	for i, v := range l.Values {
		if math.IsNaN(v) {
			end()
			continue
		}
		run = append(run, plotter.XY{X: days(t.At[i]), Y: v})
		if i >= t.Filling || t.Filling >= len(t.At) {
			h.highest = max(h.highest, v)
		}
	}
	end()
}

// bar draws the only value of a line as a bar over its name.
func (h *history) bar(l PSILine, c color.Color) {
	v := l.Values[0]
	if math.IsNaN(v) {
		return
	}
	at := float64(len(h.names))
	h.names = append(h.names, plot.Tick{Value: at, Label: l.Name})
	if role, ok := roles[l.Role]; ok { // the names tell the features apart
		c = role.colour
	}
	h.box(at-0.3, at+0.3, 0, v, c)
	h.drawn++
	h.highest = max(h.highest, v)
	h.label(at, v, fmt.Sprintf("%.3f", v))
}

// threshold is a named level.
type threshold struct {
	level  float64
	name   string
	colour color.Color
	dashes []vg.Length
}

// psiLevels returns the edges of the bands of an index, and names those that also limit promotion.
func psiLevels() []threshold {
	limits := drift.DefaultLimits()
	levels := []threshold{
		{drift.ModerateFrom, fmt.Sprintf("moderate from %.1f", drift.ModerateFrom), grey, []vg.Length{2, 2}},
		{drift.WarningAbove, fmt.Sprintf("warning above %.1f", drift.WarningAbove), ink, []vg.Length{6, 3}},
		{drift.CriticalAbove, fmt.Sprintf("critical above %.1f", drift.CriticalAbove), ink, []vg.Length{8, 2, 2, 2}},
	}
	for i := range levels {
		switch levels[i].level {
		case limits.Overall:
			levels[i].name += ", limit overall"
		case limits.Feature:
			levels[i].name += ", limit of a feature"
		}
	}
	return levels
}

// finish draws the thresholds across the panel and the background of incomplete windows, and sets the axes.
func (h *history) finish(t PSITimes) {
	first, last := days(t.At[0]), days(t.At[len(t.At)-1])
	spare := max(0.5, (last-first)/40)
	left, right := first-spare, last+spare
	one := len(t.At) == 1
	if one {
		left, right = bars(len(h.names))
	}
	for _, level := range psiLevels() {
		h.Legend.Add(level.name, h.across(left, right, level.level, level.colour, 0.9, level.dashes...))
		h.highest = max(h.highest, level.level)
	}
	h.X.Min, h.X.Max, h.Y.Min, h.Y.Max = left, right, 0, 1.12*h.highest
	if one {
		h.X.Tick.Marker = h.names
		h.slant()
		return
	}
	h.X.Tick.Marker = dates(left, right)
	if t.Filling <= 0 {
		return
	}
	until := right
	if t.Filling < len(t.At) {
		until = (days(t.At[t.Filling-1]) + days(t.At[t.Filling])) / 2
	}
	h.Legend.Add("window not full yet", h.box(left, until, 0, h.Y.Max, color.NRGBA{grey.R, grey.G, grey.B, 0x28}))
}

// days returns the days since 1970-01-01, UTC.
func days(t time.Time) float64 {
	return float64(t.UnixMilli()) / float64((24 * time.Hour).Milliseconds())
}

// dates returns ticks at midnights, at most [maxDates] of them.
func dates(left, right float64) plot.ConstantTicks {
	first, last := int(math.Ceil(left)), int(math.Floor(right))
	every := max(1, (last-first+maxDates)/maxDates)
	var ticks plot.ConstantTicks
	for d := first; d <= last; d += every {
		ticks = append(ticks, plot.Tick{Value: float64(d), Label: time.Unix(int64(d)*86400, 0).UTC().Format(time.DateOnly)})
	}
	return ticks
}
