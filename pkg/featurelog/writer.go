package featurelog

import (
	"errors"
	"time"
)

// writer is the goroutine that owns the files. Its fields are its own until done is closed.
type writer struct {
	l    *Logger
	disk disk
	// spare takes turns with the queue.
	spare []*Row
	parts map[partKey]*part
	// order is the keys of parts in the order of their beginning.
	order []partKey
	seq   int
	// unsaved is the sum over the parts.
	unsaved int
	// abandoned rows were not written by the end.
	abandoned int
}

func (w *writer) run() {
	defer close(w.l.done)
	tick := time.NewTicker(w.l.opts.Interval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-w.l.wake:
		case <-w.l.stop:
			w.collect()
			w.flush()
			w.abandon()
			return
		}
		w.collect()
		w.flush()
	}
}

// collect takes the queue over and sorts its rows into parts.
func (w *writer) collect() {
	l := w.l
	l.mu.Lock()
	rows := l.queue
	l.queue = w.spare[:0]
	l.mu.Unlock()
	for i, r := range rows {
		rows[i] = nil
		if w.unsaved >= l.opts.Capacity { // the disk fails, or this is more than it takes
			w.drop(r)
			continue
		}
		p := w.part(r)
		p.rows = append(p.rows, r)
		w.unsaved++
	}
	w.spare = rows
}

// part is the one that the row goes into.
func (w *writer) part(r *Row) *part {
	key := partKey{day: dayOf(r.ArrivalTime), schema: r.Schema.Name, hash: r.Schema.Hash}
	p := w.parts[key]
	if p == nil {
		w.seq++
		p = newPart(w.l.opts.Dir, w.l.opts.Instance, w.seq, key, time.Now())
		w.parts[key] = p
		w.order = append(w.order, key)
	}
	return p
}

func (w *writer) drop(r *Row) {
	w.l.pending.Add(^uint64(0))
	w.l.dropped.Add(1)
	w.l.release(r)
}

// flush saves the parts that have new rows, and lets go of those that are full or of another day.
func (w *writer) flush() {
	open := w.order[:0]
	today := dayOf(time.Now())
	for _, key := range w.order {
		p := w.parts[key]
		if p.unsaved() > 0 {
			w.save(p)
		}
		if p.unsaved() == 0 && (p.saved >= w.l.opts.PartRows || key.day != today) {
			for _, r := range p.rows {
				w.l.release(r)
			}
			delete(w.parts, key)
			continue
		}
		open = append(open, key)
	}
	w.order = open
}

func (w *writer) save(p *part) {
	l, n := w.l, p.unsaved()
	err := p.save(w.disk)
	now := time.Now()
	if err == nil {
		w.unsaved -= n
		l.written.Add(uint64(n))
		l.pending.Add(^uint64(n - 1))
		l.lastWrite.Store(&now)
		return
	}
	l.writeErrors.Add(1)
	l.lastError.Store(&failure{err, now})
	if errors.Is(err, errEncode) { // it would fail for ever, and hold up what comes after
		for _, r := range p.rows[p.saved:] {
			w.drop(r)
		}
		p.rows = p.rows[:p.saved]
		w.unsaved -= n
	}
}

// abandon gives up what could not be written.
func (w *writer) abandon() {
	for _, key := range w.order {
		p := w.parts[key]
		for _, r := range p.rows[p.saved:] {
			w.drop(r)
			w.abandoned++
		}
	}
}
