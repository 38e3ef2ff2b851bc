package featurelog

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/durable"
)

// The defaults of [Options].
const (
	DefaultInterval = 5 * time.Second
	DefaultCapacity = 65_536
	DefaultPartRows = 8_192
)

// Options are the options of [Open]. All but Dir have defaults for the zero value.
type Options struct {
	// Dir is the folder of the log. It is created if it does not exist.
	Dir string
	// Interval is the time between writes, and so how much a kill can lose. Default 5 s.
	Interval time.Duration
	// Capacity limits the rows waiting for the writer, and again the rows waiting for the disk. At about 400 bytes a
	// row, the log can hold twice this many in memory. A row of more than 64 features counts as several. Default 65,536.
	Capacity int
	// PartRows is how many rows a file gets before the next one starts. Until then every flush rewrites the file: see
	// the package comment. A flush of more rows makes a longer file. Default 8,192.
	PartRows int
	// Instance is part of the file names and separates processes that share a folder: letters, digits and _. It must be
	// new for every process. The default is 8 random hexadecimal digits.
	Instance string
	// Logger, if set, gets failed writes and lost rows.
	Logger *slog.Logger
}

// complete fills in defaults.
func (o *Options) complete() error {
	o.Interval, o.Capacity, o.PartRows = cmp.Or(o.Interval, DefaultInterval), cmp.Or(o.Capacity, DefaultCapacity), cmp.Or(o.PartRows, DefaultPartRows)
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	if o.Instance == "" {
		var b [4]byte
		_, _ = rand.Read(b[:]) // never fails
		o.Instance = hex.EncodeToString(b[:])
	}
	switch {
	case o.Dir == "":
		return errors.New("dir is missing")
	case o.Interval < 0:
		return fmt.Errorf("interval %v: expected more than 0", o.Interval)
	}
	return nil
}

// Logger writes rows. It is safe for concurrent use.
type Logger struct {
	opts Options
	wake chan struct{} // the queue is half full
	stop chan struct{}
	done chan struct{}
	pool sync.Pool
	// unwatch ends watch, which closes watched.
	unwatch func()
	watched chan struct{}

	mu     sync.Mutex
	queue  []*Row
	taken  int // places of the rows in queue
	closed bool

	written, dropped, invalid, pending, writeErrors atomic.Uint64
	lastWrite                                       atomic.Pointer[time.Time]
	lastError                                       atomic.Pointer[failure]

	w writer
}

type failure struct {
	err error
	at  time.Time
}

// Open removes partial files left by dead processes and starts the writer and the reports to Options.Logger. Close ends them.
func Open(opts Options) (*Logger, error) { return open(opts, createFile) }

func open(opts Options, create creator) (*Logger, error) {
	if err := opts.complete(); err != nil {
		return nil, fmt.Errorf("feature log: %w", err)
	}
	if err := durable.MkdirAll(opts.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("feature log: %w", err)
	}
	if err := sweep(opts.Dir); err != nil {
		return nil, err
	}
	l := &Logger{
		opts:  opts,
		wake:  make(chan struct{}, 1),
		stop:  make(chan struct{}),
		done:  make(chan struct{}),
		pool:  sync.Pool{New: func() any { return new(Row) }},
		queue: make([]*Row, 0, opts.Capacity),
	}
	l.w = writer{l: l, create: create, spare: make([]*Row, 0, opts.Capacity), parts: map[partKey]*part{}}
	quit := make(chan struct{})
	l.unwatch, l.watched = sync.OnceFunc(func() { close(quit) }), make(chan struct{})
	go l.w.run()
	go l.watch(quit)
	return l, nil
}

// watchPeriod is the time between two reports of watch.
const watchPeriod = 10 * time.Second

