// Package monitor watches the drift of what ml-engine scores: a ring of hourly counts per model, kept over restarts, and
// read as indices by DriftService and by metrics.
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
	// Dir is the folder where counts outlive a restart; empty is none. It belongs to one process.
	Dir string
	// EventClock counts a vector in the hour of its event time, where it has one, and takes the newest for the present: for
	// replays of past data. Otherwise the hour is that of its arrival, which no caller can get wrong.
	EventClock bool
	// MaxEventAhead is by how much the time of an event may be ahead of this machine's clock; 0 is no limit.
	MaxEventAhead time.Duration
	// Logger is required.
	Logger *slog.Logger
}

// maxWatches is how many models are watched or can go on from counts in memory, at about 1 MB each. The counts of others
// are in the folder, if there is one.
const maxWatches = 8

// savePeriod is how often counts are saved: what a crash can lose.
const savePeriod = time.Minute

// Monitor has a [Watch] per model.
type Monitor struct {
	opts  Options
	owner io.Closer // nil without a folder
	stop  chan struct{}
	// running are the saver, and what computes nulls.
	running sync.WaitGroup

	active      atomic.Pointer[Watch]
	writeErrors atomic.Uint64
	ignored     atomic.Uint64 // rows whose event had a time that cannot be
	failing     atomic.Bool   // the last save has

	mu      sync.Mutex
	stopped bool
	watches map[string]*Watch
	used    []string // keys of watches, the one used last at the end
}

// Open takes the folder and begins to save into it. The caller stops the monitor.
func Open(opts Options) (*Monitor, error) {
	m := &Monitor{opts: opts, stop: make(chan struct{}), watches: make(map[string]*Watch)}
	if opts.Dir == "" {
		opts.Logger.Info("drift is counted in memory alone: a restart begins anew", "flag", "--state-dir")
		return m, nil
	}
	owner, err := durable.Own(opts.Dir)
	if err != nil {
		return nil, err
	}
	m.owner = owner
	m.running.Go(m.run)
	return m, nil
}

// Watch returns what counts the vectors of the model: the same for the same model and reference, so that a model that
// comes back goes on where it was. Counts that were saved are read; a file that cannot be used is set aside. It is nil
// for a model without a reference, and fails when the reference is not of the model's features.
func (m *Monitor) Watch(a *model.Artifact) (*Watch, error) {
	if a.Reference == nil {
		m.opts.Logger.Warn("the model has no reference profile: its drift is not watched", "model", a.Manifest.Version)
		return nil, nil //nolint:nilnil // a model that is not watched has no watch, and a nil one counts nothing
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

// evict forgets the watch that was not used for longest, once there are too many. It is saved before; if that fails, it
// stays.
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
			m.opts.Logger.Warn("the counts of drift of a model that was replaced are forgotten: a state folder keeps them", "model", w.version, "flag", "--state-dir")
		} else if m.saveWatch(w) != nil {
			return
		}
		delete(m.watches, key)
		m.used = slices.Delete(m.used, i, i+1)
		return
	}
}

// Activate makes the watch, or none, the one that metrics and DriftService speak of.
func (m *Monitor) Activate(w *Watch) { m.active.Store(w) }

// Active is the watch of the model that scores; nil when it is not watched.
func (m *Monitor) Active() *Watch { return m.active.Load() }

func (m *Monitor) path(w *Watch) string { return filepath.Join(m.opts.Dir, "drift-"+w.key+".json") }

// maxState is more than the counts of a model have, in bytes.
const maxState = 64 << 20

// restore reads the counts of a watch, if there are any.
func (m *Monitor) restore(w *Watch) error {
	if m.owner == nil {
		return nil
	}
	path := m.path(w)
	raw, err := durable.ReadFile(path, maxState)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("drift state: %w", err)
	}
	ring, err := drift.RestoreRing(w.profile, w.owner, raw)
	if err != nil {
		aside, asideErr := durable.SetAside(path, time.Now())
		if asideErr != nil && !durable.Unsure(asideErr) {
			return fmt.Errorf("%s: %w; and it cannot be set aside: %w", path, err, asideErr)
		}
		m.opts.Logger.Error("the counts of drift cannot be used: they start at zero, and so does ml_psi_samples",
			"error", err, "file", path, "set_aside_as", aside)
		return nil
	}
	w.ring = ring
	if err := m.rewind(w, path); err != nil {
		return err
	}
	m.opts.Logger.Info("drift goes on from its counts", "file", path, "model", w.version)
	return nil
}

// rewind takes a ring back whose present is ahead of the clock, since an older version has believed an event of any time. The
// file is kept under another name. It is left alone where it may be the clock that is wrong: see [clock].
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
		log.Warn("the counts of drift end ahead of the clock: they are put right when the clock has moved on to its next hour")
		return nil
	}
	aside, err := durable.SetAside(path, now)
	if err != nil {
		return fmt.Errorf("%s: it ends ahead of the clock, and cannot be set aside: %w", path, err)
	}
	rows := w.ring.DropAfter(latest)
	w.saved = unsaved
	log.Warn("the counts of drift ended ahead of the clock: rows of hours to come are dropped", "rows", rows, "set_aside_as", aside)
	return nil
}

// unsaved is no number of rows, so that the counts are saved.
const unsaved = math.MaxUint64

// run saves every minute.
func (m *Monitor) run() {
	tick := time.NewTicker(savePeriod)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			_ = m.save() // has been logged and counted
		case <-m.stop:
			return
		}
	}
}

// save writes the counts of every watch that has counted since it was written. A failure is logged, counted, and tried
// again after savePeriod.
func (m *Monitor) save() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var errs []error
	for _, w := range m.watches {
		if err := m.saveWatch(w); err != nil {
			errs = append(errs, err)
		}
	}
	m.failing.Store(len(errs) > 0)
	return errors.Join(errs...)
}

// saveWatch writes the counts of a watch, unless they are written.
func (m *Monitor) saveWatch(w *Watch) error {
	counted := w.counted()
	if counted == w.saved {
		return nil
	}
	raw, err := w.view(time.Now()).State(w.owner)
	if err == nil {
		err = durable.WriteFile(m.path(w), 0o644, func(f io.Writer) error {
			_, err := f.Write(raw)
			return err
		})
	}
	if err != nil {
		m.writeErrors.Add(1)
		m.opts.Logger.Error("the counts of drift were not saved: a restart may continue with older ones", "model", w.version, "error", err)
		return err
	}
	w.saved = counted
	return nil
}

// Trouble says what is wrong with the folder at the moment; nothing when the counts are saved, or nowhere.
func (m *Monitor) Trouble() string {
	if m.failing.Load() {
		return "the counts of drift are not saved"
	}
	return ""
}

// Stop saves what was counted last and gives the folder up. It is called once.
func (m *Monitor) Stop(context.Context) error {
	m.mu.Lock()
	m.stopped = true
	close(m.stop)
	m.mu.Unlock()
	m.running.Wait()
	if m.owner == nil {
		return nil
	}
	return errors.Join(m.save(), m.owner.Close())
}
