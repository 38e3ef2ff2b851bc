package featurelog

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/durable"
)

// writer is the goroutine that owns the files. Its fields belong to it until done is closed.
type writer struct {
	l      *Logger
	create creator
	// spare swaps with the queue.
	spare []*Row
	parts map[partKey]*part
	// order holds the keys of parts in the order in which they were started.
	order []partKey
	seq   int
	// unsaved are the places of the unsaved rows of all parts.
	unsaved int
	// abandoned counts rows that were not written by the end.
	abandoned int
}

// creator creates or replaces a file, and returns it open and locked, or nil if it has failed. Tests inject faults
// here.
type creator func(path string, write func(w io.Writer, locked bool) error) (io.Closer, error)

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

// collect takes over the queue and sorts its rows into parts.
func (w *writer) collect() {
	l := w.l
	l.mu.Lock()
	rows := l.queue
	l.queue, l.taken = w.spare[:0], 0
	l.mu.Unlock()
	for i, r := range rows {
		rows[i] = nil
		if w.unsaved >= l.opts.Capacity { // the disk fails or is too slow
			w.drop(r)
			continue
		}
		p := w.part(r)
		p.rows = append(p.rows, r)
		w.unsaved += r.Schema.places()
	}
	w.spare = rows
}

// part returns the part for the row.
func (w *writer) part(r *Row) *part {
	key := partKey{day: dayOf(r.ArrivalTime), schema: r.Schema.Name, hash: r.Schema.Hash}
	p := w.parts[key]
	if p == nil {
		w.seq++
		p = newPart(w.l.opts.Dir, w.l.opts.Instance, w.seq, key, time.Now())
		p.places = r.Schema.places()
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

// flush saves the parts that have new rows, and drops those that are full or of another day.
func (w *writer) flush() {
	open := w.order[:0]
	today := dayOf(time.Now())
	for _, key := range w.order {
		p := w.parts[key]
		if p.unsaved() > 0 {
			w.save(p)
		}
		if p.unsaved() == 0 && (p.saved*p.places >= w.l.opts.PartRows || key.day != today) {
			for _, r := range p.rows {
				w.l.release(r)
			}
			p.unlock()
			delete(w.parts, key)
			continue
		}
		open = append(open, key)
	}
	w.order = open
}

func (w *writer) save(p *part) {
	l, n := w.l, p.unsaved()
	err := p.save(w.create)
	now := time.Now()
	if err == nil {
		w.unsaved -= n * p.places
		l.written.Add(uint64(n))
		l.pending.Add(^uint64(n - 1))
		l.lastWrite.Store(&now)
		return
	}
	l.writeErrors.Add(1)
	l.lastError.Store(&failure{err, now})
	if errors.Is(err, errEncode) { // it would fail forever and block what follows
		for _, r := range p.rows[p.saved:] {
			w.drop(r)
		}
		p.rows = p.rows[:p.saved]
		w.unsaved -= n * p.places
	}
}

// abandon gives up the rows that could not be written, and the files.
func (w *writer) abandon() {
	for _, key := range w.order {
		p := w.parts[key]
		p.unlock()
		for _, r := range p.rows[p.saved:] {
			w.drop(r)
			w.abandoned++
		}
	}
}

// createFile creates or replaces the file of a part, and its folder.
func createFile(path string, write func(w io.Writer, locked bool) error) (io.Closer, error) {
	if err := durable.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	file, err := durable.WriteLocked(path, 0o644, write)
	if file == nil {
		return nil, err
	}
	return file, err
}

// part is a growing file: the rows of one day and schema, of which the first saved rows are on disk.
type part struct {
	// places is how many rows of the usual width one of its rows counts as.
	places int
	path   string
	rows   []*Row
	saved  int
	// file is what is on disk, locked; nil before the first save.
	file io.Closer
}

// partKey identifies the rows that share a file. Two schemas with one name (after a change) do not share one.
type partKey struct{ day, schema, hash string }

// newPart starts a part. Its name belongs to this process alone.
func newPart(dir, instance string, seq int, key partKey, now time.Time) *part {
	name := fmt.Sprintf("%s%s-%s-%06d%s", partPrefix, now.UTC().Format("20060102T150405Z"), instance, seq, partSuffix)
	return &part{path: filepath.Join(dir, partition(key.day, key.schema), name)}
}

func (p *part) unsaved() int { return len(p.rows) - p.saved }

// save replaces the previous file with one that has all rows.
func (p *part) save(create creator) error {
	file, err := create(p.path, func(w io.Writer, locked bool) error { return encode(w, p.rows[0].Schema, p.rows, locked) })
	if file != nil {
		p.unlock() // the previous file, once nobody finds it
		p.file = file
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", p.path, err)
	}
	p.saved = len(p.rows)
	return nil
}

// unlock shows that the file will not be replaced.
func (p *part) unlock() {
	if p.file != nil {
		_ = p.file.Close() // it is synced
		p.file = nil
	}
}
