package feature

import (
	"fmt"
	"math"
)

// input is something that features are made of, with what it takes before it is there.
type input struct {
	name string
	// lacks is false when the input is there; else it says what it waits for.
	lacks func(e *Engine) (Need, bool)
}

// The inputs of the definitions.
var (
	inMid = &input{"mid", func(e *Engine) (Need, bool) {
		return count(e.minutes, 1, "needs a completed minute")
	}}
	inReturn = &input{"mid_logret_1m", func(e *Engine) (Need, bool) {
		if n, lacks := count(e.minutes, 2, "needs 2 completed minutes, has %d", min(e.minutes, 2)); lacks {
			return n, true
		}
		return Need{Have: 1, Want: 2, Reason: fmt.Sprintf("needs the minute after the present one: a hole of more than %d minutes came before", MaxFill)},
			math.IsNaN(e.r1)
	}}
	inReturns = &input{"mid_logret_5m", func(e *Engine) (Need, bool) {
		have := 0
		for have < r5Minutes && !math.IsNaN(e.returns[(e.minutes+r5Minutes-1-have)%r5Minutes]) {
			have++
		}
		return count(have, r5Minutes, "needs %d returns without a hole of more than %d minutes, has %d", r5Minutes, MaxFill, have)
	}}
	inVol = &input{"vol1m", func(e *Engine) (Need, bool) {
		return e.squares.lacks("returns")
	}}
	inRSI = &input{"rsi14", func(e *Engine) (Need, bool) {
		return count(e.rsi.changes, rsiPeriod, "needs %d changes from minute to minute, has %d", rsiPeriod, e.rsi.changes)
	}}
	inSpread = &input{"spread_bp", func(e *Engine) (Need, bool) {
		if e.minutes == 0 || !e.estimated {
			return inMid.lacks(e)
		}
		return e.pairs.lacks("pairs of bars, without quotes")
	}}
	inRSIWindow = &input{"rsi14_z", func(e *Engine) (Need, bool) {
		return e.rsiWindow.lacksSpread("rsi14")
	}}
	inMidWindow = &input{"zscore_mid_24h", func(e *Engine) (Need, bool) {
		return e.midWindow.lacksSpread("mid")
	}}
	inSigmaRef = &input{"sigma_ref", func(e *Engine) (Need, bool) {
		if e.days.short() {
			return count(e.days.days, 1, "needs one completed UTC day with %d returns, or %d shorter ones of which the last has %d and half of what is usual (the present day has %.0f so far)",
				minDayReturns, minSessionDays, minSessionReturns, e.days.returns)
		}
		return count(e.days.days, 1, "needs one completed UTC day with %d returns (the present day has %.0f so far)", minDayReturns, e.days.returns)
	}}
	inSpreadRef = &input{"spread_ref", func(e *Engine) (Need, bool) {
		if n, lacks := inSigmaRef.lacks(e); lacks {
			return n, true
		}
		return Need{Want: 1, Reason: fmt.Sprintf("needs one completed UTC day with %d returns and a spread", minDayReturns)},
			math.IsNaN(e.days.spreadRef)
	}}
)

// count is the need of at least want of something.
func count(have, want int, format string, args ...any) (Need, bool) {
	if have >= want {
		return Need{}, false
	}
	return Need{Have: have, Want: want, Reason: fmt.Sprintf(format, args...)}, true
}

// lacks is what is missing for the mean of the window.
func (w *window) lacks(what string) (Need, bool) {
	have, want := int(w.now.n), int(w.min)
	return count(have, want, "needs %d %s, has %d", want, what, have)
}

// lacksSpread is what is missing for a z of the window.
func (w *window) lacksSpread(what string) (Need, bool) {
	have, want := int(w.now.n), int(w.min)
	if n, lacks := count(have, want, "needs %d minutes of %s, has %d", want, what, have); lacks {
		return n, true
	}
	return Need{Have: have, Want: want, Reason: fmt.Sprintf("needs a change of %s: it had one value in all of its %d minutes", what, have)},
		w.now.m2 == 0
}
