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
	// maxState is more than the file has, in bytes.
	maxState = 64 << 10
)

// state is the content of the file: which model scores, and which one RollbackModel returns to.
type state struct {
	Schema   string `json:"schema"`
	Active   saved  `json:"active"`
	Previous *saved `json:"previous,omitempty"`
}

// saved names a model that was loaded.
type saved struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Digest  string `json:"digest"`
	// Loaded is when it was activated first. Rollbacks are told from activations by the order of these times.
	Loaded time.Time `json:"load_time"`
}

func savedOf(l *scoring.Loaded) saved {
	return saved{Name: l.Manifest.Name, Version: l.Manifest.Version, Digest: l.Digest(), Loaded: l.At.UTC()}
}

// Memory keeps in the state folder which model is active, and which one was before. What is in force is written by a
// goroutine, again and again until it succeeds, so that no swap waits for a disk. It is safe for concurrent use.
type Memory struct {
	path   string
	logger *slog.Logger

	wake chan struct{}
	stop chan struct{}
	done chan struct{}

	mu      sync.Mutex
	pending *write // what is not written yet
	failing bool
	// lost is why the model that was active before the restart does not serve; empty when it does.
	lost string
}

// write is a state to write. written is closed when it, or a newer one, is on disk; failed at the first failure.
type write struct {
	state           state
	written, failed chan struct{}
	tried           bool
}

// OpenMemory returns the memory in the folder, which this process owns; nil without a folder. The caller stops it.
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

// Restored is what scores after a start.
type Restored struct {
	Active   scoring.Loaded
	Previous *scoring.Loaded
}

// Restore loads the models that were active before a restart. The flag's model is the first choice of an empty folder only;
// it also serves when the one that was active does not verify any more, which [Memory.Trouble] reports.
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
		m.logger.Error("the model that was active before the restart is not served: --model serves instead", "model", flag,
			"active", s.Active.Name+"/"+s.Active.Version, "digest", s.Active.Digest, "file", m.path, "error", err)
		if r, err = first(); err != nil {
			return r, err
		}
	} else {
		m.logger.Info("the model that was activated serves again after the restart; --model is for the first start", "model", s.Active.Version,
			"digest", s.Active.Digest, "flag", flag, "file", m.path)
		if e, err := models.Find(flag); err != nil || e.Name != s.Active.Name || e.Version != s.Active.Version {
			m.logger.Warn("--model names another model than the one that serves: activate it, or remove the file to start with it",
				"flag", flag, "model", s.Active.Name+"/"+s.Active.Version, "file", m.path)
		}
	}
	if s.Previous == nil {
		return r, nil
	}
	previous, err := again(*s.Previous)
	switch {
	case err != nil:
		m.logger.Error("there is no model to roll back to: the previous one does not verify", "previous", s.Previous.Name+"/"+s.Previous.Version, "error", err)
	case !same(previous, r.Active):
		r.Previous = &previous
	}
	return r, nil
}

// read returns what was saved; nil when nothing was. A file that cannot be used is set aside.
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
	m.lost = stateName + " could not be read, so --model serves"
	m.logger.Error("which model was active before the restart cannot be read: --model serves", "error", err, "file", m.path, "set_aside_as", aside)
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

// keep begins to write the state, and returns it. It does not wait.
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
		close(m.pending.written) // the newer one takes its place
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
	// retryPeriod is how often a state is written that could not be.
	retryPeriod = time.Second
	// writeWait bounds how long the answer to a swap waits for the disk.
	writeWait = time.Second
)

// warning waits for the write for a bounded time, and returns why a restart may serve another model; empty when it serves
// this one.
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
	return "the swap is in force, but not written to --state-dir yet: a restart may serve the model before; it is tried again until it succeeds"
}

// run writes what is pending.
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

// flush tries once to write what is pending.
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

// Trouble says what is wrong at the moment: the model that was active does not serve, or the one that does is not written.
// It is empty when neither is the case.
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

// Stop writes what is pending and ends the goroutine.
func (m *Memory) Stop() {
	if m != nil {
		close(m.stop)
		<-m.done
	}
}
