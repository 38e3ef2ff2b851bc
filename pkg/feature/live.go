package feature

import (
	"fmt"
	"math"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/market"
)

// DefaultMaxJump is the default of LiveOptions.MaxJump.
const DefaultMaxJump = time.Hour

// LiveOptions controls what a [Live] accepts. The zero value is ready for use.
type LiveOptions struct {
	// KeepCrossed accepts observations whose bid is above their ask, with a negative spread. By default they are left
	// out, as marketfile.Read does with bad rows. Set it for feeds whose crossed rows marketfile.Read keeps (FXCM, which
	// records the two sides independently): a model must be scored on what it was trained on.
	KeepCrossed bool
	// MaxJump is the longest time step between observations that is believed at once. After a longer step the
	// observation waits until a second one agrees with it. 0 means DefaultMaxJump; at least a minute.
	MaxJump time.Duration
	// Latest returns the latest time that an observation may have, Unix milliseconds UTC. It is called for every
	// observation. nil means no limit, as for a replay.
	Latest func() int64
}

// validate checks the options and fills in defaults.
func (o *LiveOptions) validate() error {
	if o.MaxJump != 0 && o.MaxJump < time.Minute {
		return fmt.Errorf("max jump %v: want 0 (%v), or a minute or more", o.MaxJump, DefaultMaxJump)
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

// Live computes the features of one instrument from its quotes as they arrive. It makes bars as marketfile.Read does and
// pushes them into the [Builder] that [Compute] runs. Scoring thus sees, bit for bit, what training saw.
//
// It has no timer and no clock: a minute is complete when an observation of a later minute arrives. That observation
// also completes the minutes without quotes in between, up to [MaxFill]. Features are therefore as of the end of the
// minute before the last quote's, and they age in a silent market. The caller compares asOf of [Live.Vector] with its
// decision time.
//
// A single wrong time cannot stop a feed. An observation more than MaxJump later than the last one waits. The next one
// decides: if it is within MaxJump of the waiting one, both are taken; if it follows the last one, the waiting one is
// dropped. An observation that is as much earlier waits too, but only if the last one is in question: nothing has
// followed it, or it is after LiveOptions.Latest. If a second one agrees, all state is dropped and the two restart the
// symbol.
//
// An observation takes amortised O(1) time and does not allocate. A Live holds about 100 kB whatever it has seen. It is
// not safe for concurrent use: see [Builders].
type Live struct {
	opts     LiveOptions
	features *Builder
	bars     market.BarBuilder
	// last is the last quote taken; after a bar only its Time is set, to the end of the bar. begun reports that there
	// is one. confirmed reports that another observation was taken before or after it.
	last             market.Quote
	begun, confirmed bool
	// waiting is set aside until a second observation agrees; its time is 0 if there is none.
	waiting observation

	counts [noteEnd]uint64
	// onMinute, if set, is called after every grid minute.
	onMinute func(Minute)
	// refused counts the observations in a row that were left out; note is the reason for the last of them.
	refused uint64
	note    Note
}

// observation is a quote or a bar.
type observation struct {
	quote market.Quote // for a bar only the time is set, to its start
	bar   market.Bar
	isBar bool
}

func barOf(b market.Bar) observation { return observation{market.Quote{Time: b.Start}, b, true} }

// NewLive returns an empty Live.
func NewLive(opts LiveOptions) (*Live, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	return &Live{opts: opts, features: NewBuilder()}, nil
}

// Observe takes the next quote.
func (l *Live) Observe(q market.Quote) Note { return l.observe(observation{quote: q}) }

// ObserveBar takes a bar that the source made itself. The bar is complete at once, and so is a minute that quotes began
// before it. A bar of a minute that quotes have begun is OutOfOrder: the two cannot be merged.
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

// judge judges what depends on the observation alone.
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

// fits reports whether the prices of a bar are valid and consistent.
func fits(b market.Bar) bool {
	quoted := market.IsPrice(b.Bid) && market.IsPrice(b.Ask)
	return market.IsPrice(b.Low) && market.IsPrice(b.High) && b.Low <= min(b.Open, b.Close) && max(b.Open, b.Close) <= b.High &&
		(quoted || b.Bid == 0 && b.Ask == 0)
}

// place takes a good observation with its note, unless the last observation rules it out.
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

// jumps reports whether the observation is too far in time from the last one to be believed alone.
func (l *Live) jumps(o *observation, latest int64) bool {
	step, most := o.quote.Time-l.last.Time, l.opts.MaxJump.Milliseconds()
	questioned := !l.confirmed || l.last.Time > latest
	return step > most || step < -most && questioned
}

// confirms reports whether the observation agrees with the waiting one: it differs from it and follows soon.
func (l *Live) confirms(o *observation) bool {
	step := o.quote.Time - l.waiting.quote.Time
	return l.waiting.quote.Time != 0 && *o != l.waiting && step >= 0 && step <= l.opts.MaxJump.Milliseconds()
}

// order returns Accepted if the observation can follow the last one.
func (l *Live) order(o *observation) Note {
	begun, building := l.bars.Current()
	switch {
	case !o.isBar && o.quote.Time < l.last.Time, o.isBar && building && o.bar.Start <= begun.Start:
		return OutOfOrder
	case !o.isBar && o.quote == l.last, o.isBar && !building && o.bar == l.features.last:
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
		if done, ok := l.bars.Flush(); ok {
			l.features.add(done)
		}
		l.features.add(o.bar)
		return
	}
	l.last = o.quote
	if done, ok := l.bars.Add(o.quote); ok {
		l.features.add(done)
	}
	begun, _ := l.bars.Current()
	l.features.fill(begun.Start)
}

// forget drops everything except the counts.
func (l *Live) forget() {
	l.features, l.bars, l.last, l.begun, l.waiting = NewBuilder(), market.BarBuilder{}, market.Quote{}, false, observation{}
	if l.onMinute != nil {
		l.watch(l.onMinute)
	}
}

// watch calls fn after every grid minute from now on.
func (l *Live) watch(fn func(Minute)) {
	l.onMinute = fn
	b := l.features
	b.onMinute = func() { fn(Minute{b.End(), b.last.High, b.last.Low, b.days.sigmaRef}) }
}

// Vector fills dst, which must hold s.Len() values, with the features of s as of the last completed minute. It returns
// the end of that minute in Unix milliseconds UTC, or 0 before the first. If ready is false, some feature is NaN and
// the vector must not be scored. It does not allocate.
func (l *Live) Vector(s *Schema, dst []float64) (asOf int64, ready bool) {
	ready = l.features.Vector(s, dst)
	return l.features.End(), ready
}

// Readiness reports whether the features of s are defined, and what is missing. It allocates.
func (l *Live) Readiness(s *Schema) Readiness {
	r := l.features.Readiness(s)
	r.Refused, r.Note = int(min(l.refused, math.MaxInt)), l.note
	return r
}

// Refused returns how many observations in a row were left out, and the reason for the last of them. Waiting reports
// whether one of them waits for a second that agrees.
func (l *Live) Refused() (n uint64, why Note, waiting bool) {
	return l.refused, l.note, l.waiting.quote.Time != 0
}

// Count returns how many observations had the note.
func (l *Live) Count(n Note) uint64 {
	if n >= noteEnd {
		return 0
	}
	return l.counts[n]
}

// Last returns the time of the last accepted observation (the end, for a bar) in Unix milliseconds UTC, or 0 before the
// first.
func (l *Live) Last() int64 { return l.last.Time }
