package feature

import (
	"fmt"
	"math"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/market"
)

// DefaultMaxJump is the default of LiveOptions.MaxJump.
const DefaultMaxJump = time.Hour

// LiveOptions says what a [Live] takes. The zero value is ready for use.
type LiveOptions struct {
	// KeepCrossed takes observations whose bid is above their ask, with a negative spread. By default they are left out,
	// as market.Read does with bad rows. Set it for the feeds of which market.Read keeps them (FXCM, whose sides are
	// recorded independently): a model must be scored on what it was trained on.
	KeepCrossed bool
	// MaxJump is the longest step in time from one observation to the next that is believed at once. After a longer one the
	// observation waits until a second one agrees with it. 0 is DefaultMaxJump; at least a minute.
	MaxJump time.Duration
	// Latest returns the latest time that an observation can have, Unix milliseconds UTC. It is called for every
	// observation. nil is no bound, as for a replay.
	Latest func() int64
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

func (o *LiveOptions) latest() int64 {
	if o.Latest == nil {
		return math.MaxInt64
	}
	return o.Latest()
}

// Live computes the features of one instrument from its quotes as they come. It makes bars of them as market.Read does
// and pushes them into the [Engine] that [Compute] runs, so that what scores is, bit for bit, what trained.
//
// It has no timer and no clock: a minute is complete when an observation of a later minute arrives. That one also
// completes the minutes without a quote in between, up to [MaxFill]. So the features are as of the end of the minute
// before the last quote's, and in a silent market they grow old: the caller compares asOf of [Live.Vector] with the time
// of its decision.
//
// One wrong time cannot stop a feed. An observation that is more than MaxJump later than the last one waits. The next
// one decides: if it follows within MaxJump, both are taken; if it follows the last one, the wrong one is dropped.
// An observation that is as much earlier waits too, but only where the last one is in question: nothing has followed
// it, or it is after LiveOptions.Latest. If a second one agrees, all that was learned is dropped, and the two begin
// the symbol again.
//
// An observation takes time O(1), amortised, and allocates nothing; a Live holds about 100 kB whatever it has seen. It
// is not safe for concurrent use: see [Book].
type Live struct {
	opts    LiveOptions
	engine  *Engine
	builder market.BarBuilder
	// last is the last quote taken; after a bar only its Time is set, to the end of the bar. begun reports that there is
	// one, confirmed that another was taken after it or before it.
	last             market.Quote
	begun, confirmed bool
	// waiting was set aside until a second observation agrees; its time is 0 when there is none.
	waiting observation

	counts [noteEnd]uint64
	// refused counts the observations in a row that were left out, and note is why the last of them was.
	refused uint64
	note    Note
}

// observation is a quote or a bar.
type observation struct {
	quote market.Quote // of a bar only the time is set, to its start
	bar   market.Bar
	isBar bool
}

func barOf(b market.Bar) observation { return observation{market.Quote{Time: b.Start}, b, true} }

// NewLive returns a Live that has seen nothing.
func NewLive(opts LiveOptions) (*Live, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	return &Live{opts: opts, engine: NewEngine()}, nil
}

// Observe takes the next quote.
func (l *Live) Observe(q market.Quote) Note { return l.observe(observation{quote: q}) }

// ObserveBar takes a bar that the source made itself. It completes at once, and with it a minute that quotes have begun
// before it. A bar of a minute that quotes have begun is OutOfOrder, whichever is better: the two cannot be merged.
func (l *Live) ObserveBar(b market.Bar) Note { return l.observe(barOf(b)) }

func (l *Live) observe(o observation) Note {
	latest := l.opts.latest()
	note := l.opts.judge(&o, latest)
	if note.Taken() {
		note = l.place(&o, note, latest)
	}
	l.counts[note]++
	if note.Taken() || note == Duplicate {
		l.refused, l.note = 0, Accepted
	} else {
		l.refused, l.note = l.refused+1, note
	}
	return note
}

// judge is the part of the judgment that depends on the observation alone.
func (o *LiveOptions) judge(x *observation, latest int64) Note {
	bid, ask := x.quote.Bid, x.quote.Ask
	if x.isBar {
		bid, ask = x.bar.Bid, x.bar.Ask
	}
	switch {
	case !x.isBar && !(market.IsPrice(bid) && market.IsPrice(ask)), x.isBar && !fits(x.bar):
		return BadPrice
	case !market.IsTime(x.quote.Time) || x.isBar && x.quote.Time%market.MinuteMS != 0:
		return BadTime
	case x.quote.Time > latest:
		return Ahead
	case bid <= ask:
		return Accepted
	case o.KeepCrossed:
		return CrossedKept
	}
	return Crossed
}

// fits reports whether the prices of a bar are prices, and fit together.
func fits(b market.Bar) bool {
	quoted := market.IsPrice(b.Bid) && market.IsPrice(b.Ask)
	return market.IsPrice(b.Low) && market.IsPrice(b.High) && b.Low <= min(b.Open, b.Close) && max(b.Open, b.Close) <= b.High &&
		(quoted || b.Bid == 0 && b.Ask == 0)
}

// place takes a good observation with its note, unless the last one forbids it.
func (l *Live) place(o *observation, note Note, latest int64) Note {
	if l.begun {
		if l.jumps(o, latest) {
			w := l.waiting
			if !l.confirms(o) {
				l.waiting = *o
				return Jump
			}
			if w.quote.Time < l.last.Time {
				l.forget()
			}
			l.take(&w)
		}
		if n := l.order(o); n != Accepted {
			return n
		}
	}
	l.take(o)
	return note
}

// jumps reports whether the time of the observation is too far from the last for one observation to be believed.
func (l *Live) jumps(o *observation, latest int64) bool {
	step, most := o.quote.Time-l.last.Time, l.opts.MaxJump.Milliseconds()
	questioned := !l.confirmed || l.last.Time > latest
	return step > most || step < -most && questioned
}

// confirms reports whether the observation agrees with the one that waits: it is another one, and follows soon.
func (l *Live) confirms(o *observation) bool {
	step := o.quote.Time - l.waiting.quote.Time
	return l.waiting.quote.Time != 0 && *o != l.waiting && step >= 0 && step <= l.opts.MaxJump.Milliseconds()
}

// order is Accepted when the observation can follow the last one.
func (l *Live) order(o *observation) Note {
	begun, building := l.builder.Current()
	switch {
	case !o.isBar && o.quote.Time < l.last.Time, o.isBar && building && o.bar.Start <= begun.Start:
		return OutOfOrder
	case !o.isBar && o.quote == l.last, o.isBar && !building && o.bar == l.engine.last:
		return Duplicate
	case o.isBar && !building && o.bar.Start < l.last.Time:
		return OutOfOrder
	}
	return Accepted
}

// take makes the observation part of the features.
func (l *Live) take(o *observation) {
	l.confirmed, l.begun, l.waiting = l.begun, true, observation{}
	if o.isBar {
		l.last = market.Quote{Time: o.bar.End()}
		if done, ok := l.builder.Flush(); ok {
			l.engine.add(done)
		}
		l.engine.add(o.bar)
		return
	}
	l.last = o.quote
	if done, ok := l.builder.Add(o.quote); ok {
		l.engine.add(done)
	}
	begun, _ := l.builder.Current()
	l.engine.fill(begun.Start)
}

// forget drops all but the counts.
func (l *Live) forget() {
	l.engine, l.builder, l.last, l.begun, l.waiting = NewEngine(), market.BarBuilder{}, market.Quote{}, false, observation{}
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

// Refused is how many of the last observations in a row were left out, and why the last of them was. Waiting reports
// whether one of them waits for a second that agrees.
func (l *Live) Refused() (n uint64, why Note, waiting bool) {
	return l.refused, l.note, l.waiting.quote.Time != 0
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
