package feature

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/greenlight-ml/greenlight/pkg/market"
)

// The encoder and the decoder define the layout of the state. They must agree in order. Numbers take 8 bytes each;
// floating-point numbers are stored by their bits.

// encoder appends a state to data.
type encoder struct{ data []byte }

func (e *encoder) uint(x uint64)   { e.data = binary.LittleEndian.AppendUint64(e.data, x) }
func (e *encoder) int(x int64)     { e.uint(uint64(x)) }
func (e *encoder) float(x float64) { e.uint(math.Float64bits(x)) }

func (e *encoder) bool(x bool) {
	if x {
		e.uint(1)
	} else {
		e.uint(0)
	}
}

func (e *encoder) floats(xs []float64) {
	for _, x := range xs {
		e.float(x)
	}
}

func (e *encoder) text(s string) {
	e.uint(uint64(len(s)))
	e.data = append(e.data, s...)
}

func (e *encoder) bar(b market.Bar) {
	e.int(b.Start)
	e.floats([]float64{b.Open, b.High, b.Low, b.Close, b.Bid, b.Ask, b.Volume})
}

func (e *encoder) quote(q market.Quote) {
	e.int(q.Time)
	e.floats([]float64{q.Bid, q.Ask, q.BidSize, q.AskSize})
}

// window writes only the ring: the moments follow from it.
func (e *encoder) window(w *window) {
	e.bool(w.lapped)
	e.uint(uint64(w.next))
	if w.lapped {
		e.floats(w.ring)
	} else {
		e.floats(w.ring[:w.next])
	}
}

func (e *encoder) builder(g *Builder) {
	e.int(int64(g.minutes))
	e.bar(g.last)
	e.bool(g.filled)
	e.bool(g.estimated)
	e.floats([]float64{g.mid, g.r1, g.spread})
	e.floats(g.returns[:])
	for _, w := range g.windows() {
		e.window(w)
	}
	e.floats([]float64{g.rsi.gain, g.rsi.loss})
	e.int(int64(g.rsi.changes))
	e.int(g.days.day)
	e.floats([]float64{g.days.squares, g.days.returns, g.days.spreads, g.days.spreadN, g.days.sigmaRef, g.days.spreadRef})
	e.floats(g.days.sigmas[:])
	e.floats(g.days.spreadMeans[:])
	e.int(int64(g.days.days))
	e.floats(g.days.lengths[:])
	e.int(int64(g.days.seen))
}

func (e *encoder) live(l *Live) {
	e.builder(l.features)
	begun, building := l.bars.Current()
	e.bool(building)
	e.bar(begun)
	e.bool(l.begun)
	e.quote(l.last)
	for _, n := range l.counts {
		e.uint(n)
	}
	e.uint(l.refused)
	e.uint(uint64(l.note))
	e.bool(l.confirmed)
	e.quote(l.waiting)
	e.bar(market.Bar{}) // in older versions a bar could wait
}

func (b *Builder) windows() []*window { return []*window{b.squares, b.pairs, b.rsiWindow, b.midWindow} }

// decoder reads a state. After the first error it reads zeros; end returns that error.
type decoder struct {
	data    []byte
	version uint32
	err     error
}

// notes returns the number of notes that the version counts.
func (d *decoder) notes() Note {
	if d.version == 1 {
		return Ahead
	}
	return noteEnd
}

func (d *decoder) quote() (q market.Quote) {
	q.Time = d.int()
	for _, x := range []*float64{&q.Bid, &q.Ask, &q.BidSize, &q.AskSize} {
		*x = math.Float64frombits(d.uint())
	}
	return q
}

// check records an error unless ok.
func (d *decoder) check(ok bool, format string, args ...any) {
	if !ok && d.err == nil {
		d.err = fmt.Errorf("%w: %s", ErrSnapshot, fmt.Sprintf(format, args...))
	}
}

// end returns the first error; leftover data is an error too.
func (d *decoder) end() error {
	d.check(len(d.data) == 0, "%d bytes are left over", len(d.data))
	return d.err
}

func (d *decoder) bytes(n uint64) []byte {
	d.check(n <= uint64(len(d.data)), "it is too short")
	if d.err != nil {
		return nil
	}
	p := d.data[:n]
	d.data = d.data[n:]
	return p
}

func (d *decoder) uint() uint64 {
	if p := d.bytes(8); p != nil {
		return binary.LittleEndian.Uint64(p)
	}
	return 0
}

func (d *decoder) int() int64   { return int64(d.uint()) }
func (d *decoder) text() string { return string(d.bytes(d.uint())) }

// count reads a number of events.
func (d *decoder) count() int {
	x := d.int()
	d.check(x >= 0 && x <= math.MaxInt32, "a count of %d", x)
	if d.err != nil {
		return 0
	}
	return int(x)
}

func (d *decoder) bool() bool {
	x := d.uint()
	d.check(x <= 1, "%d for yes or no", x)
	return x == 1
}

