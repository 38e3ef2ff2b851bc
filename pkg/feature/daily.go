package feature

import (
	"math"
	"slices"
)

// Daily references: sigma_ref and spread_ref are the normal levels of the instrument, learned from whole days.
const (
	// referenceDays is the number of completed days that the references cover, at most.
	referenceDays = 7
	// A day with minDayReturns returns counts, whatever the other days.
	minDayReturns = 300
	// A market with shorter sessions is judged against its own days. Once minSessionDays of the last referenceDays with
	// returns are known, a day counts if it has minSessionReturns and sessionShare of their median.
	minSessionDays, minSessionReturns, sessionShare = 3, 60, 0.5
	sigmaFloor                                      = 0.05
	spreadFloor                                     = 0.01
	dayMS                                           = 24 * 60 * 60 * 1000
)

// daily turns minutes into the two references: medians over the last completed UTC days. A minute belongs to the day in
// which it starts, a return to the day of the later of its two minutes.
type daily struct {
	day              int64
	squares, returns float64
	spreads, spreadN float64

	// sigmas and spreadMeans are rings over the days that count; days is the number of such days so far.
	sigmas, spreadMeans [referenceDays]float64
	days                int

	// lengths is a ring over the number of returns of every day with returns, whether it counts or not; seen is how
	// many such days there have been.
	lengths [referenceDays]float64
	seen    int

	sigmaRef, spreadRef float64
}

func newDaily() daily {
	return daily{day: math.MinInt64, sigmaRef: math.NaN(), spreadRef: math.NaN()}
}

// push takes one grid minute; r1 and spread may be NaN. The references use only the days before that minute's day.
func (d *daily) push(start int64, r1, spread float64) {
	if day := floorDay(start); day != d.day {
		d.close()
		d.day = day
	}
	if !math.IsNaN(r1) {
		d.squares += float64(r1 * r1)
		d.returns++
	}
	if !math.IsNaN(spread) {
		d.spreads += spread
		d.spreadN++
	}
}

// close ends the current day. A day counts for both references or for neither.
func (d *daily) close() {
	if d.returns > 0 {
		d.lengths[d.seen%referenceDays] = d.returns
		d.seen++
	}
	if d.counts() {
		i := d.days % referenceDays
		d.sigmas[i] = math.Sqrt(d.squares / d.returns)
		d.spreadMeans[i] = d.spreads / d.spreadN // NaN for a day without a spread
		d.days++
		n := min(d.days, referenceDays)
		d.sigmaRef = max(sigmaFloor, median(d.sigmas, n))
		d.spreadRef = max(spreadFloor, median(d.spreadMeans, n))
	}
	d.squares, d.returns, d.spreads, d.spreadN = 0, 0, 0, 0
}

// counts reports whether the ending day is long enough to count.
func (d *daily) counts() bool {
	if d.returns >= minDayReturns {
		return true
	}
	n := min(d.seen, referenceDays)
	return n >= minSessionDays && d.returns >= minSessionReturns && d.returns >= sessionShare*median(d.lengths, n)
}

// short reports whether days were seen but none reached minDayReturns.
func (d *daily) short() bool {
	return d.seen > 0 && slices.Max(d.lengths[:min(d.seen, referenceDays)]) < minDayReturns
}

// median returns the median of the first n values, ignoring NaN; NaN if there are none.
func median(values [referenceDays]float64, n int) float64 {
	s := values[:n]
	slices.Sort(s) // NaN first
	for len(s) > 0 && math.IsNaN(s[0]) {
		s = s[1:]
	}
	if len(s) == 0 {
		return math.NaN()
	}
	m := len(s) / 2
	if len(s)%2 == 1 {
		return s[m]
	}
	return (s[m-1] + s[m]) / 2
}

// floorDay returns the UTC day of an instant, in whole days since 1970-01-01.
func floorDay(ms int64) int64 {
	day := ms / dayMS
	if ms%dayMS < 0 {
		day--
	}
	return day
}
