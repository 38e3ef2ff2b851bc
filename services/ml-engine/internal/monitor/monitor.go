// Package monitor watches the drift of the rows that ml-engine scores. It keeps a ring of hourly counts per model across
// restarts, and DriftService and metrics read it as indices.
package monitor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/drift"
	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/model"
)

// Options configures a Monitor.
type Options struct {
	// Dir is the folder that keeps counts across restarts; empty keeps none. It belongs to one process.
	Dir string
	// EventClock counts a row in the hour of its event time, if it has one, and treats the newest hour as the present. It is
	// for replays of past data. Otherwise rows count in the hour of their arrival, which no caller can get wrong.
	EventClock bool
	// MaxEventAhead is how far an event time may be ahead of this machine's clock; 0 is no limit.
	MaxEventAhead time.Duration
	// Logger is required.
	Logger *slog.Logger
}

// maxWatches is how many models have counts in memory, at about 1 MB each. Other models' counts are in the folder, if there
// is one.
const maxWatches = 8

// savePeriod is how often counts are saved, and therefore how much a crash can lose.
const savePeriod = time.Minute

// Monitor has one [Watch] per model.
type Monitor struct {
	opts  Options
	owner io.Closer // nil without a folder, like saver
	saver *durable.Saver
	stop  chan struct{}
	// running are the goroutines that compute nulls.
	running sync.WaitGroup

	active      atomic.Pointer[Watch]
	writeErrors atomic.Uint64
	ignored     atomic.Uint64 // rows with an invalid event time

	mu      sync.Mutex
	stopped bool
	watches map[string]*Watch
	used    []string // keys of watches, least recently used first
}

// Open locks the folder and starts saving to it. The caller must call Stop.
func Open(opts Options) (*Monitor, error) {
	m := &Monitor{opts: opts, stop: make(chan struct{}), watches: make(map[string]*Watch)}
	if opts.Dir == "" {
		opts.Logger.Info("drift is counted in memory only: a restart resets the counts", "flag", "--state-dir")
		return m, nil
	}
	owner, err := durable.Own(opts.Dir)
	if err != nil {
		return nil, err
	}
	m.owner = owner
	m.saver = durable.StartSaver(durable.SaverOptions{
		Save: m.save, Period: savePeriod, Subject: "the drift counts are", Risk: "a restart may continue with older ones", Logger: opts.Logger,
	})
	return m, nil
}

// Watch returns the watch of the model. The same model and reference share a watch, so that a model that becomes active again
// continues its counts. Saved counts are restored; an unusable file is set aside. The watch is nil for a model without a reference.
// It returns an error if the reference does not have the model's features.
func (m *Monitor) Watch(a *model.Artifact) (*Watch, error) {
	if a.Reference == nil {
		m.opts.Logger.Warn("the model has no reference profile: its drift is not watched", "model", a.Manifest.Version)
		return nil, nil //nolint:nilnil // a nil watch counts nothing
	}
	key := keyOf(a)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.used = append(slices.DeleteFunc(m.used, func(k string) bool { return k == key }), key)
	if before, ok := m.watches[key]; ok {
		return before, nil
	}
	w, err := newWatch(a, m.opts)
	if err != nil {
		return nil, fmt.Errorf("model %s: %s: %w", a.Manifest.Version, model.ReferenceFile, err)
	}
	w.clock.ignored = &m.ignored
	if err := m.restore(w); err != nil {
		return nil, err
	}
	m.watches[key] = w
	m.evict()
	if !m.stopped {
		m.running.Go(func() { w.prepare(m.stop) })
	}
	return w, nil
}

// evict removes the least recently used watch if there are too many. It saves the watch first. If that fails, it keeps the watch,
// and the saver retries.
func (m *Monitor) evict() {
	if len(m.watches) <= maxWatches {
		return
	}
	for i, key := range m.used {
		w := m.watches[key]
		if w == nil || w == m.Active() {
			continue
		}
		if m.owner == nil {
			m.opts.Logger.Warn("the drift counts of a replaced model are dropped from memory: a state folder would keep them", "model", w.version, "flag", "--state-dir")
		} else if m.saveWatch(w) != nil {
			return
		}
		delete(m.watches, key)
		close(w.evicted)
		m.used = slices.Delete(m.used, i, i+1)
		return
	}
}

