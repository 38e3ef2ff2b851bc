package drift

import (
	"fmt"
	"slices"
)

// RingHours is how far back a [Ring] reaches: 28 days.
const RingHours = 28 * 24

// Ring counts vectors by the hour, over the last [RingHours] hours, so that any window of them can be read at any time.
// Hours are whole hours since 1970-01-01 UTC. It reads no clock: the hours are given. It is not safe for concurrent use.
//
// It holds whatever the clock does:
//   - no row lies in an hour after the present one;
//   - a row is counted in exactly one hour, until the hour a whole ring later has a row of its own, so that a clock which
//     runs ahead, and comes back, costs at most the oldest hours;
//   - a window has the rows of its hours and no others, and at most one day per 24 hours;
//   - the totals have every row.
type Ring struct {
	profile *Profile
	// present is the newest hour there is; nothing has been observed or told while began is false.
	present int64
	began   bool
	// behind is true while the clock says an hour before the present one, and has said since first.
	behind bool
	since  int64
	slots  [RingHours]slot
	// totals are all rows ever observed, by bin, as long as the ring has existed: they are not restored.
	totals []uint64
}

// slot is the rows of one hour, if its rows are not 0.
type slot struct {
	hour         int64
	rows, inputs uint64
	bins         []uint64
	mark         uint8
}

// NewRing is a ring without rows.
func NewRing(p *Profile) *Ring {
	width := p.offsets[len(p.Features)]
	r := &Ring{profile: p, totals: make([]uint64, width)}
	bins := make([]uint64, RingHours*width)
	for i := range r.slots {
		r.slots[i].bins = bins[i*width : (i+1)*width : (i+1)*width]
	}
	return r
}

// Profile is what the rows are counted by.
func (r *Ring) Profile() *Profile { return r.profile }

// Present is the newest hour that is believed, 0 before the first: what [Ring.Window] ends with, and where a vector counts
// that has no time of its own.
func (r *Ring) Present() int64 { return r.present }

// Tick tells the hour of the clock. Time that goes on costs nothing. A clock that goes back is not believed until it has
// moved on to its next hour: most often it is wrong itself, and comes back, as that of a machine does which boots in 1970.
// Until then the present stays. Once it is believed, it is the time before that was wrong: rows of hours that now lie
// ahead were observed by now, all the same, and are moved to the present hour.
func (r *Ring) Tick(hour int64) {
	switch {
	case !r.began || hour >= r.present:
		r.present, r.began, r.behind = hour, true, false
	case !r.behind || hour < r.since:
		r.behind, r.since = true, hour
	case hour > r.since:
		r.Retreat(hour)
	}
}

// Retreat makes the hour the present: rows of later hours are moved to it, since none of them is later than it.
func (r *Ring) Retreat(hour int64) {
	r.retreat(hour)
	r.present, r.behind = hour, false
}

// retreat moves the rows that lie after the hour to it.
func (r *Ring) retreat(hour int64) {
	ahead := make([]slot, 0, 4)
	for i := range r.slots {
		if s := &r.slots[i]; s.rows > 0 && s.hour > hour {
			moved := *s
			moved.bins = slices.Clone(s.bins)
			ahead = append(ahead, moved)
			s.clear(0)
		}
	}
	to := r.slot(hour)
	for _, s := range ahead {
		to.rows += s.rows
		to.inputs += s.inputs
		to.mark = max(to.mark, s.mark)
		for b, n := range s.bins {
			to.bins[b] += n
		}
	}
}

// Observe counts one vector of the hour: see [Counts.Observe]. An hour after the present one becomes the present; one that
// the ring does not reach is counted in the totals alone. It allocates nothing. It panics when x has another length.
func (r *Ring) Observe(hour int64, x []float64) {
	features := r.profile.Features
	if len(x) != len(features) && len(x) != r.profile.scored {
		panic(fmt.Sprintf("drift: vector of %d values for %d features, %d of them scored", len(x), len(features), r.profile.scored))
	}
	if !r.began || hour > r.present {
		r.present, r.began = hour, true
	}
	s := &forgotten
	if hour > r.present-RingHours {
		s = r.slot(hour)
		s.rows++
		if len(x) > r.profile.scored {
			s.inputs++
		}
	}
	at := 0
	for i, v := range x {
		f := &features[i]
		bin := at + f.search.bin(v)
		r.totals[bin]++
		if len(s.bins) > 0 {
			s.bins[bin]++
		}
		at += len(f.Shares)
	}
}

