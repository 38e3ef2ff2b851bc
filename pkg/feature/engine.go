// Package feature is the one definition of every model input: the [Engine] computes them minute by minute from the
// bars of one instrument, and [Compute] is that engine run over a file. What trains a model is what scores it.
//
// # The grid
//
// A decision time is the end of a minute. Up to [MaxFill] missing minutes are filled with flat bars: the last price,
// and the last quote where there are quotes. They count as minutes in every respect. After a longer hole the first
// return is undefined, and so is the bar pair of the spread estimate; Wilder's index takes the change of the price
// across the hole like any other. Windows go on, and count the minutes that are there, not time.
//
// An undefined feature is NaN, and a vector with one is not ready: it must not be scored.
package feature

import (
	"errors"
	"fmt"
	"math"

	"github.com/greenlight-ml/greenlight/pkg/market"
)

// MaxFill is the longest hole, in minutes, that is filled with flat bars.
const MaxFill = 10

// Lengths of the windows, in minutes on the grid, and how many values they need.
const (
	volMinutes, volMin     = 60, 30
	spreadPairs, spreadMin = 60, 30
	longMinutes, longMin   = 1440, 720
	basisPoints            = 1e4
	r5Minutes              = 5
)

// ErrOrder is the error of a bar that is not later than the one before it.
var ErrOrder = errors.New("bar is not later than the previous one")

// Engine computes the features of one instrument from its bars in order of time. It holds a fixed amount of memory
// (about 100 kB), and a push neither allocates nor depends on how much came before. It is not safe for concurrent use.
type Engine struct {
	// last is the latest minute on the grid; its Start is 0 before the first bar.
	last    market.Bar
	minutes int
	filled  bool

	mid, r1, spread float64
	estimated       bool

	// returns holds the last five r1, at minute modulo 5.
	returns                              [r5Minutes]float64
	squares, pairs, rsiWindow, midWindow *window
	rsi                                  wilder
	days                                 daily

	// onMinute, when set, is called after every minute of the grid, filled ones too.
	onMinute func()
}

// NewEngine returns an engine that has seen nothing: every feature but bias is undefined.
func NewEngine() *Engine {
	nan := math.NaN()
	e := &Engine{
		mid: nan, r1: nan, spread: nan,
		squares:   newWindow(volMinutes, volMin),
		pairs:     newWindow(spreadPairs, spreadMin),
		rsiWindow: newWindow(longMinutes, longMin),
		midWindow: newWindow(longMinutes, longMin),
		days:      newDaily(),
	}
	for i := range e.returns {
		e.returns[i] = nan
	}
	return e
}

// Push appends one bar, and before it the flat bars of a short hole. A bar that is not later than the previous one
// ([ErrOrder]), not on a whole minute, or without positive finite prices is refused and changes nothing.
func (e *Engine) Push(b market.Bar) error {
	if err := check(b); err != nil {
		return err
	}
	if e.minutes > 0 && b.Start <= e.last.Start {
		return fmt.Errorf("bar at %d ms after bar at %d ms: %w", b.Start, e.last.Start, ErrOrder)
	}
	e.add(b)
	return nil
}

// add is Push for a bar that needs no check.
func (e *Engine) add(b market.Bar) {
	joined := e.fill(b.Start)
	e.step(b, joined, false)
}

// fill puts flat bars into a short hole before the minute that starts at start, and says whether that minute follows
// the last one without a hole now.
func (e *Engine) fill(start int64) bool {
	if e.minutes == 0 {
		return false
	}
	missing := (start-e.last.Start)/market.MinuteMS - 1
	if missing > MaxFill {
		return false
	}
	for range missing {
		e.step(flatAfter(e.last), true, true)
	}
	return true
}

func check(b market.Bar) error {
	if b.Start%market.MinuteMS != 0 {
		return fmt.Errorf("bar at %d ms: does not start on a whole minute", b.Start)
	}
	// The comparisons are false for NaN.
	if !(b.Low > 0 && b.Low <= b.Close && b.Close <= b.High && b.High <= math.MaxFloat64) {
		return fmt.Errorf("bar at %d ms: low %v, close %v, high %v: want 0 < low <= close <= high", b.Start, b.Low, b.Close, b.High)
	}
	if !(math.Abs(b.Bid) <= math.MaxFloat64 && math.Abs(b.Ask) <= math.MaxFloat64) {
		return fmt.Errorf("bar at %d ms: bid %v, ask %v: want finite numbers", b.Start, b.Bid, b.Ask)
	}
	return nil
}

// flatAfter is the minute after b when nothing happened in it.
func flatAfter(b market.Bar) market.Bar {
	c := b.Close
	return market.Bar{Start: b.Start + market.MinuteMS, Open: c, High: c, Low: c, Close: c, Bid: b.Bid, Ask: b.Ask}
}

// step takes the next minute of the grid; joined says that it follows the last one without a hole.
func (e *Engine) step(b market.Bar, joined, filled bool) {
	change := math.NaN()
	if e.minutes > 0 {
		change = b.Close - e.last.Close
	}
	e.r1 = math.NaN()
	if joined {
		e.r1 = basisPoints * math.Log(b.Close/e.last.Close)
	}
	e.returns[e.minutes%r5Minutes] = e.r1
	e.squares.push(e.r1 * e.r1)
	e.rsi.push(change)
	e.rsiWindow.push(e.rsi.value())
	e.mid = b.Close
	e.midWindow.push(e.mid)
	e.stepSpread(b, joined)
	e.days.push(b.Start, e.r1, e.spread)

	e.last, e.filled = b, filled
	e.minutes++
	if e.onMinute != nil {
		e.onMinute()
	}
}

func (e *Engine) stepSpread(b market.Bar, joined bool) {
	e.estimated = !b.Quoted()
	if !e.estimated {
		e.spread = basisPoints * (b.Ask - b.Bid) / b.Close
		return
	}
	pair := math.NaN()
	if joined && !e.last.Quoted() {
		pair = CorwinSchultz(e.last.High, e.last.Low, b.High, b.Low)
	}
	e.pairs.push(pair)
	e.spread = e.pairs.mean()
}

func (e *Engine) vol() float64 { return math.Sqrt(e.squares.mean()) }

// r5 adds the last five returns, oldest first.
func (e *Engine) r5() float64 {
	sum := 0.0
	for i := range r5Minutes {
		sum += e.returns[(e.minutes+i)%r5Minutes]
	}
	return sum
}

// End is the decision time of the latest minute, Unix milliseconds UTC; 0 before the first bar.
func (e *Engine) End() int64 {
	if e.minutes == 0 {
		return 0
	}
	return e.last.End()
}

// Minutes is the number of minutes on the grid so far, filled ones too.
func (e *Engine) Minutes() int { return e.minutes }

// SpreadEstimated says whether the spread of the latest minute is an estimate from highs and lows rather than a quote.
func (e *Engine) SpreadEstimated() bool { return e.estimated }

// Value is the named feature at the latest minute: NaN when it is undefined or there is no such
// feature.
func (e *Engine) Value(name string) float64 {
	i, ok := byName[name]
	if !ok {
		return math.NaN()
	}
	return definitions[i].value(e)
}

// Vector fills dst, which has room for s.Len() values, with the features of s at the latest minute, and says whether
// all are defined. When it says false the vector is not ready and must not be scored. It allocates nothing.
func (e *Engine) Vector(s *Schema, dst []float64) bool {
	ready := true
	for i, c := range s.columns {
		dst[i] = definitions[c].value(e)
		ready = ready && !math.IsNaN(dst[i])
	}
	return ready
}
