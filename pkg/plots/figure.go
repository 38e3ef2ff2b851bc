// Package plots draws the figures of reports. Each function writes one SVG figure without scripts, byte-identical for
// the same numbers. The colours are distinguishable for colour-blind readers (M. Okabe, K. Ito (2008), "Color Universal
// Design").
package plots

import (
	"bytes"
	"errors"
	"fmt"
	"image/color"
	"io"
	"math"
	"strconv"

	xfont "golang.org/x/image/font"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/greenlight-ml/greenlight/pkg/text"
)

// ErrNothing is returned for a figure that would be empty.
var ErrNothing = errors.New("nothing to plot")

var (
	blue   = color.NRGBA{0x00, 0x72, 0xb2, 0xff}
	orange = color.NRGBA{0xd5, 0x5e, 0x00, 0xff}
	green  = color.NRGBA{0x00, 0x9e, 0x73, 0xff}
	purple = color.NRGBA{0xcc, 0x79, 0xa7, 0xff}
	ink    = color.NRGBA{0x22, 0x22, 0x22, 0xff}
	grey   = color.NRGBA{0x66, 0x66, 0x66, 0xff}
	pale   = color.NRGBA{0xe4, 0xe4, 0xe4, 0xff}
	sky    = color.NRGBA{0x56, 0xb4, 0xe9, 0xff}
	amber  = color.NRGBA{0xe6, 0x9f, 0x00, 0xff}
	// faint is blue for bands behind lines.
	faint = color.NRGBA{blue.R, blue.G, blue.B, 0x2a}
)

// figure is a stack of panels under one title.
type figure struct {
	title, subtitle string
	width, height   vg.Length
	panels          []*panel
	// shares divide the height among the panels.
	shares []float64
	// side puts the legends in a column right of the panels, as wide as the widest of them.
	side bool
}

const (
	margin = vg.Length(8)
	// gap is the space between panels.
	gap = vg.Length(6)
)

// write draws the figure. It returns the first error of a panel.
func (f figure) write(w io.Writer) error {
	for _, p := range f.panels {
		if p.err != nil {
			return fmt.Errorf("draw %q: %s: %w", f.title, p.Y.Label.Text, p.err)
		}
	}
	canvas := &measured{Canvas: vgsvg.New(f.width, f.height)}
	page := draw.New(canvas)
	page.SetColor(color.White)
	page.Fill(page.Rectangle.Path())

	area := draw.Crop(page, margin, -margin, margin, -margin)
	for _, line := range []struct {
		text  string
		style draw.TextStyle
	}{{f.title, textStyle(13, true)}, {f.subtitle, textStyle(9.5, false)}} {
		line.style.YAlign = draw.YTop
		if room, width := area.Max.X-area.Min.X, line.style.Width(line.text); width > room { // data sets can have long names
			line.style.Font.Size *= room / width
		}
		area.FillText(line.style, vg.Point{X: area.Min.X, Y: area.Max.Y}, line.text)
		area.Max.Y -= line.style.FontExtents().Height * 1.3
	}
	area.Max.Y -= margin

	for i, p := range f.panels { // shrink a long label of the vertical axis
		style := &p.Y.Label.TextStyle
		if room, width := vg.Length(f.shares[i])*area.Size().Y-gap, style.Width(p.Y.Label.Text); width > room {
			style.Font.Size *= room / width
		}
	}
	// The data areas of all panels start and end at the same place.
	canvases := make([]draw.Canvas, len(f.panels))
	top, height := area.Max.Y, area.Max.Y-area.Min.Y
	column := area.Max.X - f.legends(area)
	edge := column
	if f.side {
		edge -= margin
	}
	left, right := area.Min.X, edge
	for i, p := range f.panels {
		c := area
		c.Max.X = edge
		c.Max.Y = top
		top -= vg.Length(f.shares[i]) * height
		c.Min.Y = top
		if i < len(f.panels)-1 {
			c.Min.Y += gap
		}
		if f.side {
			p.Legend.Top, p.Legend.Left = true, true
			p.Legend.XOffs, p.Legend.YOffs = 0, 0
			legend := c
			legend.Min.X, legend.Max.X = column, area.Max.X
			p.Legend.Draw(legend)
			p.Legend = plot.NewLegend()
		}
		canvases[i] = c
		data := p.DataCanvas(c)
		left, right = max(left, data.Min.X), min(right, data.Max.X)
	}
	for i, p := range f.panels {
		data := p.DataCanvas(canvases[i])
		canvases[i].Min.X += left - data.Min.X
		canvases[i].Max.X -= data.Max.X - right
		p.Draw(canvases[i])
	}

	drawn, err := canvas.svg()
	if err != nil {
		return fmt.Errorf("draw %q: %w", f.title, err)
	}
	if _, err := w.Write(drawn); err != nil {
		return fmt.Errorf("write %q: %w", f.title, err)
	}
	return nil
}