// watch logs failing and recovered writes and lost rows, until quit and once more then. It is not part of the writer, which a
// disk can block.
func (l *Logger) watch(quit <-chan struct{}) {
	defer close(l.watched)
	tick := time.NewTicker(watchPeriod)
	defer tick.Stop()
	var last Stats
	for ended := false; !ended; {
		select {
		case <-tick.C:
		case <-quit:
			ended = true
		}
		s, log := l.Stats(), l.opts.Logger
		switch {
		case s.Failing() && !last.Failing():
			log.Error("the feature log is not written: rows wait, and are dropped if there are too many", "error", s.LastError, "waiting", s.Pending)
		case !s.Failing() && last.Failing():
			log.Info("the feature log is written again", "waiting", s.Pending)
		}
		if lost := s.Lost() - last.Lost(); lost > 0 {
			log.Warn("rows of the feature log are lost", "rows", lost, "rows_lost_total", s.Lost())
		}
		last = s
	}
}

// Log takes a row; the caller may change the row and its features afterwards. It never waits for the disk. If the queue
// is full, the row is dropped and counted. It reports whether the row was taken.
func (l *Logger) Log(r Row) bool {
	if !r.fits() {
		l.invalid.Add(1)
		return false
	}
	own := l.pool.Get().(*Row) //nolint:forcetypeassert // the pool has no other
	features := own.Features[:0]
	features = append(features, r.Features...)
	*own = r
	own.Features = features
	if own.ArrivalTime.IsZero() {
		own.ArrivalTime = time.Now()
	}

	places, half := r.Schema.places(), false
	l.mu.Lock()
	taken := !l.closed && l.taken+places <= l.opts.Capacity
	if taken {
		half = l.taken < l.opts.Capacity/2 && l.taken+places >= l.opts.Capacity/2
		l.taken += places
		l.queue = append(l.queue, own)
		l.pending.Add(1) // inside the lock, before the writer can subtract it
	}
	l.mu.Unlock()

	switch {
	case !taken:
		l.dropped.Add(1)
		l.release(own)
	case half:
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
	return taken
}

// release clears a row, except for its buffer of features, and returns it to the pool.
func (l *Logger) release(r *Row) {
	*r = Row{Features: r.Features}
	l.pool.Put(r)
}

// Stats returns the counts.
func (l *Logger) Stats() Stats {
	s := Stats{
		Written: l.written.Load(), Dropped: l.dropped.Load(), Invalid: l.invalid.Load(), Pending: l.pending.Load(),
		WriteErrors: l.writeErrors.Load(),
	}
	if f := l.lastError.Load(); f != nil {
		s.LastError, s.LastErrorTime = f.err, f.at
	}
	if t := l.lastWrite.Load(); t != nil {
		s.LastWriteTime = *t
	}
	return s
}

// Close writes the pending rows and ends the writer. Later rows are dropped. It returns an error if rows are not on
// disk when ctx ends, or cannot be written; those that the disk refused then count as dropped.
func (l *Logger) Close(ctx context.Context) error {
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		close(l.stop)
	}
	l.mu.Unlock()
	defer func() {
		l.unwatch()
		<-l.watched
	}()
	select {
	case <-l.done:
		if n := l.w.abandoned; n > 0 {
			return fmt.Errorf("feature log: %d rows were not written: %w", n, l.Stats().LastError)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("feature log: %d rows are not written yet: %w", l.pending.Load(), ctx.Err())
	}
}

// Stats are counts since Open. Once Log and the writer are idle, the calls of Log equal Written + Dropped + Invalid +
// Pending.
type Stats struct {
	// Written rows are on disk and synced.
	Written uint64
	// Dropped rows arrived when Capacity was reached because the disk was too slow or failed, or after Close.
	Dropped uint64
	// Invalid rows have no schema, the wrong number of features, or more than 4 KiB of text.
	Invalid uint64
	// Pending rows wait to be written.
	Pending uint64
	// WriteErrors counts files that could not be written. Their rows stay pending.
	WriteErrors uint64
	// LastError is the latest write error, at LastErrorTime, or nil. LastWriteTime is when a file was last written; if
	// that is later, the problem is over.
	LastError                    error
	LastErrorTime, LastWriteTime time.Time
}

// Failing reports whether the last write failed.
func (s Stats) Failing() bool { return s.LastErrorTime.After(s.LastWriteTime) }

// Lost returns how many rows will never be written.
func (s Stats) Lost() uint64 { return s.Dropped + s.Invalid }
