package feature

import (
	"cmp"
	"fmt"
	"math"
)

// input is a quantity that features are made of, with what it needs before it is defined.
type input struct {
	name string
	// lacks returns what the input still waits for, for example "needs 720 minutes of rsi14, has 300"; empty once it is defined.
	lacks func(b *Builder) string
}

// The inputs of the definitions.
var (
	inMid = &input{"mid", func(b *Builder) string {
		return unless(b.minutes >= 1, "needs a completed minute")
	}}
	inReturn = &input{"mid_logret_1m", func(b *Builder) string {
		return cmp.Or(
			unless(b.minutes >= 2, "needs 2 completed minutes, has %d", b.minutes),
			unless(!math.IsNaN(b.r1), "needs one more minute: a hole of more than %d minutes came before this one", MaxFill))
	}}
	inReturns = &input{"mid_logret_5m", func(b *Builder) string {
		have := 0
		for have < r5Minutes && !math.IsNaN(b.returns[(b.minutes+r5Minutes-1-have)%r5Minutes]) {
			have++
		}
		return unless(have >= r5Minutes, "needs %d returns without a hole of more than %d minutes, has %d", r5Minutes, MaxFill, have)
	}}
	inVol = &input{"vol1m", func(b *Builder) string {
		return b.squares.lacks("returns")
	}}
	inRSI = &input{"rsi14", func(b *Builder) string {
		return unless(b.rsi.changes >= rsiPeriod, "needs %d changes from minute to minute, has %d", rsiPeriod, b.rsi.changes)
	}}
	inSpread = &input{"spread_bp", func(b *Builder) string {
		if b.minutes == 0 || !b.estimated {
			return inMid.lacks(b)
		}
		return b.pairs.lacks("pairs of bars, without quotes")
	}}
	inRSIWindow = &input{"rsi14_z", func(b *Builder) string {
		return b.rsiWindow.lacksSpread("rsi14")
	}}
	inMidWindow = &input{"zscore_mid_24h", func(b *Builder) string {
		return b.midWindow.lacksSpread("mid")
	}}
	inSigmaRef = &input{"sigma_ref", func(b *Builder) string {
		if b.days.short() {
			return unless(b.days.days >= 1, "needs one completed UTC day with %d returns, or %d shorter ones, the last with at least %d and half the usual number (today has %.0f so far)",
				minDayReturns, minSessionDays, minSessionReturns, b.days.returns)
		}
		return unless(b.days.days >= 1, "needs one completed UTC day with %d returns (today has %.0f so far)", minDayReturns, b.days.returns)
	}}
	inSpreadRef = &input{"spread_ref", func(b *Builder) string {
		return cmp.Or(inSigmaRef.lacks(b), unless(!math.IsNaN(b.days.spreadRef), "needs one completed UTC day with %d returns and a spread", minDayReturns))
	}}
)

func unless(defined bool, format string, args ...any) string {
	if defined {
		return ""
	}
	return fmt.Sprintf(format, args...)
}

// lacks returns what is missing for the mean of the window.
func (w *window) lacks(what string) string {
	return unless(w.now.n >= w.min, "needs %d %s, has %d", int(w.min), what, int(w.now.n))
}

// lacksSpread returns what is missing for a z-score of the window.
func (w *window) lacksSpread(what string) string {
	return cmp.Or(
		w.lacks("minutes of "+what),
		unless(w.now.m2 != 0, "needs a change of %s: it had one value in all of its %d minutes", what, int(w.now.n)))
}
