// Package quality measures how much of a series of bars comes from a real market. It finds frozen stretches: bars that a feed
// or an archive produced without a market.
package quality

import (
	"math"
	"math/bits"
	"slices"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/market"
)

// Limits for a frozen stretch, which has bars but says nothing about a market. Each limit is well beyond what real
// markets do: quality_test.go checks them against all real data sets.
const (
	// flatMinutes is twice the longest minute window of a feature (vol1m). During such an unchanged run, and for as long
	// after it, the features describe the feed and not the market.
	flatMinutes = 120
	// oneWayChanges is how many successive changes in one direction indicate a line drawn over a hole. Independent
	// changes would take 2^60 minutes to do that; the most in real data is 28, in a crash.
	oneWayChanges = 60
	// repeatMinutes successive returns are compared with everything before. If they are equal to the last digit, and
	// repeatChanges of them are nonzero, they are a copy.
	repeatMinutes, repeatChanges = 60, 20

	// inPlaceHours is the shortest stretch in which a price that only jitters can be distinguished from one that moves.
	// The hourly moves of a random walk have as much variance as its minutes; those of noise have a sixtieth. Below
	// inPlaceRatio nothing moves. The lowest daily ratio in real data is 0.1, where a coarse tick makes minutes bounce.
	inPlaceHours, inPlaceRatio = 24, 0.035
	// inPlaceMinutes is how many returns an hour needs to count.
	inPlaceMinutes = 45

	// unchanged is the relative difference up to which two prices count as equal: the mid of a bid and an ask is
	// rounded.
	unchanged = 1e-10
	// A flat run of closedLeast to closedMost minutes around a Saturday (UTC) is a closed market whose archive still
	// has bars, if three of four Saturdays (at least two) are like that.
	closedLeast, closedMost, closedShare, closedWeeks = 40 * 60, 80 * 60, 0.75, 2
	// filledMinutes is the longest hole that is filled with flat bars (feature.MaxFill).
	filledMinutes = 10
	// gapMoveHours limits the holes across which a move is measured: a split is made while a market is closed.
	gapMoveHours = 4 * 24
	// mostStretches limits the list of frozen stretches in a report.
	mostStretches = 50
)

// fewLimits are how many minutes a price may alternate between so many values before its feed counts as frozen. A market
// with a tick of 9 bp stays within 3 values for at most 2 hours, and within 8 for 8 hours.
var fewLimits = []struct{ values, minutes int }{{3, 360}, {8, 1440}}

// The kinds of a [Stretch].
const (
	Flat      = "flat"       // one price
	FewValues = "few values" // back and forth between a few prices
	OneWay    = "one way"    // a straight line, drawn over a hole
	InPlace   = "in place"   // noise around one price
	Repeated  = "repeated"   // minutes copied from earlier ones
	Closed    = "closed"     // one price over a weekend, like most weekends of the series
	Hole      = "hole"       // no bars
)

// Stretch is a part of a series.
type Stretch struct {
	Kind string `json:"kind"`
	// From is the start of the first minute, To the end of the last.
	From    time.Time `json:"from"`
	To      time.Time `json:"to"`
	Minutes int       `json:"minutes"`
}

// Move is a largest price change.
type Move struct {
	// Share is the change relative to the lower price, >= 0: 1 for a price that doubles or halves.
	Share float64 `json:"share"`
	// Time is the start of the minute with the later price.
	Time time.Time `json:"time"`
}

// Report describes how much of a series comes from a real market.
type Report struct {
	Bars int `json:"bars"`
	// Days is the number of UTC days with bars, Minutes the number of minutes including filled ones.
	Days    int `json:"days"`
	Minutes int `json:"minutes"`
	// UnchangedShare is the share of minutes whose price equals the price of the minute before, in [0,1].
	UnchangedShare float64 `json:"unchanged_share"`
	// LongestFlatRun is the longest run of such minutes.
	LongestFlatRun Stretch `json:"longest_flat_run"`
	// FilledShare is the share of missing minutes in holes short enough to be filled with flat bars, in [0,1].
	FilledShare float64 `json:"filled_share"`
	// LargestMove is within a minute or between neighbouring minutes, LargestGapMove across a hole of at most four
	// days.
	LargestMove    Move `json:"largest_move"`
	LargestGapMove Move `json:"largest_gap_move"`
	// Holes counts the holes that are too long to fill.
	Holes       int     `json:"holes"`
	LongestHole Stretch `json:"longest_hole"`
	// FrozenShare is the share of minutes in frozen stretches, in [0,1], and FrozenMinutes their number. Frozen lists
	// the first stretches in time order.
	FrozenShare   float64 `json:"frozen_share"`
	FrozenMinutes int     `json:"frozen_minutes"`
	// ClosedMinutes are minutes with bars on weekends when the market was closed. They are left out of all other figures
	// except Bars.
	ClosedMinutes int       `json:"closed_minutes"`
	Frozen        []Stretch `json:"frozen"`
	// LongestFrozen is the longest frozen stretch. Adjacent stretches of several kinds are merged, and get the most frequent
	// kind.
	LongestFrozen Stretch `json:"longest_frozen"`
}

