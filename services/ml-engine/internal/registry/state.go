package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/services/ml-engine/internal/monitor"
	"github.com/greenlight-ml/greenlight/services/ml-engine/internal/scoring"
)

const (
	stateName   = "active-model.json"
	stateSchema = "greenlight/active-model/v1"
	// maxState limits the file, in bytes. It needs less.
	maxState = 64 << 10
)

// state is the content of the file: the active model, and the one that RollbackModel returns to.
type state struct {
	Schema   string `json:"schema"`
	Active   saved  `json:"active"`
	Previous *saved `json:"previous,omitempty"`
}

// saved identifies a model.
type saved struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Digest  string `json:"digest"`
	// Loaded is when it was first activated. The order of these times distinguishes activations from rollbacks.
	Loaded time.Time `json:"load_time"`
}

func savedOf(l *scoring.Loaded) saved {
	return saved{Name: l.Manifest.Name, Version: l.Manifest.Version, Digest: l.Digest(), Loaded: l.At.UTC()}
}

// Memory saves the active and the previous model to the state folder. A goroutine writes, with retries until it succeeds, so
// that no swap waits for a disk. It is safe for concurrent use.
type Memory struct {
	path   string
	logger *slog.Logger

	wake chan struct{}
	stop chan struct{}
	done chan struct{}

	mu      sync.Mutex
	pending *write // not written yet
	failing bool
	// lost is the reason that the model from before the restart is not active; empty if it is.
	lost string
}

// write is a state to write. written is closed once it or a newer one is on disk, failed at the first failure.
type write struct {
	state           state
	written, failed chan struct{}
	tried           bool
}

// OpenMemory returns the memory in the folder, which this process owns; nil without a folder. The caller must call Stop.
func OpenMemory(dir string, logger *slog.Logger) *Memory {
	if dir == "" {
		return nil
	}
	m := &Memory{
		path: filepath.Join(dir, stateName), logger: logger,
		wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
	}
	go m.run()
	return m
}

// Restored has the models after a start.
type Restored struct {
	Active   scoring.Loaded
	Previous *scoring.Loaded
}

// Restore loads the active and the previous model from before a restart. The flag's model is used if the folder is empty, or
// if the active model no longer verifies, which [Memory.Trouble] reports.
func (m *Memory) Restore(models *model.Registry, watching *monitor.Monitor, flag string) (Restored, error) {
	load := func(ref string, at time.Time) (scoring.Loaded, error) {
		a, err := models.Load(ref)
		if err != nil {
			return scoring.Loaded{}, err
		}
		watch, err := watching.Watch(a)
		return scoring.Loaded{Artifact: a, Watch: watch, At: at}, err
	}
	again := func(s saved) (scoring.Loaded, error) {
		l, err := load(s.Name+"/"+s.Version, s.Loaded)
		if err == nil && l.Digest() != s.Digest {
			err = fmt.Errorf("model %s/%s has the digest %.12s, and %.12s was active", s.Name, s.Version, l.Digest(), s.Digest)
		}
		return l, err
	}
	first := func() (Restored, error) {
		l, err := load(flag, time.Now())
		return Restored{Active: l}, err
	}
	s, err := m.read()
	if err != nil || s == nil {
		if err != nil {
			return Restored{}, err
		}
		return first()
	}
	var r Restored
	r.Active, err = again(s.Active)
	if err != nil {
		m.lost = fmt.Sprintf("not %s, which was active before the restart: it does not verify", s.Active.Version)
		m.logger.Error("the model that was active before the restart does not verify: --model is served instead", "model", flag,
			"active", s.Active.Name+"/"+s.Active.Version, "digest", s.Active.Digest, "file", m.path, "error", err)
		if r, err = first(); err != nil {
			return r, err
		}
	} else {
		m.logger.Info("the activated model is served again after the restart; --model applies to the first start only", "model", s.Active.Version,
			"digest", s.Active.Digest, "flag", flag, "file", m.path)
		if e, err := models.Find(flag); err != nil || e.Name != s.Active.Name || e.Version != s.Active.Version {
			m.logger.Warn("--model differs from the model that is served: activate it, or remove the file to start with it",
				"flag", flag, "model", s.Active.Name+"/"+s.Active.Version, "file", m.path)
		}
	}
	if s.Previous == nil {
		return r, nil
	}
	previous, err := again(*s.Previous)
	switch {
	case err != nil:
		m.logger.Error("no model to roll back to: the previous one does not verify", "previous", s.Previous.Name+"/"+s.Previous.Version, "error", err)
	case !same(previous, r.Active):
		r.Previous = &previous
	}
	return r, nil
}

