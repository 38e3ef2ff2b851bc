package plots

import (
	"cmp"
	"image/color"
	"math"
	"slices"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// timeline maps the time since a run began to positions on its axis. A long wait between two phases is cut short, and a
// short phase is widened, so that every phase is readable.
type timeline struct {
	// stretches are in order, without gaps. Within each the axis is linear.
	stretches []stretch
	// phases has the stretch of each phase.
	phases []stretch
	// unit names the unit of the ticks, and seconds is its length.
	unit    string
	seconds float64
}

// stretch is a phase or a wait. from and to are in seconds since the run began, left and right are positions.
type stretch struct {
	from, to, left, right float64
	// cut reports whether it is a wait that is cut short, afterCut whether it is a phase after one.
	cut, afterCut bool
}

const (
	// leastPhase is the smallest width of a phase, and mostWait the largest width of a wait, as shares of the time in phases.
	leastPhase = 0.06
	mostWait   = 0.04
	// tickRoom is the smallest distance between two ticks, as a share of the axis.
	tickRoom = 0.06
)

func newTimeline(phases []CanaryPhase) timeline {
	active := 0.0
	for _, p := range phases {
		active += max(0, p.End-p.Begin)
	}
	active = max(active, 1)
	var t timeline
	var last stretch
	add := func(to, width float64, cut bool) {
		last = stretch{last.to, to, last.right, last.right + width, cut, last.cut}
		t.stretches = append(t.stretches, last)
	}
	for _, p := range phases {
		if wait := p.Begin - last.to; wait > 0 {
			add(p.Begin, min(wait, mostWait*active), wait > mostWait*active)
		}
		end := max(last.to, p.End)
		add(end, max(end-last.to, leastPhase*active), false)
		t.phases = append(t.phases, last)
	}
	switch {
	case last.to > 3*3600:
		t.unit, t.seconds = "hours", 3600
	case last.to > 3*60:
		t.unit, t.seconds = "minutes", 60
	default:
		t.unit, t.seconds = "seconds", 1
	}
	return t
}

// end returns the end of the axis.
func (t timeline) end() float64 { return t.stretches[len(t.stretches)-1].right }

// at returns the position of a time; a time outside the run is at its nearest end.
func (t timeline) at(seconds float64) float64 {
	for _, s := range t.stretches {
		switch {
		case seconds <= s.from:
			return s.left
		case seconds < s.to:
			return s.left + (s.right-s.left)*(seconds-s.from)/(s.to-s.from)
		}
	}
	return t.end()
}

// cuts returns the middles of the waits that are cut short.
func (t timeline) cuts() (all []float64) {
	for _, s := range t.stretches {
		if s.cut {
			all = append(all, (s.left+s.right)/2)
		}
	}
	return all
}

// ticks returns ticks where there is room. The starts of phases come first, then the end, then round times.
func (t timeline) ticks() plot.ConstantTicks {
	var ticks plot.ConstantTicks
	add := func(seconds, at float64) {
		if !slices.ContainsFunc(ticks, func(k plot.Tick) bool { return math.Abs(k.Value-at) < tickRoom*t.end() }) {
			label := strconv.FormatFloat(math.Round(10*seconds/t.seconds)/10, 'f', -1, 64)
			ticks = append(ticks, plot.Tick{Value: at, Label: label})
		}
	}
	for _, p := range t.phases {
		add(p.from, p.left)
	}
	last := t.stretches[len(t.stretches)-1]
	add(last.to, last.right)
	for _, p := range t.phases {
		for _, k := range niceTicks(p.from/t.seconds, p.to/t.seconds) {
			add(k.Value*t.seconds, t.at(k.Value*t.seconds))
		}
	}
	slices.SortFunc(ticks, func(a, b plot.Tick) int { return cmp.Compare(a.Value, b.Value) })
	return ticks
}

// cut is a break mark on the time axis at that position.
type cut float64

// Plot implements [plot.Plotter].
func (at cut) Plot(c draw.Canvas, p *plot.Plot) {
	x, _ := p.Transforms(&c)
	const half, slant = vg.Length(4), vg.Length(1.5)
	mid := x(float64(at))
	stroke := func(x vg.Length) []vg.Point {
		return []vg.Point{{X: x - slant, Y: c.Min.Y - half}, {X: x + slant, Y: c.Min.Y + half}}
	}
	left, right := stroke(mid-slant), stroke(mid+slant)
	c.FillPolygon(color.White, []vg.Point{left[0], left[1], right[1], right[0]})
	c.StrokeLines(draw.LineStyle{Color: grey, Width: 0.8}, left, right)
}
