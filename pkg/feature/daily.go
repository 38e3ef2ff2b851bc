package feature

import (
	"math"
	"slices"
)

// Daily references: sigma_ref and spread_ref are what is normal for the instrument, learned from whole days.
const (
	// referenceDays is how many completed days the references look back over, at most.
	referenceDays = 7
	// minDayReturns is how many returns a day needs to count as one, whatever the other days are like.
	minDayReturns = 300
	// A market that trades less than that a day is known by its days: once minSessionDays of the last referenceDays with
	// returns have been seen, a day counts that has minSessionReturns and sessionShare of their median.
	minSessionDays, minSessionReturns, sessionShare = 3, 60, 0.5
	sigmaFloor                                      = 0.05
	spreadFloor                                     = 0.01
	dayMS                                           = 24 * 60 * 60 * 1000
)

// daily turns minutes into the two references: medians over the last completed UTC days. A minute belongs to the day
// in which it starts; its return to the day of the later of its two minutes.
type daily struct {
	day              int64
	squares, returns float64
	spreads, spreadN float64

	// sigmas and spreadMeans are rings over the counted days; days counts them all.
	sigmas, spreadMeans [referenceDays]float64
	days                int

	// lengths is a ring over the returns of all days that have any, counted or not; seen counts those days.
	lengths [referenceDays]float64
	seen    int

	sigmaRef, spreadRef float64
}

func newDaily() daily {
	return daily{day: math.MinInt64, sigmaRef: math.NaN(), spreadRef: math.NaN()}
}

// push takes one grid minute; r1 and spread may be NaN. The references are those of the days before the minute's.
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

// close ends the present day. A day counts for both references or for neither.
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

// counts reports whether the day that ends is long enough to count.
func (d *daily) counts() bool {
	if d.returns >= minDayReturns {
		return true
	}
	n := min(d.seen, referenceDays)
	return n >= minSessionDays && d.returns >= minSessionReturns && d.returns >= sessionShare*median(d.lengths, n)
}

// short reports whether days were seen, and none that counts whatever the others are like.
func (d *daily) short() bool {
	return d.seen > 0 && slices.Max(d.lengths[:min(d.seen, referenceDays)]) < minDayReturns
}

// median is that of the first n values less the NaN among them; NaN without any.
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

// floorDay is the UTC day of an instant: whole days since 1970-01-01.
func floorDay(ms int64) int64 {
	day := ms / dayMS
	if ms%dayMS < 0 {
		day--
	}
	return day
}
