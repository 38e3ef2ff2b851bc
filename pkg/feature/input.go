package feature

import (
	"fmt"
	"math"
)

// input is a quantity that features are made of, with what it needs before it is defined.
type input struct {
	name string
	// lacks reports whether the input is still undefined, and what it waits for.
	lacks func(b *Builder) (Need, bool)
}

// The inputs of the definitions.
var (
	inMid = &input{"mid", func(b *Builder) (Need, bool) {
		return count(b.minutes, 1, "needs a completed minute")
	}}
	inReturn = &input{"mid_logret_1m", func(b *Builder) (Need, bool) {
		if n, lacks := count(b.minutes, 2, "needs 2 completed minutes, has %d", min(b.minutes, 2)); lacks {
			return n, true
		}
		return Need{Have: 1, Want: 2, Reason: fmt.Sprintf("needs one more minute: a hole of more than %d minutes came before this one", MaxFill)},
			math.IsNaN(b.r1)
	}}
	inReturns = &input{"mid_logret_5m", func(b *Builder) (Need, bool) {
		have := 0
		for have < r5Minutes && !math.IsNaN(b.returns[(b.minutes+r5Minutes-1-have)%r5Minutes]) {
			have++
		}
		return count(have, r5Minutes, "needs %d returns without a hole of more than %d minutes, has %d", r5Minutes, MaxFill, have)
	}}
	inVol = &input{"vol1m", func(b *Builder) (Need, bool) {
		return b.squares.lacks("returns")
	}}
	inRSI = &input{"rsi14", func(b *Builder) (Need, bool) {
		return count(b.rsi.changes, rsiPeriod, "needs %d changes from minute to minute, has %d", rsiPeriod, b.rsi.changes)
	}}
	inSpread = &input{"spread_bp", func(b *Builder) (Need, bool) {
		if b.minutes == 0 || !b.estimated {
			return inMid.lacks(b)
		}
		return b.pairs.lacks("pairs of bars, without quotes")
	}}
	inRSIWindow = &input{"rsi14_z", func(b *Builder) (Need, bool) {
		return b.rsiWindow.lacksSpread("rsi14")
	}}
	inMidWindow = &input{"zscore_mid_24h", func(b *Builder) (Need, bool) {
		return b.midWindow.lacksSpread("mid")
	}}
	inSigmaRef = &input{"sigma_ref", func(b *Builder) (Need, bool) {
		if b.days.short() {
			return count(b.days.days, 1, "needs one completed UTC day with %d returns, or %d shorter ones, the last with at least %d and half the usual number (today has %.0f so far)",
				minDayReturns, minSessionDays, minSessionReturns, b.days.returns)
		}
		return count(b.days.days, 1, "needs one completed UTC day with %d returns (today has %.0f so far)", minDayReturns, b.days.returns)
	}}
	inSpreadRef = &input{"spread_ref", func(b *Builder) (Need, bool) {
		if n, lacks := inSigmaRef.lacks(b); lacks {
			return n, true
		}
		return Need{Want: 1, Reason: fmt.Sprintf("needs one completed UTC day with %d returns and a spread", minDayReturns)},
			math.IsNaN(b.days.spreadRef)
	}}
)

// count returns the need for at least want of something.
func count(have, want int, format string, args ...any) (Need, bool) {
	if have >= want {
		return Need{}, false
	}
	return Need{Have: have, Want: want, Reason: fmt.Sprintf(format, args...)}, true
}

// lacks returns what is missing for the mean of the window.
func (w *window) lacks(what string) (Need, bool) {
	have, want := int(w.now.n), int(w.min)
	return count(have, want, "needs %d %s, has %d", want, what, have)
}

// lacksSpread returns what is missing for a z-score of the window.
func (w *window) lacksSpread(what string) (Need, bool) {
	have, want := int(w.now.n), int(w.min)
	if n, lacks := count(have, want, "needs %d minutes of %s, has %d", want, what, have); lacks {
		return n, true
	}
	return Need{Have: have, Want: want, Reason: fmt.Sprintf("needs a change of %s: it had one value in all of its %d minutes", what, have)},
		w.now.m2 == 0
}
