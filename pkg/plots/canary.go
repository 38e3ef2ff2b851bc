package plots

import (
	"fmt"
	"image/color"
	"io"
	"math"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// CanarySample is one sample of a phase.
type CanarySample struct {
	// Seconds is the time since the run began.
	Seconds float64
	// P95MS is in milliseconds; MatchRate, with its bounds, and ErrorRate are in [0,1]. All may be NaN.
	P95MS, MatchRate, MatchLow, MatchHigh, ErrorRate float64
}

// CanaryPhase is one attempt at a phase.
type CanaryPhase struct {
	// Percent is the percentage of requests that got a shadow.
	Percent float64
	// Begin and End are in seconds since the run began.
	Begin, End float64
	// Passed reports whether the phase passed; Decision is the word for its end.
	Passed   bool
	Decision string
	Samples  []CanarySample
}

// CanaryLimits are the limits of a run, in the units of [CanarySample]; NaN for a figure without a limit.
type CanaryLimits struct {
	P95MS, MatchRate, ErrorRate float64
}

// Canary draws a run over time: the share of requests, the p95 of the shadows, the match rate and the error rate, with
// the targets and the abort limits. Phases that did not pass have a coloured background.
func Canary(w io.Writer, title, subtitle string, phases []CanaryPhase, slo, abort CanaryLimits) error {
	if len(phases) == 0 {
		return fmt.Errorf("a canary without a phase: %w", ErrNothing)
	}
	c := canaryFigure{phases: phases, time: newTimeline(phases)}
	p95 := c.lines("p95 (ms)", slo.P95MS, abort.P95MS, 0, func(l CanarySample) float64 { return l.P95MS }, nil)
	match := c.lines("match rate", slo.MatchRate, abort.MatchRate, math.Inf(1), func(l CanarySample) float64 { return l.MatchRate },
		func(l CanarySample) (float64, float64) { return l.MatchLow, l.MatchHigh })
	failed := c.lines("error rate", slo.ErrorRate, abort.ErrorRate, 0, func(l CanarySample) float64 { return l.ErrorRate }, nil)
	failed.X.Label.Text = "Time since the run began (" + c.time.unit + ")"
	if len(c.time.cuts()) > 0 {
		failed.X.Label.Text += "; waits are cut short at //"
	}
	return figure{
		title: "Canary: " + title, subtitle: subtitle,
		width: 800, height: 620, panels: []*panel{c.shares(), p95, match, failed}, shares: []float64{0.22, 0.25, 0.25, 0.28}, side: true,
	}.write(w)
}

// fewSamples is the largest number of samples in a phase that are drawn as dots. More are readable as a line alone.
const fewSamples = 40

type canaryFigure struct {
	phases []CanaryPhase
	time   timeline
}

// ground returns a panel over the whole time, with a coloured background for phases that did not pass and breaks where the
// time is cut.
func (c canaryFigure) ground(y string, low, high float64) *panel {
	p := newPanel("", y)
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = 0, c.time.end(), low, high
	p.X.Tick.Marker, p.Y.Tick.Marker = c.time.ticks(), plot.TickerFunc(niceTicks)
	for _, at := range c.time.cuts() {
		p.Add(cut(at))
	}
	var failed *plotter.Polygon
	var decisions []string
	for i, phase := range c.phases {
		shade := color.NRGBA{grey.R, grey.G, grey.B, uint8(0x10 * (i % 2))}
		if !phase.Passed {
			shade = color.NRGBA{orange.R, orange.G, orange.B, 0x30}
		}
		b := p.box(c.time.phases[i].left, c.time.phases[i].right, low, high, shade)
		if !phase.Passed {
			failed = b
			if !slices.Contains(decisions, phase.Decision) {
				decisions = append(decisions, phase.Decision)
			}
		}
	}
	if failed != nil && y == "share (%)" {
		p.Legend.Add("did not pass: "+strings.Join(decisions, ", "), failed)
	}
	return p
}

// shares returns the panel of the percentages.
func (c canaryFigure) shares() *panel {
	p := c.ground("share (%)", 0, 110)
	p.Y.Tick.Marker = steps(0, 100, 25, 0)
	at, level := plotter.XYs{{X: 0, Y: 0}}, 0.0
	for i, of := range c.time.phases {
		if of.afterCut { // the lease has lapsed
			at, level = append(at, plotter.XY{X: at[len(at)-1].X, Y: 0}), 0
		}
		share := c.phases[i].Percent
		at = append(at, plotter.XY{X: of.left, Y: level}, plotter.XY{X: of.left, Y: share}, plotter.XY{X: of.right, Y: share})
		level = share
	}
	at = append(at, plotter.XY{X: c.time.end(), Y: 0})
	p.Legend.Add("requests with a shadow", p.line(at, blue, 1.6))
	return p
}

// lines returns the panel of one figure, with a line per phase, since counts restart with each. worst is the end of the
// axis that is always visible: 0 for figures that should be low, +Inf for those that should be high.
func (c canaryFigure) lines(y string, slo, abort, worst float64, value func(CanarySample) float64, bounds func(CanarySample) (low, high float64)) *panel {
	low, high := 1., 1.
	if !math.IsNaN(slo) {
		low, high = min(slo, abort), max(slo, abort)
	}
	for _, phase := range c.phases {
		for _, sample := range phase.Samples {
			if v := value(sample); !math.IsNaN(v) {
				low, high = min(low, v), max(high, v)
			}
		}
	}
	if worst == 0 {
		low, high = 0, 1.15*high
	} else {
		low, high = max(0, low-0.15*(1-low)), 1+0.05*(1-low)
	}
	p := c.ground(y, low, high)
	for _, phase := range c.phases {
		var points, band plotter.XYs
		for _, sample := range phase.Samples {
			v := value(sample)
			if math.IsNaN(v) {
				continue
			}
			x := c.time.at(sample.Seconds)
			points = append(points, plotter.XY{X: x, Y: v})
			if bounds != nil {
				from, _ := bounds(sample)
				band = append(band, plotter.XY{X: x, Y: max(low, from)})
			}
		}
		if bounds != nil && len(band) > 1 {
			for _, sample := range slices.Backward(phase.Samples) {
				if _, to := bounds(sample); !math.IsNaN(to) {
					band = append(band, plotter.XY{X: c.time.at(sample.Seconds), Y: min(high, to)})
				}
			}
			p.area(band, faint)
		}
		if len(points) == 0 {
			continue
		}
		p.line(points, blue, 1.4)
		if len(points) <= fewSamples {
			p.dots(points, draw.GlyphStyle{Color: blue, Radius: 1.2, Shape: draw.RingGlyph{}})
		}
	}
	for _, level := range []struct {
		name   string
		at     float64
		colour color.Color
		dashes []vg.Length
	}{{"target", slo, green, []vg.Length{6, 3}}, {"aborts", abort, orange, []vg.Length{2, 2}}} {
		if math.IsNaN(level.at) {
			continue
		}
		p.Legend.Add(fmt.Sprintf("%s, %g", level.name, level.at), p.across(0, c.time.end(), level.at, level.colour, 1.1, level.dashes...))
	}
	return p
}
