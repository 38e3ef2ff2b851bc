package feature

import (
	"math"

	"github.com/greenlight-ml/greenlight/pkg/market"
)

// maxJump is the longest time step between observations that is believed immediately, in milliseconds. After a longer step
// the observation waits until a second one agrees with it.
const maxJump = 60 * market.MinuteMS

// LiveOptions controls what a [Live] accepts. The zero value is ready for use.
type LiveOptions struct {
	// KeepCrossed accepts observations whose bid is above their ask, with a negative spread. By default they are left out,
	// like bad rows in marketfile.Read. Set it for feeds whose crossed rows marketfile.Read keeps (FXCM, which records the
	// two sides independently): a model must be scored on what it was trained on.
	KeepCrossed bool
	// Latest returns the latest time that an observation may have, Unix milliseconds UTC. It is called for every
	// observation. nil means no limit, as for a replay.
	Latest func() int64
}

func (o *LiveOptions) latest() int64 {
	if o.Latest == nil {
		return math.MaxInt64
	}
	return o.Latest()
}

// Live computes the features of one instrument from its quotes as they arrive. It makes the same bars as marketfile.Read and
// pushes them into the [Builder] that [Compute] runs. Scoring thus sees, bit for bit, what training saw.
//
// It has no timer and no clock: a minute is complete when an observation of a later minute arrives. That observation
// also completes the minutes without quotes in between, up to [MaxFill]. Features are therefore as of the end of the
// minute before the last quote's, and they age in a silent market. The caller compares asOf of [Live.Vector] with its
// decision time.
//
// A single wrong time cannot stop a feed. An observation more than an hour later than the last one waits. The next one
// decides: if it is within an hour of the waiting one, both are taken; if it follows the last one, the waiting one is
// dropped. An observation more than an hour earlier waits too, but only if the last one is in question: nothing has followed
// it, or it is after LiveOptions.Latest. If a second one agrees, all state is dropped and the two restart the symbol.
//
// An observation takes amortised O(1) time and does not allocate. A Live holds about 100 kB whatever it has seen. It is
// not safe for concurrent use: see [Builders].
type Live struct {
	opts     LiveOptions
	features *Builder
	bars     market.BarBuilder
	// last is the last quote taken. begun reports whether there is one, and confirmed whether another was taken before or
	// after it.
	last             market.Quote
	begun, confirmed bool
	// waiting is set aside until a second observation agrees; its time is 0 if there is none.
	waiting market.Quote

	counts [noteEnd]uint64
	// onMinute, if set, is called after every grid minute.
	onMinute func(Minute)
	// refused counts the observations in a row that were left out; note is the reason for the last of them.
	refused uint64
	note    Note
}

// NewLive returns an empty Live.
func NewLive(opts LiveOptions) *Live { return &Live{opts: opts, features: NewBuilder()} }

// Observe takes the next quote.
func (l *Live) Observe(q market.Quote) Note {
	latest := l.opts.latest()
	note := l.opts.judge(&q, latest)
	if note.Taken() {
		note = l.place(&q, note, latest)
	}
	l.counts[note]++
	if note.Taken() || note == Duplicate {
		l.refused, l.note = 0, Accepted
	} else {
		l.refused, l.note = l.refused+1, note
	}
	return note
}

// judge judges what depends on the quote alone.
func (o *LiveOptions) judge(q *market.Quote, latest int64) Note {
	switch {
	case !market.IsPrice(q.Bid) || !market.IsPrice(q.Ask):
		return BadPrice
	case !market.IsTime(q.Time):
		return BadTime
	case q.Time > latest:
		return Ahead
	case q.Bid <= q.Ask:
		return Accepted
	case o.KeepCrossed:
		return CrossedKept
	}
	return Crossed
}

// place takes a good quote with its note, unless the last one rules it out.
func (l *Live) place(q *market.Quote, note Note, latest int64) Note {
	if l.begun {
		if l.jumps(q, latest) {
			w := l.waiting
			if !l.confirms(q) {
				l.waiting = *q
				return Jump
			}
			if w.Time < l.last.Time {
				l.forget()
			}
			l.take(&w)
		}
		switch {
		case q.Time < l.last.Time:
			return OutOfOrder
		case *q == l.last:
			return Duplicate
		}
	}
	l.take(q)
	return note
}

// jumps reports whether the quote is too far in time from the last one to be believed alone.
func (l *Live) jumps(q *market.Quote, latest int64) bool {
	step := q.Time - l.last.Time
	questioned := !l.confirmed || l.last.Time > latest
	return step > maxJump || step < -maxJump && questioned
}

// confirms reports whether the quote agrees with the waiting one: it differs from it and follows soon.
func (l *Live) confirms(q *market.Quote) bool {
	step := q.Time - l.waiting.Time
	return l.waiting.Time != 0 && *q != l.waiting && step >= 0 && step <= maxJump
}

// take makes the quote part of the features.
func (l *Live) take(q *market.Quote) {
	l.confirmed, l.begun, l.waiting, l.last = l.begun, true, market.Quote{}, *q
	if done, ok := l.bars.Add(*q); ok {
		l.features.add(done)
	}
	begun, _ := l.bars.Current()
	l.features.fill(begun.Start)
}

// forget drops everything except the counts.
func (l *Live) forget() {
	l.features, l.bars, l.last, l.begun, l.waiting = NewBuilder(), market.BarBuilder{}, market.Quote{}, false, market.Quote{}
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

// Refused returns how many observations in a row were left out, and the reason for the last of them. Waiting reports
// whether one of them waits for a second that agrees.
func (l *Live) Refused() (n uint64, why Note, waiting bool) {
	return l.refused, l.note, l.waiting.Time != 0
}

// Count returns how many observations had the note.
func (l *Live) Count(n Note) uint64 {
	if n >= noteEnd {
		return 0
	}
	return l.counts[n]
}
