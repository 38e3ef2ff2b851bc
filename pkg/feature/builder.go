// Package feature is the only definition of the model inputs. A [Builder] computes them minute by minute from the bars
// of one instrument, and [Compute] runs a Builder over a file. Training and scoring therefore use the same code.
//
// # The grid
//
// A decision time is the end of a minute. Up to [MaxFill] missing minutes are filled with flat bars, which repeat the
// last price and the last quote, if there are quotes. Filled minutes count like any other. After a longer gap the first
// return and the bar pair of the spread estimate are undefined. Wilder's index takes the price change across the gap
// like any other. Windows continue: they count minutes on the grid, not elapsed time.
//
// An undefined feature is NaN. A vector that contains one is not ready and must not be scored.
package feature

import (
	"errors"
	"fmt"
	"math"

	"github.com/greenlight-ml/greenlight/pkg/market"
)

// MaxFill is the longest gap, in minutes, that is filled with flat bars.
const MaxFill = 10

// Window lengths in grid minutes, and the fewest values each window needs.
const (
	volMinutes, volMin     = 60, 30
	spreadPairs, spreadMin = 60, 30
	longMinutes, longMin   = 1440, 720
	basisPoints            = 1e4
	r5Minutes              = 5
)

// ErrOrder is returned for a bar that is not later than the one before it.
var ErrOrder = errors.New("bar is not later than the previous one")

// Builder computes the features of one instrument from its bars in time order. It uses a fixed amount of memory (about
// 100 kB). A push does not allocate, and its cost does not depend on the history. It is not safe for concurrent use.
type Builder struct {
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

	// onMinute, if set, is called after every grid minute, including filled ones.
	onMinute func()
}

// NewBuilder returns an empty Builder: every feature except bias is undefined.
func NewBuilder() *Builder {
	nan := math.NaN()
	b := &Builder{
		mid: nan, r1: nan, spread: nan,
		squares:   newWindow(volMinutes, volMin),
		pairs:     newWindow(spreadPairs, spreadMin),
		rsiWindow: newWindow(longMinutes, longMin),
		midWindow: newWindow(longMinutes, longMin),
		days:      newDaily(),
	}
	for i := range b.returns {
		b.returns[i] = nan
	}
	return b
}

// Push appends one bar, after filling a short hole before it with flat bars. It refuses a bar that is not later than
// the previous one ([ErrOrder]), does not start on a whole minute, or lacks positive finite prices. A refused bar
// changes nothing.
func (b *Builder) Push(bar market.Bar) error {
	if err := check(bar); err != nil {
		return err
	}
	if b.minutes > 0 && bar.Start <= b.last.Start {
		return fmt.Errorf("bar at %d ms after bar at %d ms: %w", bar.Start, b.last.Start, ErrOrder)
	}
	b.add(bar)
	return nil
}

// add is Push without the checks.
func (b *Builder) add(bar market.Bar) {
	joined := b.fill(bar.Start)
	b.step(bar, joined, false)
}

// fill fills a short hole before the minute that starts at start. It reports whether that minute now directly follows
// the last one.
func (b *Builder) fill(start int64) bool {
	if b.minutes == 0 {
		return false
	}
	missing := (start-b.last.Start)/market.MinuteMS - 1
	if missing > MaxFill {
		return false
	}
	for range missing {
		b.step(flatAfter(b.last), true, true)
	}
	return true
}

func check(bar market.Bar) error {
	if bar.Start%market.MinuteMS != 0 {
		return fmt.Errorf("bar at %d ms: does not start on a whole minute", bar.Start)
	}
	// The comparisons are false for NaN.
	if !(bar.Low > 0 && bar.Low <= bar.Close && bar.Close <= bar.High && bar.High <= math.MaxFloat64) {
		return fmt.Errorf("bar at %d ms: low %v, close %v, high %v: want 0 < low <= close <= high", bar.Start, bar.Low, bar.Close, bar.High)
	}
	if !(math.Abs(bar.Bid) <= math.MaxFloat64 && math.Abs(bar.Ask) <= math.MaxFloat64) {
		return fmt.Errorf("bar at %d ms: bid %v, ask %v: want finite numbers", bar.Start, bar.Bid, bar.Ask)
	}
	return nil
}

// flatAfter returns the minute after bar in which nothing happened.
func flatAfter(bar market.Bar) market.Bar {
	c := bar.Close
	return market.Bar{Start: bar.Start + market.MinuteMS, Open: c, High: c, Low: c, Close: c, Bid: bar.Bid, Ask: bar.Ask}
}

// step takes the next grid minute; joined reports whether it directly follows the last one.
func (b *Builder) step(bar market.Bar, joined, filled bool) {
	change := math.NaN()
	if b.minutes > 0 {
		change = bar.Close - b.last.Close
	}
	b.r1 = math.NaN()
	if joined {
		b.r1 = basisPoints * math.Log(bar.Close/b.last.Close)
	}
	b.returns[b.minutes%r5Minutes] = b.r1
	b.squares.push(b.r1 * b.r1)
	b.rsi.push(change)
	b.rsiWindow.push(b.rsi.value())
	b.mid = bar.Close
	b.midWindow.push(b.mid)
	b.stepSpread(bar, joined)
	b.days.push(bar.Start, b.r1, b.spread)

	b.last, b.filled = bar, filled
	b.minutes++
	if b.onMinute != nil {
		b.onMinute()
	}
}

func (b *Builder) stepSpread(bar market.Bar, joined bool) {
	b.estimated = !bar.Quoted()
	if !b.estimated {
		b.spread = basisPoints * (bar.Ask - bar.Bid) / bar.Close
		return
	}
	pair := math.NaN()
	if joined && !b.last.Quoted() {
		pair = CorwinSchultz(b.last.High, b.last.Low, bar.High, bar.Low)
	}
	b.pairs.push(pair)
	b.spread = b.pairs.mean()
}

func (b *Builder) vol() float64 { return math.Sqrt(b.squares.mean()) }

// r5 returns the sum of the last five returns, oldest first.
func (b *Builder) r5() float64 {
	sum := 0.0
	for i := range r5Minutes {
		sum += b.returns[(b.minutes+i)%r5Minutes]
	}
	return sum
}

// End returns the decision time of the latest minute in Unix milliseconds UTC, or 0 before the first bar.
func (b *Builder) End() int64 {
	if b.minutes == 0 {
		return 0
	}
	return b.last.End()
}

// Value returns the named feature at the latest minute. It is NaN if the feature is undefined or unknown.
func (b *Builder) Value(name string) float64 {
	i, ok := byName[name]
	if !ok {
		return math.NaN()
	}
	return definitions[i].value(b)
}

// Vector fills dst, which must hold s.Len() values, with the features of s at the latest minute. It reports whether all
// of them are defined; if not, the vector must not be scored. It does not allocate.
func (b *Builder) Vector(s *Schema, dst []float64) bool {
	ready := true
	for i, c := range s.columns {
		dst[i] = math.NaN()
		if c >= 0 {
			dst[i] = definitions[c].value(b)
		}
		ready = ready && !math.IsNaN(dst[i])
	}
	return ready
}