// legends returns the width of the column for legends. It shrinks legends that need more than two fifths of the area.
func (f figure) legends(area draw.Canvas) vg.Length {
	if !f.side {
		return 0
	}
	var widest vg.Length
	for _, p := range f.panels {
		widest = max(widest, p.Legend.Rectangle(area).Size().X)
	}
	room := 0.4 * area.Size().X
	if widest > room {
		for _, p := range f.panels {
			swatch := p.Legend.ThumbnailWidth
			p.Legend.TextStyle.Font.Size *= (room - swatch) / (widest - swatch)
		}
	}
	return min(widest, room)
}

// measured is a canvas that states the width of every text. The layout is measured in Liberation Sans. A viewer without that
// font fits the text in its own font into the stated width, so that nothing overlaps or is clipped.
//
// The alternatives are larger: glyph outlines make files about ten times as large and the text unsearchable, and an
// embedded font adds 500 KB to each file.
type measured struct {
	*vgsvg.Canvas

	// widths has the width of each text, in drawing order.
	widths []vg.Length
}

// FillString implements [vg.Canvas].
func (m *measured) FillString(f font.Face, at vg.Point, s string) {
	m.widths = append(m.widths, f.Width(s))
	m.Canvas.FillString(f, at, s)
}

var (
	textTag    = []byte("<text ")
	fontFamily = []byte("font-family:Liberation Sans;")
)

// svg returns the drawing. Arial and Helvetica have the widths of Liberation Sans.
func (m *measured) svg() ([]byte, error) {
	var drawn bytes.Buffer
	if _, err := m.WriteTo(&drawn); err != nil {
		return nil, err
	}
	parts := bytes.Split(drawn.Bytes(), textTag)
	if len(parts) != len(m.widths)+1 {
		return nil, fmt.Errorf("%d texts were measured and %d drawn", len(m.widths), len(parts)-1)
	}
	for i, width := range m.widths {
		if width > 0 {
			parts[i+1] = fmt.Appendf(nil, `textLength="%.5g" lengthAdjust="spacingAndGlyphs" %s`, width.Points(), parts[i+1])
		}
	}
	return bytes.ReplaceAll(bytes.Join(parts, textTag), fontFamily, []byte("font-family:Liberation Sans,Arial,Helvetica,sans-serif;")), nil
}

// panel is a plot in the common style. It keeps the first error from adding data: points must be finite and not empty.
type panel struct {
	*plot.Plot

	err error
}

// newPanel returns an empty panel.
func newPanel(x, y string) *panel {
	p := &panel{Plot: plot.New()}
	p.BackgroundColor = nil
	p.X.Label.Text, p.Y.Label.Text = x, y
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		axis.LineStyle.Color, axis.Tick.LineStyle.Color = grey, grey
		axis.Padding = 0
		label := textStyle(10, false)
		label.XAlign, label.YAlign, label.Rotation = axis.Label.TextStyle.XAlign, axis.Label.TextStyle.YAlign, axis.Label.TextStyle.Rotation
		axis.Label.TextStyle = label
		axis.Label.Padding = 4
		tick := textStyle(9, false)
		tick.XAlign, tick.YAlign = axis.Tick.Label.XAlign, axis.Tick.Label.YAlign
		axis.Tick.Label = tick
	}
	legend := textStyle(9.5, false)
	p.Legend.TextStyle = legend
	p.Legend.Padding = 3
	p.Legend.XOffs, p.Legend.YOffs = -14, 6
	p.Legend.YPosition = draw.PosCenter
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = pale, pale
	grid.Vertical.Width, grid.Horizontal.Width = 0.5, 0.5
	p.Add(grid)
	return p
}