// maxState exceeds every number in a state made from prices, and keeps sums of their squares finite.
const maxState = 1e40

// float reads a number or NaN.
func (d *decoder) float() float64 {
	x := math.Float64frombits(d.uint())
	d.check(math.IsNaN(x) || math.Abs(x) <= maxState, "the number %v", x)
	return x
}

func (d *decoder) floats(into ...*float64) {
	for _, x := range into {
		*x = d.float()
	}
}

func (d *decoder) slice(into []float64) {
	for i := range into {
		into[i] = d.float()
	}
}

// fits reports whether the prices of a bar are valid and consistent.
func fits(b market.Bar) bool {
	quoted := market.IsPrice(b.Bid) && market.IsPrice(b.Ask)
	return market.IsPrice(b.Low) && market.IsPrice(b.High) && b.Low <= min(b.Open, b.Close) && max(b.Open, b.Close) <= b.High &&
		(quoted || b.Bid == 0 && b.Ask == 0)
}

// bar reads a bar; if there is set, the bar must be valid.
func (d *decoder) bar(there bool) market.Bar {
	b := market.Bar{Start: d.int()}
	d.floats(&b.Open, &b.High, &b.Low, &b.Close, &b.Bid, &b.Ask)
	b.Volume = math.Float64frombits(d.uint()) // not used by any feature
	if there {
		d.check(fits(b) && market.IsTime(b.Start) && b.Start%market.MinuteMS == 0, "the bar %+v", b)
	}
	return b
}

// window reads the ring into a new window and computes the same moments as push.
func (d *decoder) window(w *window) {
	w.lapped = d.bool()
	next := d.uint()
	d.check(next < uint64(len(w.ring)), "a window of %d minutes at minute %d", len(w.ring), next)
	if d.err != nil {
		return
	}
	w.next = int(next)
	if !w.lapped {
		d.slice(w.ring[:w.next])
	} else {
		d.slice(w.ring)
		w.sum(w.next)
	}
	for _, x := range w.ring[:w.next] {
		if !math.IsNaN(x) {
			w.head.add(x)
		}
	}
	w.now = w.tail[w.next].merge(w.head)
}

func (d *decoder) builder() *Builder {
	b := NewBuilder()
	b.minutes = d.count()
	b.last = d.bar(b.minutes > 0)
	b.filled, b.estimated = d.bool(), d.bool()
	d.floats(&b.mid, &b.r1, &b.spread)
	d.slice(b.returns[:])
	for _, w := range b.windows() {
		d.window(w)
	}
	d.floats(&b.rsi.gain, &b.rsi.loss)
	b.rsi.changes = d.count()
	d.check(b.rsi.gain >= 0 && b.rsi.loss >= 0 && b.rsi.changes <= rsiPeriod, "the index %+v", b.rsi)
	days := &b.days
	days.day = d.int()
	d.floats(&days.squares, &days.returns, &days.spreads, &days.spreadN, &days.sigmaRef, &days.spreadRef)
	d.slice(days.sigmas[:])
	d.slice(days.spreadMeans[:])
	days.days = d.count()
	if d.version > 1 {
		d.slice(days.lengths[:])
		days.seen = d.count()
	}
	d.check(!(days.sigmaRef < sigmaFloor) && !(days.spreadRef < spreadFloor), "references %v and %v", days.sigmaRef, days.spreadRef)
	return b
}

// live reads a Live; d.end reports whether it can be used.
func (d *decoder) live(opts LiveOptions) *Live {
	l := &Live{opts: opts, features: d.builder()}
	building := d.bool()
	begun := d.bar(building)
	if building {
		d.check(l.features.minutes == 0 || begun.Start > l.features.last.Start, "a minute that is over is not complete")
		l.bars.Resume(begun)
	}
	l.begun = d.bool()
	l.last = d.quote() // used only for comparison
	d.check(l.begun == (building || l.features.minutes > 0) && (!l.begun || l.timely(begun, building)), "the last time is %d", l.last.Time)
	for n := range d.notes() {
		l.counts[n] = d.uint()
	}
	l.refused = d.uint()
	note := d.uint()
	d.check(note < uint64(d.notes()), "note %d", note)
	l.note = Note(note)
	if d.version == 1 {
		l.confirmed = l.begun
		return l
	}
	l.confirmed = d.bool()
	w := d.quote()
	d.bar(false)
	if w == (market.Quote{}) {
		return l
	}
	judged := l.opts.judge(&w, math.MaxInt64)
	d.check(l.begun && (judged.Taken() || judged == Crossed), "what waits is %+v", w)
	if judged.Taken() { // the options may no longer accept crossed ones
		l.waiting = w
	}
	return l
}

// timely reports whether the last time is consistent with the minutes.
func (l *Live) timely(begun market.Bar, building bool) bool {
	if building {
		return l.last.Time >= begun.Start && l.last.Time < begun.End()
	}
	return l.last.Time == l.features.End()
}