// read returns the saved state, nil if there is none. An unusable file is set aside.
func (m *Memory) read() (*state, error) {
	if m == nil {
		return nil, nil //nolint:nilnil // there is no state
	}
	raw, err := durable.ReadFile(m.path, maxState)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // there is no state
	}
	s := &state{}
	if err == nil {
		err = json.Unmarshal(raw, s)
	} else if !errors.Is(err, durable.ErrTooLarge) {
		return nil, err
	}
	if err == nil {
		err = s.validate()
	}
	if err == nil {
		return s, nil
	}
	aside, asideErr := durable.SetAside(m.path, time.Now())
	if asideErr != nil && !durable.Unsure(asideErr) {
		return nil, fmt.Errorf("%s: %w; and it cannot be set aside: %w", m.path, err, asideErr)
	}
	m.lost = stateName + " could not be read, so --model is served"
	m.logger.Error("the file with the active model cannot be read: --model is served", "error", err, "file", m.path, "set_aside_as", aside)
	return nil, nil //nolint:nilnil // it is set aside
}

func (s *state) validate() error {
	if s.Schema != stateSchema {
		return fmt.Errorf("schema %q: want %q", s.Schema, stateSchema)
	}
	models := []saved{s.Active}
	if s.Previous != nil {
		models = append(models, *s.Previous)
	}
	for _, m := range models {
		if err := errors.Join(model.CheckName("name", m.Name), model.CheckName("version", m.Version)); err != nil {
			return err
		}
	}
	return nil
}

// keep queues the state for writing and returns at once.
func (m *Memory) keep(active, previous *scoring.Loaded) *write {
	if m == nil {
		return nil
	}
	w := &write{state: state{Schema: stateSchema, Active: savedOf(active)}, written: make(chan struct{}), failed: make(chan struct{})}
	if previous != nil {
		p := savedOf(previous)
		w.state.Previous = &p
	}
	m.mu.Lock()
	if m.pending != nil {
		close(m.pending.written) // the newer one replaces it
	}
	m.pending, m.lost = w, ""
	m.mu.Unlock()
	select {
	case m.wake <- struct{}{}:
	default:
	}
	return w
}

const (
	// retryPeriod is the time between retries of a failed write.
	retryPeriod = time.Second
	// writeWait bounds how long the answer to a swap waits for the disk.
	writeWait = time.Second
)

// warning waits for the write, at most writeWait. It returns the reason that a restart may serve another model; empty if it
// serves this one.
func (m *Memory) warning(w *write) string {
	if m == nil {
		return "ml-engine has no --state-dir: after a restart it serves --model again, and there is no model to roll back to"
	}
	timer := time.NewTimer(writeWait)
	defer timer.Stop()
	select {
	case <-w.written:
		return ""
	case <-w.failed:
	case <-timer.C:
		m.mu.Lock()
		m.failing = m.failing || m.pending == w
		m.mu.Unlock()
	}
	return "the swap is in force, but not written to --state-dir yet: a restart may serve the previous model; the write is retried until it succeeds"
}

// run writes pending states.
func (m *Memory) run() {
	defer close(m.done)
	retry := time.NewTicker(retryPeriod)
	defer retry.Stop()
	for {
		select {
		case <-m.wake:
		case <-retry.C:
		case <-m.stop:
			m.flush()
			return
		}
		m.flush()
	}
}

// flush tries once to write the pending state.
func (m *Memory) flush() {
	m.mu.Lock()
	w := m.pending
	m.mu.Unlock()
	if w == nil {
		return
	}
	err := m.write(&w.state)
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case err != nil && !m.failing:
		m.logger.Error("the active model was not written: a restart may serve another one", "model", w.state.Active.Version, "file", m.path, "error", err)
	case err == nil && m.failing:
		m.logger.Info("the active model is written again", "model", w.state.Active.Version)
	}
	m.failing = err != nil
	switch {
	case err == nil && m.pending == w:
		m.pending = nil
		close(w.written)
	case err != nil && !w.tried:
		w.tried = true
		close(w.failed)
	}
}

func (m *Memory) write(s *state) error {
	raw, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(m.path, 0o644, func(f io.Writer) error {
		_, err := f.Write(append(raw, '\n'))
		return err
	})
}

// Trouble describes a current problem: the model from before the restart is not active, or the active one is not written.
// It is empty if there is none.
func (m *Memory) Trouble() string {
	if m == nil {
		return ""
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failing {
		return "the active model is not written"
	}
	return m.lost
}

// Stop writes the pending state and ends the goroutine.
func (m *Memory) Stop() {
	if m != nil {
		close(m.stop)
		<-m.done
	}
}