func textStyle(size vg.Length, bold bool) draw.TextStyle {
	f := font.Font{Typeface: "Liberation", Variant: "Sans", Size: size}
	if bold {
		f.Weight = xfont.WeightBold
	}
	return draw.TextStyle{Color: ink, Font: f, Handler: plot.DefaultTextHandler}
}

// keep records the first error.
func (p *panel) keep(err error) {
	if p.err == nil {
		p.err = err
	}
}

// line adds a line; dashes may be nil.
func (p *panel) line(points plotter.XYs, c color.Color, width vg.Length, dashes ...vg.Length) *plotter.Line {
	l, err := plotter.NewLine(points)
	if err != nil {
		p.keep(err)
		return &plotter.Line{}
	}
	l.Color, l.Width, l.Dashes = c, width, dashes
	p.Add(l)
	return l
}

// across adds a horizontal line.
func (p *panel) across(left, right, y float64, c color.Color, width vg.Length, dashes ...vg.Length) *plotter.Line {
	return p.line(plotter.XYs{{X: left, Y: y}, {X: right, Y: y}}, c, width, dashes...)
}

// dots adds points.
func (p *panel) dots(points plotter.XYs, style draw.GlyphStyle) *plotter.Scatter {
	d, err := plotter.NewScatter(points)
	if err != nil {
		p.keep(err)
		return &plotter.Scatter{}
	}
	d.GlyphStyle = style
	p.Add(d)
	return d
}

// circles is the style of round points.
func circles(c color.Color, radius vg.Length) draw.GlyphStyle {
	return draw.GlyphStyle{Color: c, Radius: radius, Shape: draw.CircleGlyph{}}
}

// area adds a filled area without an outline; the legend shows it as a patch.
func (p *panel) area(points plotter.XYs, c color.Color) *plotter.Polygon {
	a, err := plotter.NewPolygon(points)
	if err != nil {
		p.keep(err)
		return &plotter.Polygon{}
	}
	a.Color, a.Width = c, 0
	p.Add(a)
	return a
}

// box adds a filled rectangle.
func (p *panel) box(left, right, low, high float64, c color.Color) *plotter.Polygon {
	return p.area(plotter.XYs{{X: left, Y: low}, {X: right, Y: low}, {X: right, Y: high}, {X: left, Y: high}}, c)
}

// label adds a small text above a point.
func (p *panel) label(x, y float64, s string) {
	l, err := plotter.NewLabels(plotter.XYLabels{XYs: plotter.XYs{{X: x, Y: y}}, Labels: []string{s}})
	if err != nil {
		p.keep(err)
		return
	}
	style := textStyle(8, false)
	style.XAlign, style.YAlign = draw.XCenter, draw.YBottom
	l.TextStyle[0] = style
	l.Offset.Y = 2
	p.Add(l)
}

// steps returns ticks at multiples of by from low to high, with the given number of decimals.
func steps(low, high, by float64, decimals int) plot.ConstantTicks {
	var t plot.ConstantTicks
	for i := 0; low+float64(i)*by <= high+by/1e6; i++ {
		v := low + float64(i)*by
		t = append(t, plot.Tick{Value: v, Label: strconv.FormatFloat(v, 'f', decimals, 64)})
	}
	return t
}

// niceTicks returns about five ticks at multiples of 1, 2 or 5 times a power of ten.
func niceTicks(low, high float64) []plot.Tick {
	if !(high > low) {
		return nil
	}
	by := math.Pow(10, math.Floor(math.Log10((high-low)/4)))
	for _, m := range []float64{2, 2.5, 2} { // 2, 5, 10 times the power
		if (high-low)/by > 7 {
			by *= m
		}
	}
	decimals := max(0, int(math.Ceil(-math.Log10(by)-1e-9)))
	first := math.Ceil(low/by-1e-9) * by
	ticks := steps(first, high, by, decimals)
	for i, t := range ticks {
		if decimals == 0 {
			ticks[i].Label = text.Grouped(int(math.Round(t.Value)))
		}
	}
	return ticks
}