// Activate makes w, which may be nil, the watch for metrics and DriftService.
func (m *Monitor) Activate(w *Watch) { m.active.Store(w) }

// Active returns the watch of the active model; nil if it is not watched.
func (m *Monitor) Active() *Watch { return m.active.Load() }

func (m *Monitor) path(w *Watch) string { return filepath.Join(m.opts.Dir, "drift-"+w.key+".json") }

// maxState limits a file of counts, in bytes. A model's counts need less.
const maxState = 64 << 20

// restore reads the saved counts of a watch, if there are any.
func (m *Monitor) restore(w *Watch) error {
	if m.owner == nil {
		return nil
	}
	path := m.path(w)
	var ring *drift.Ring
	err := durable.Restore(path, maxState, func(raw []byte) (err error) {
		ring, err = drift.RestoreRing(w.profile, w.owner, raw)
		return err
	})
	var unusable *durable.UnusableError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.As(err, &unusable):
		m.opts.Logger.Error("the saved drift counts cannot be used: counts and ml_psi_samples start at zero",
			"error", unusable.Err, "file", path, "set_aside_as", unusable.Aside)
		return nil
	case err != nil:
		return fmt.Errorf("drift state: %w", err)
	}
	w.ring = ring
	_, hours, _ := ring.Window(ring.Present(), drift.RingHours)
	for _, hour := range hours {
		w.seen |= bitOf(hour / 24)
	}
	if err := m.rewind(w, path); err != nil {
		return err
	}
	m.opts.Logger.Info("drift continues from the saved counts", "file", path, "model", w.version)
	return nil
}

// rewind moves back a ring whose present is ahead of the clock, because an older version accepted any event time. It keeps the
// file under another name. If the clock itself may be wrong, it leaves the ring to [clock].
func (m *Monitor) rewind(w *Watch, path string) error {
	now := time.Now()
	latest := hourOf(now.Add(m.opts.MaxEventAhead))
	if w.ring.Present() <= latest || m.opts.MaxEventAhead == 0 {
		return nil
	}
	log := m.opts.Logger.With("file", path, "model", w.version, "ends", time.Unix(w.ring.Present()*3600, 0).UTC(), "clock", now.UTC())
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("drift state: %w", err)
	}
	if !m.opts.EventClock || info.ModTime().After(now) {
		log.Warn("the drift counts end ahead of the clock: they are corrected in the clock's next hour")
		return nil
	}
	aside, err := durable.SetAside(path, errors.New("the drift counts end ahead of the clock"))
	if err != nil {
		return err
	}
	rows := w.ring.DropAfter(latest)
	w.saved = unsaved
	log.Warn("the drift counts ended ahead of the clock: rows of future hours are dropped", "rows", rows, "set_aside_as", aside)
	return nil
}

// unsaved is a number of rows that never occurs, so that the counts are saved.
const unsaved = math.MaxUint64

// save writes the counts of every watch that has changed.
func (m *Monitor) save() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var errs []error
	for _, w := range m.watches {
		if err := m.saveWatch(w); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// saveWatch writes the counts of a watch if they have changed.
func (m *Monitor) saveWatch(w *Watch) error {
	counted := w.counted()
	if counted == w.saved {
		return nil
	}
	raw, err := w.view(time.Now()).State(w.owner)
	if err == nil {
		err = durable.WriteFile(m.path(w), raw, 0o644)
	}
	if err != nil {
		m.writeErrors.Add(1)
		return fmt.Errorf("model %s: %w", w.version, err)
	}
	w.saved = counted
	return nil
}

// Trouble describes a failing folder. It is empty if the counts are saved, or if there is no folder.
func (m *Monitor) Trouble() string { return m.saver.Trouble() }

// Stop saves the latest counts and unlocks the folder. It must be called only once.
func (m *Monitor) Stop(ctx context.Context) error {
	m.mu.Lock()
	m.stopped = true
	close(m.stop)
	m.mu.Unlock()
	m.running.Wait()
	if m.owner == nil {
		return nil
	}
	return errors.Join(m.saver.Stop(ctx), m.owner.Close())
}