// Examine measures the quality of bars in time order, and returns the bars without the frozen stretches. These become
// holes: nobody knows what the market did. If nothing is frozen, the bars are returned unchanged.
func Examine(bars []market.Bar) (Report, []market.Bar) {
	q := Report{Bars: len(bars), Frozen: []Stretch{}}
	if len(bars) == 0 {
		return q, bars
	}
	e := newExamination(bars)
	e.closed()
	if open := e.unmarked(); len(open) < len(bars) {
		q.ClosedMinutes = len(bars) - len(open)
		e = newExamination(open)
	}
	e.measure(&q)
	e.oneWay()
	for _, l := range fewLimits {
		e.few(l.values, l.minutes)
	}
	e.inPlace()
	e.repeats()
	e.flat()
	kept := e.thaw(&q)
	return q, kept
}

// examination marks the bars that do not come from a market.
type examination struct {
	bars []market.Bar
	// kind is the kind of the frozen stretch of each bar; empty for a market's bar.
	kind []string
}

func newExamination(bars []market.Bar) *examination {
	return &examination{bars: bars, kind: make([]string, len(bars))}
}

// joined reports whether bar i follows the bar before it without a hole.
func (e *examination) joined(i int) bool {
	return i > 0 && (e.bars[i].Start-e.bars[i-1].Start)/market.MinuteMS <= filledMinutes+1
}

// change returns the sign of the change of the close at bar i.
func (e *examination) change(i int) int {
	a, b := e.bars[i-1].Close, e.bars[i].Close
	switch {
	case math.Abs(b-a) <= unchanged*b:
		return 0
	case b > a:
		return 1
	}
	return -1
}

// minutes returns the number of minutes from the start of bar i to the end of bar j.
func (e *examination) minutes(i, j int) int {
	return int((e.bars[j].End() - e.bars[i].Start) / market.MinuteMS)
}

func (e *examination) stretch(kind string, i, j int) Stretch {
	return Stretch{kind, time.UnixMilli(e.bars[i].Start).UTC(), time.UnixMilli(e.bars[j].End()).UTC(), e.minutes(i, j)}
}

// mark marks the bars from i to j, both included.
func (e *examination) mark(kind string, i, j int) {
	for ; i <= j; i++ {
		e.kind[i] = kind
	}
}

// closed marks weekends on which the market was closed but the archive has bars.
func (e *examination) closed() {
	const day, week = 24 * 60 * market.MinuteMS, 7 * 24 * 60 * market.MinuteMS
	const saturday = 2 * day // 1970-01-03
	// last returns the start of the latest Saturday at or before the instant.
	last := func(ms int64) int64 { return (ms-saturday)/week*week + saturday }
	saturdays := map[int64]bool{}
	for _, b := range e.bars {
		if s := last(b.Start); b.Start < s+day {
			saturdays[s] = true
		}
	}
	type run struct{ i, j int }
	var runs []run
	weeks := 0
	e.flatRuns(func(i, j int) {
		n, cut := e.minutes(i, j), i == 1 || j == len(e.bars)-1 // cut by the ends of the data
		if n < flatMinutes || n > closedMost || n < closedLeast && !cut {
			return
		}
		if s := last(e.bars[j].End() - day); e.bars[i].Start <= s {
			weeks++
		} else if !cut {
			return
		}
		runs = append(runs, run{i, j})
	})
	if weeks < closedWeeks || float64(weeks) < closedShare*float64(len(saturdays)) {
		return
	}
	for _, r := range runs {
		e.mark(Closed, r.i, r.j)
	}
}

