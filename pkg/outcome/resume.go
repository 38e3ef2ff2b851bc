package outcome

import (
	"maps"
	"slices"
)

// Resume continues an earlier join with the same key from its records, in block order. j must be empty. The blocks of the
// records are closed.
func (j *Join) Resume(records []Record) {
	for i := range records {
		r := &records[i]
		for l, n := range r.Labels {
			j.totals[l] += n
		}
		j.lost += r.Lost
		j.through, j.closed = r.Through, max(j.closed, r.Block+1)
	}
}

// Idle reports whether no block is open.
func (j *Join) Idle() bool { return len(j.open) == 0 }

// End closes all blocks, so that [Join.Closed] returns the last records. Rows that still wait expire. Requests that belong to
// no block are counted in the last record. Without one they get a record at the join's time, or at now, in Unix
// milliseconds, if the join has no time.
func (j *Join) End(now int64) {
	for _, s := range j.symbols {
		for len(s.cells) > 0 {
			j.drop(s, Expired)
		}
	}
	for at := range j.minutes {
		j.expireMinute(at)
	}
	if len(j.open) == 0 && j.stray.Requests() > 0 {
		if j.clock > 0 {
			now = j.clock
		}
		b := &block{Record: Record{Key: j.key}}
		b.Block = max(floorDiv(now, j.width), j.closed)
		j.open[b.Block] = b
	}
	for _, n := range slices.Sorted(maps.Keys(j.open)) {
		j.emit(j.open[n])
		delete(j.open, n)
		j.closed = n + 1
	}
	j.last = nil
}
