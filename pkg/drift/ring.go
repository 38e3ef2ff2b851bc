package drift

import (
	"fmt"
	"slices"
)

// RingHours is how far back a [Ring] reaches: 28 days.
const RingHours = 28 * 24

// Ring counts vectors by the hour over the last [RingHours] hours, so that any window of them can be read at any time.
// Hours are whole hours since 1970-01-01 UTC. It reads no clock: callers pass the hours. It is not safe for concurrent
// use.
//
// Whatever the clock does:
//   - no row lies in an hour after the present one;
//   - a row is counted in exactly one hour, until the hour one ring later has a row. A clock that runs ahead and
//     comes back therefore costs at most the oldest hours;
//   - a window has exactly the rows of its hours, and at most one day per 24 hours;
//   - the totals include every row.
type Ring struct {
	profile *Profile
	// present is the newest hour; while began is false, nothing has been observed and no hour was passed.
	present int64
	began   bool
	// behind is true while the clock reports an hour before the present one; first is when that began.
	behind bool
	since  int64
	slots  [RingHours]slot
	// totals are all rows ever observed, by bin, since the ring was created: they are not restored.
	totals []uint64
}

// slot holds the rows of one hour, if rows is not 0.
type slot struct {
	hour         int64
	rows, inputs uint64
	bins         []uint64
	mark         uint8
}

// NewRing returns an empty ring.
func NewRing(p *Profile) *Ring {
	width := p.offsets[len(p.Features)]
	r := &Ring{profile: p, totals: make([]uint64, width)}
	bins := make([]uint64, RingHours*width)
	for i := range r.slots {
		r.slots[i].bins = bins[i*width : (i+1)*width : (i+1)*width]
	}
	return r
}

// Profile returns the profile by which rows are counted.
func (r *Ring) Profile() *Profile { return r.profile }

// Present returns the newest accepted hour, 0 before the first. [Ring.Window] ends with it, and vectors without a time
// count in it.
func (r *Ring) Present() int64 { return r.present }

// Tick tells the ring the hour of the clock. A clock that advances normally is accepted immediately. One that goes back
// is accepted only once it reaches its next hour: usually it is only briefly wrong, as on a machine that boots in 1970.
// Until then the present stays. Once it is accepted, the earlier time was wrong. Rows in hours that now lie ahead were
// still observed, so they move to the present hour.
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

// Retreat makes the hour the present. Rows of later hours move to it.
func (r *Ring) Retreat(hour int64) {
	r.retreat(hour)
	r.present, r.behind = hour, false
}

// retreat moves the rows after the hour to it.
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

// Observe counts one vector in the hour: see [Counts.Observe]. An hour after the present one becomes the present. An
// hour beyond the ring's reach counts only in the totals. It does not allocate. It panics if x has another length.
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

// Mark marks the hour of a row that was just observed; an hour keeps its largest mark. The caller defines what marks
// mean.
func (r *Ring) Mark(hour int64, mark uint8) {
	if s := r.place(hour); mark > 0 && s.hour == hour && s.rows > 0 {
		s.mark = max(s.mark, mark)
	}
}

// MarkOf returns the largest mark of the given number of hours up to and including end; 0 without one.
func (r *Ring) MarkOf(end int64, hours int) (mark uint8) {
	for hour := end - int64(hours) + 1; hour <= end; hour++ {
		if s := r.place(hour); s.hour == hour && s.rows > 0 {
			mark = max(mark, s.mark)
		}
	}
	return mark
}

// DropAfter drops the rows after the given hour, which no clock can have reported, and returns how many there were. The
// newest remaining hour becomes the present.
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

// slot returns the slot of an hour that is within the ring and not after the present; an older hour is cleared from it.
func (r *Ring) slot(hour int64) *slot {
	s := r.place(hour)
	if s.hour != hour {
		s.clear(hour)
	}
	return s
}

// place returns the slot of the hour, which may hold another hour whole rings away.
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

// Window returns what was counted in the given number of hours, 1 to [RingHours], up to and including end. Its days are
// blocks of 24 hours counted back from end, and the newest is day 0; 168 hours are thus 7 days. scored and inputs are
// the hours with a row, and with raw inputs, ascending.
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

// dayBefore returns the block of 24 hours, counted back from end, that contains the hour: 0, -1, -2, ...
func dayBefore(end, hour int64) int { return -int((end - hour) / 24) }

// DaysBefore returns the blocks of 24 hours, counted back from end, that contain the hours. With it, replicas that
// counted the same hours agree about days: see [Ring.Window] and [CountsOf]. Hours after end are left out.
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

// Totals returns all rows ever observed, in the bins of feature i. Like a counter they start at 0 with the ring, even a
// restored one. The slice is the ring's own memory.
func (r *Ring) Totals(i int) []uint64 {
	return r.totals[r.profile.offsets[i]:r.profile.offsets[i+1]]
}

// CopyTo copies the hours to an empty ring of the same profile. The totals are not copied. It panics if the profiles
// differ.
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
