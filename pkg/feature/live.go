package feature

import (
	"fmt"
	"math"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/market"
)

// DefaultMaxJump is the default of LiveOptions.MaxJump.
const DefaultMaxJump = 30 * 24 * time.Hour

// LiveOptions says what a [Live] takes. The zero value is ready for use.
type LiveOptions struct {
	// KeepCrossed takes observations whose bid is above their ask, with a negative spread. By default they are left out,
	// as market.Read does with bad rows. Set it for the feeds of which market.Read keeps them (FXCM, whose sides are
	// recorded independently): a model must be scored on what it was trained on.
	KeepCrossed bool
	// MaxJump is by how much an observation may be later than the last one; more is taken for a broken clock, which would
	// otherwise make every true observation after it out of order. It must be longer than any break of the market.
	// 0 is DefaultMaxJump; at least a minute.
	MaxJump time.Duration
}

// validate completes the options.
func (o *LiveOptions) validate() error {
	if o.MaxJump != 0 && o.MaxJump < time.Minute {
		return fmt.Errorf("max jump %v: expected 0 (%v), or a minute or more", o.MaxJump, DefaultMaxJump)
	}
	if o.MaxJump == 0 {
		o.MaxJump = DefaultMaxJump
	}
	return nil
}

// Live computes the features of one instrument from its quotes as they come. It makes bars of them as market.Read does
// and pushes them into the [Engine] that [Compute] runs, so that what scores is, bit for bit, what trained.
//
// It has no timer and no clock: a minute is complete when an observation of a later minute arrives. That one also
// completes the minutes without a quote in between, up to [MaxFill]. So the features are as of the end of the minute
// before the last quote's, and in a silent market they grow old: the caller compares asOf of [Live.Vector] with the time
// of its decision.
//
// An observation takes time O(1), amortised, and allocates nothing; a Live holds about 100 kB whatever it has seen. It
// is not safe for concurrent use: see [Book].
type Live struct {
	opts    LiveOptions
	engine  *Engine
	builder market.BarBuilder
	// last is the last quote taken; after a bar only its Time is set, to the end of the bar. begun says that there is one.
	last  market.Quote
	begun bool

	counts [noteEnd]uint64
	// refused counts the observations in a row that were left out, and note is why the last of them was.
	refused uint64
	note    Note
}

// NewLive returns a Live that has seen nothing.
func NewLive(opts LiveOptions) (*Live, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	return &Live{opts: opts, engine: NewEngine()}, nil
}

// Observe takes the next quote.
func (l *Live) Observe(q market.Quote) Note {
	note := l.judge(q)
	if note.Taken() {
		l.take(q)
	}
	l.counted(note)
	return note
}

// judge says what is to become of a quote.
func (l *Live) judge(q market.Quote) Note {
	note := l.opts.judgeQuote(q)
	switch {
	case !note.Taken() || !l.begun:
		return note
	case q.Time < l.last.Time:
		return OutOfOrder
	case q == l.last:
		return Duplicate
	case l.jumps(q.Time):
		return Jump
	}
	return note
}

// judgeQuote is the part of the judgment that depends on the quote alone.
func (o *LiveOptions) judgeQuote(q market.Quote) Note {
	switch {
	case !market.IsPrice(q.Bid) || !market.IsPrice(q.Ask):
		return BadPrice
	case !market.IsTime(q.Time):
		return BadTime
	}
	return o.judgeCross(q.Bid, q.Ask)
}

func (o *LiveOptions) judgeCross(bid, ask float64) Note {
	switch {
	case bid <= ask:
		return Accepted
	case o.KeepCrossed:
		return CrossedKept
	}
	return Crossed
}

// jumps says whether a time is too far after the last.
func (l *Live) jumps(time int64) bool { return time-l.last.Time > l.opts.MaxJump.Milliseconds() }

func (l *Live) take(q market.Quote) {
	l.last, l.begun = q, true
	if done, ok := l.builder.Add(q); ok {
		l.engine.add(done)
	}
	begun, _ := l.builder.Current()
	l.engine.fill(begun.Start)
}

// counted counts an observation.
func (l *Live) counted(n Note) {
	l.counts[n]++
	if n.Taken() || n == Duplicate {
		l.refused, l.note = 0, Accepted
	} else {
		l.refused, l.note = l.refused+1, n
	}
}

// ObserveBar takes a bar that the source made itself. It completes at once, and with it a minute that quotes have begun
// before it. A bar of a minute that quotes have begun is OutOfOrder, whichever is better: the two cannot be merged.
func (l *Live) ObserveBar(b market.Bar) Note {
	note := l.judgeBar(b)
	if note.Taken() {
		l.last, l.begun = market.Quote{Time: b.End()}, true
		if done, ok := l.builder.Flush(); ok {
			l.engine.add(done)
		}
		l.engine.add(b)
	}
	l.counted(note)
	return note
}

func (l *Live) judgeBar(b market.Bar) Note {
	note := l.opts.judgeBarAlone(b)
	if !note.Taken() || !l.begun {
		return note
	}
	begun, building := l.builder.Current()
	switch {
	case building && b.Start <= begun.Start:
		return OutOfOrder
	case !building && b == l.engine.last:
		return Duplicate
	case !building && b.Start < l.last.Time:
		return OutOfOrder
	case l.jumps(b.Start):
		return Jump
	}
	return note
}

// judgeBarAlone is the part of the judgment that depends on the bar alone.
func (o *LiveOptions) judgeBarAlone(b market.Bar) Note {
	switch {
	case !fits(b):
		return BadPrice
	case !market.IsTime(b.Start) || b.Start%market.MinuteMS != 0:
		return BadTime
	}
	return o.judgeCross(b.Bid, b.Ask)
}

// fits says whether the prices of a bar are prices, and fit together.
func fits(b market.Bar) bool {
	quoted := market.IsPrice(b.Bid) && market.IsPrice(b.Ask)
	return market.IsPrice(b.Low) && market.IsPrice(b.High) && b.Low <= min(b.Open, b.Close) && max(b.Open, b.Close) <= b.High &&
		(quoted || b.Bid == 0 && b.Ask == 0)
}

// Vector fills dst, which has room for s.Len() values, with the features of s as of the last completed minute, whose end
// (Unix milliseconds UTC) it returns; 0 before the first. When ready is false one of them is undefined, NaN, and the
// vector must not be scored. It allocates nothing.
func (l *Live) Vector(s *Schema, dst []float64) (asOf int64, ready bool) {
	ready = l.engine.Vector(s, dst)
	return l.engine.End(), ready
}

// Readiness says whether the features of s are defined, and what is missing. It allocates.
func (l *Live) Readiness(s *Schema) Readiness {
	r := l.engine.Readiness(s)
	r.Refused, r.Note = int(min(l.refused, math.MaxInt)), l.note
	return r
}

// Count is how many observations had that note.
func (l *Live) Count(n Note) uint64 {
	if n >= noteEnd {
		return 0
	}
	return l.counts[n]
}

// Last is the time of the last observation that was taken, Unix milliseconds UTC, of a bar its end; 0 before the first.
func (l *Live) Last() int64 { return l.last.Time }

// Reset forgets all but the counts: the way out when a wrong time in the future was taken, or a break was longer than
// MaxJump.
func (l *Live) Reset() {
	l.engine, l.builder, l.last, l.begun = NewEngine(), market.BarBuilder{}, market.Quote{}, false
	l.refused, l.note = 0, Accepted
}