func (m *Move) take(low, high float64, at int64) {
	if share := high/low - 1; share > m.Share {
		m.Share, m.Time = share, time.UnixMilli(at).UTC()
	}
}

// measure computes everything except the frozen stretches.
func (e *examination) measure(q *Report) {
	const day = 24 * 60 * market.MinuteMS
	missing, same, steps, last := 0, 0, 0, int64(math.MinInt64)
	for i, b := range e.bars {
		if d := b.Start / day; d != last {
			q.Days, last = q.Days+1, d
		}
		q.LargestMove.take(b.Low, b.High, b.Start)
		if i == 0 {
			continue
		}
		a := e.bars[i-1]
		if !e.joined(i) {
			q.Holes++
			hole := Stretch{Hole, time.UnixMilli(a.End()).UTC(), time.UnixMilli(b.Start).UTC(), int((b.Start - a.End()) / market.MinuteMS)}
			if hole.Minutes > q.LongestHole.Minutes {
				q.LongestHole = hole
			}
			if hole.Minutes <= gapMoveHours*60 {
				q.LargestGapMove.take(min(a.Close, b.Close), max(a.Close, b.Close), b.Start)
			}
			continue
		}
		// From the last price to the farthest price of this minute.
		q.LargestMove.take(min(a.Close, b.Low), max(a.Close, b.High), b.Start)
		missing += int((b.Start - a.End()) / market.MinuteMS)
		steps++
		if e.change(i) == 0 {
			same++
		}
	}
	q.Minutes = len(e.bars) + missing
	if q.Minutes > 0 {
		q.FilledShare = float64(missing) / float64(q.Minutes)
	}
	if steps > 0 {
		q.UnchangedShare = float64(same) / float64(steps)
	}
	e.flatRuns(func(i, j int) {
		if s := e.stretch(Flat, i, j); s.Minutes > q.LongestFlatRun.Minutes {
			q.LongestFlatRun = s
		}
	})
}

// flatRuns calls f with the bars of every run without a change. The first bar of a run has the change before it.
func (e *examination) flatRuns(f func(i, j int)) {
	first := 0
	for i := 1; i <= len(e.bars); i++ {
		if i < len(e.bars) && e.joined(i) && e.change(i) == 0 {
			continue
		}
		if i-1 > first {
			f(first+1, i-1)
		}
		first = i
	}
}

func (e *examination) flat() {
	e.flatRuns(func(i, j int) {
		if e.minutes(i, j) >= flatMinutes {
			e.mark(Flat, i, j)
		}
	})
}

// oneWay marks runs of changes in one direction.
func (e *examination) oneWay() {
	first, last, way, n := 0, 0, 0, 0
	end := func() {
		if n >= oneWayChanges {
			e.mark(OneWay, first, last)
		}
		way, n = 0, 0
	}
	for i := 1; i < len(e.bars); i++ {
		if !e.joined(i) {
			end()
			continue
		}
		c := e.change(i)
		if c == 0 {
			continue
		}
		if c != way {
			end()
			first, way = i, c
		}
		last, n = i, n+1
	}
	end()
}

// few marks stretches with few different closes.
func (e *examination) few(values, minutes int) {
	count := map[float64]int{}
	first := 0
	drop := func(i int) {
		if count[e.bars[i].Close]--; count[e.bars[i].Close] == 0 {
			delete(count, e.bars[i].Close)
		}
	}
	for i := range e.bars {
		if i > 0 && !e.joined(i) {
			clear(count)
			first = i
		}
		count[e.bars[i].Close]++
		for len(count) > values {
			drop(first)
			first++
		}
		if e.minutes(first, i) >= minutes {
			e.mark(FewValues, first, i)
		}
	}
}

// hour summarises the bars of a clock hour: the sum of squared returns, the largest of them, and the total return.
type hour struct {
	at, first, last       int
	squares, largest, net float64
	whole                 bool
}

func (e *examination) hours() []hour {
	const length = 60 * market.MinuteMS
	var all []hour
	for i := 0; i < len(e.bars); {
		h := hour{at: int(e.bars[i].Start / length), first: i}
		n := 0
		for ; i < len(e.bars) && int(e.bars[i].Start/length) == h.at; i++ {
			if !e.joined(i) {
				continue
			}
			r := math.Log(e.bars[i].Close / e.bars[i-1].Close)
			h.squares += r * r
			h.largest = max(h.largest, r*r)
			h.net += r
			n++
		}
		h.last, h.whole = i-1, n >= inPlaceMinutes
		all = append(all, h)
	}
	return all
}