// Mark gives the hour of a row that was just observed a mark, of which an hour keeps the largest. What marks mean is the
// caller's.
func (r *Ring) Mark(hour int64, mark uint8) {
	if s := r.place(hour); mark > 0 && s.hour == hour && s.rows > 0 {
		s.mark = max(s.mark, mark)
	}
}

// MarkOf returns the largest mark of the given number of hours up to and with the hour end; 0 without one.
func (r *Ring) MarkOf(end int64, hours int) (mark uint8) {
	for hour := end - int64(hours) + 1; hour <= end; hour++ {
		if s := r.place(hour); s.hour == hour && s.rows > 0 {
			mark = max(mark, s.mark)
		}
	}
	return mark
}

// DropAfter drops the rows of the hours after the given one, which no clock can have said, and returns how many they were.
// The present is the newest hour that is left.
func (r *Ring) DropAfter(hour int64) (rows uint64) {
	newest := int64(-1)
	for i := range r.slots {
		switch s := &r.slots[i]; {
		case s.rows == 0:
		case s.hour > hour:
			rows += s.rows
			s.clear(0)
		default:
			newest = max(newest, s.hour)
		}
	}
	if r.present > hour {
		r.present, r.began, r.behind = max(newest, 0), newest >= 0, false
	}
	return rows
}

// forgotten takes the rows that are too old; it has no bins and is never written.
var forgotten slot

// slot is that of the hour, which is not after the present one and which the ring reaches, emptied of an older one.
func (r *Ring) slot(hour int64) *slot {
	s := r.place(hour)
	if s.hour != hour {
		s.clear(hour)
	}
	return s
}

// place is where the rows of the hour are, unless there are those of another one, whole rings away.
func (r *Ring) place(hour int64) *slot {
	i := hour % RingHours
	if i < 0 {
		i += RingHours
	}
	return &r.slots[i]
}

func (s *slot) clear(hour int64) {
	s.hour, s.rows, s.inputs, s.mark = hour, 0, 0, 0
	clear(s.bins)
}

// Window is what was counted in the given number of hours, 1 to [RingHours], up to and with the hour end. Its days are
// blocks of 24 hours counted back from end, the newest is day 0, so that 7 days of hours are 7 days. The hours are those
// that have a row, and those that have one with raw inputs, ascending.
func (r *Ring) Window(end int64, hours int) (c *Counts, scored, inputs []int64) {
	c = NewCounts(r.profile)
	for hour := end - int64(hours) + 1; hour <= end; hour++ {
		s := r.place(hour)
		if s.hour != hour || s.rows == 0 {
			continue
		}
		day := dayBefore(end, hour)
		c.scored.add(day, s.rows)
		scored = append(scored, hour)
		if s.inputs > 0 {
			c.inputs.add(day, s.inputs)
			inputs = append(inputs, hour)
		}
		for b, n := range s.bins {
			c.bins[b] += n
		}
	}
	return c, scored, inputs
}

// dayBefore is the block of 24 hours, counted back from the hour end, that the hour is in: 0, -1, -2, ...
func dayBefore(end, hour int64) int { return -int((end - hour) / 24) }

// DaysBefore are the blocks of 24 hours, counted back from the hour end, that the hours are in, which is how replicas that
// have counted the same hours agree about days: see [Ring.Window] and [CountsOf]. Hours after end are left out.
func DaysBefore(end int64, hours []int64) []int {
	seen := make(map[int]bool)
	var days []int
	for _, h := range hours {
		if d := dayBefore(end, h); h <= end && !seen[d] {
			seen[d] = true
			days = append(days, d)
		}
	}
	return days
}

// Totals are all rows that were ever observed, in the bins of feature i. They begin at 0 with the ring, also with one that
// was restored, as a counter does, and are the ring's own memory.
func (r *Ring) Totals(i int) []uint64 {
	return r.totals[r.profile.offsets[i]:r.profile.offsets[i+1]]
}

// CopyTo makes an empty ring of the same profile one with the same hours. The totals are not copied. It panics when the
// profile is another.
func (r *Ring) CopyTo(empty *Ring) {
	if r.profile != empty.profile {
		panic("drift: " + ErrProfile.Error())
	}
	empty.present, empty.began, empty.behind, empty.since = r.present, r.began, r.behind, r.since
	for i := range r.slots {
		if s, to := &r.slots[i], &empty.slots[i]; s.rows > 0 {
			to.hour, to.rows, to.inputs, to.mark = s.hour, s.rows, s.inputs, s.mark
			copy(to.bins, s.bins)
		}
	}
}