// inPlace marks days in which a price goes nowhere.
func (e *examination) inPlace() {
	hours := e.hours()
	run := 0
	for i, h := range hours {
		if run++; !h.whole {
			run = 0
		} else if i > 0 && h.at != hours[i-1].at+1 {
			run = 1
		}
		if run < inPlaceHours {
			continue
		}
		var squares, largest, net float64
		for _, h := range hours[i-inPlaceHours+1 : i+1] {
			squares += h.squares
			largest = max(largest, h.largest)
			net += h.net * h.net
		}
		// A single spike and its return would outweigh a day of moves.
		if net < inPlaceRatio*squares && largest < squares/10 {
			e.mark(InPlace, hours[i-inPlaceHours+1].first, h.last)
		}
	}
}

// repeats marks minutes whose returns repeat an earlier stretch. Windows are compared by a rolling hash (R. M. Karp, M.
// O. Rabin (1987), "Efficient randomized pattern-matching algorithms").
func (e *examination) repeats() {
	const base, stride = 0x9E3779B97F4A7C15, repeatMinutes / 2 // stores every stride-th window, looks up all
	power := uint64(1)
	for range repeatMinutes - 1 {
		power *= base
	}
	seen := map[uint64]int{}
	words := make([]uint64, len(e.bars))
	hash, n, changes := uint64(0), 0, 0
	for i := 1; i < len(e.bars); i++ {
		if e.bars[i].Start-e.bars[i-1].Start != market.MinuteMS {
			hash, n, changes = 0, 0, 0
			continue
		}
		if n == repeatMinutes {
			old := i - repeatMinutes
			hash -= words[old] * power
			n--
			if e.change(old) != 0 {
				changes--
			}
		}
		if e.change(i) != 0 {
			changes++
			r := math.Round(1e9 * math.Log(e.bars[i].Close/e.bars[i-1].Close))
			words[i] = bits.RotateLeft64(uint64(int64(r))*base, 31)
		}
		hash = hash*base + words[i]
		if n++; n < repeatMinutes || changes < repeatChanges {
			continue
		}
		if at, ok := seen[hash]; ok && at != i {
			e.mark(Repeated, i-repeatMinutes+1, i)
		} else if i%stride == 0 {
			seen[hash] = i
		}
	}
}

// thaw lists the frozen stretches and returns the bars without them.
func (e *examination) thaw(q *Report) []market.Bar {
	first := -1
	for i := 0; i <= len(e.bars); i++ {
		if first >= 0 && (i == len(e.bars) || e.kind[i] != e.kind[first] || !e.joined(i)) {
			s := e.stretch(e.kind[first], first, i-1)
			q.FrozenMinutes += s.Minutes
			if len(q.Frozen) < mostStretches {
				q.Frozen = append(q.Frozen, s)
			}
			first = -1
		}
		if i < len(e.bars) && first < 0 && e.kind[i] != "" {
			first = i
		}
	}
	e.longestFrozen(q)
	if q.Minutes > 0 {
		q.FrozenShare = float64(q.FrozenMinutes) / float64(q.Minutes)
	}
	return e.unmarked()
}

func (e *examination) longestFrozen(q *Report) {
	for i := 0; i < len(e.bars); {
		first, kinds := i, map[string]int{}
		for ; i < len(e.bars) && e.kind[i] != "" && (i == first || e.joined(i)); i++ {
			kinds[e.kind[i]]++
		}
		if i == first {
			i++
			continue
		}
		if s := e.stretch("", first, i-1); s.Minutes > q.LongestFrozen.Minutes {
			for _, kind := range []string{Flat, FewValues, OneWay, InPlace, Repeated} {
				if kinds[kind] > kinds[s.Kind] {
					s.Kind = kind
				}
			}
			q.LongestFrozen = s
		}
	}
}

// unmarked returns the bars that are not marked, or the original slice if none is.
func (e *examination) unmarked() []market.Bar {
	if !slices.ContainsFunc(e.kind, func(kind string) bool { return kind != "" }) {
		return e.bars
	}
	kept := make([]market.Bar, 0, len(e.bars))
	for i, b := range e.bars {
		if e.kind[i] == "" {
			kept = append(kept, b)
		}
	}
	return slices.Clip(kept)
}
