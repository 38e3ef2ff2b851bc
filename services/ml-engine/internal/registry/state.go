package registry

import (
	"context"
	"errors"
	"fmt"
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
)

// state is the content of the file: the active model, and the model to which RollbackModel returns.
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

// Memory saves the active and the previous model to the state folder. A goroutine writes, and retries until it succeeds, so
// that no swap waits for the disk. It is safe for concurrent use.
type Memory struct {
	file   durable.State[state]
	saver  *durable.Saver
	logger *slog.Logger

	mu      sync.Mutex
	pending *state // not written yet; nil if written
	// lost is why the model from before the restart is not active; empty if it is.
	lost string
}

// OpenMemory returns the memory in the folder, which this process owns; nil without a folder. The caller must call Stop.
func OpenMemory(dir string, logger *slog.Logger) *Memory {
	if dir == "" {
		return nil
	}
	m := &Memory{file: durable.State[state]{Path: filepath.Join(dir, stateName), Schema: stateSchema}, logger: logger}
	m.saver = durable.StartSaver(durable.SaverOptions{
		Save: m.save, Period: retryPeriod, Subject: "the active model is", Risk: "a restart may serve another one", Logger: logger,
	})
	return m
}

// Restored has the models after a start.
type Restored struct {
	Active   scoring.Loaded
	Previous *scoring.Loaded
}

// Restore loads the active and the previous model from before a restart. It uses the flag's model if the folder is empty, or if the
// active model no longer verifies, which [Memory.Trouble] reports. Before loading a model it calls fetch with its name and version,
// or with the flag, to copy it into the registry if it is missing.
func (m *Memory) Restore(models *model.Registry, watching *monitor.Monitor, flag string, fetch func(ref string) error) (Restored, error) {
	load := func(ref string, at time.Time) (scoring.Loaded, error) {
		away := fetch(ref)
		a, err := models.Load(ref)
		if err != nil {
			return scoring.Loaded{}, errors.Join(err, away)
		}
		watch, err := watching.Watch(a)
		return scoring.Loaded{Artifact: a, Watch: watch, At: at}, err
	}
	again := func(s saved) (scoring.Loaded, error) {
		l, err := load(s.Name+"/"+s.Version, s.Loaded)
		if err == nil && l.Digest() != s.Digest {
			err = fmt.Errorf("model %s/%s has the digest %.12s, but %.12s was active", s.Name, s.Version, l.Digest(), s.Digest)
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
			"active", s.Active.Name+"/"+s.Active.Version, "digest", s.Active.Digest, "file", m.file.Path, "error", err)
		if r, err = first(); err != nil {
			return r, err
		}
	} else {
		m.logger.Info("the activated model is served again after the restart; --model applies to the first start only", "model", s.Active.Version,
			"digest", s.Active.Digest, "flag", flag, "file", m.file.Path)
		if e, err := models.Find(flag); err != nil || e.Name != s.Active.Name || e.Version != s.Active.Version {
			m.logger.Warn("--model differs from the served model: activate it, or remove the file to start with it",
				"flag", flag, "model", s.Active.Name+"/"+s.Active.Version, "file", m.file.Path)
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
	s, err := m.file.Load((*state).validate)
	var unusable *durable.UnusableError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil //nolint:nilnil // there is no state
	case errors.As(err, &unusable):
		m.lost = stateName + " could not be read, so --model is served"
		m.logger.Error("the file with the active model cannot be read: --model is served", "error", unusable.Err, "file", m.file.Path,
			"set_aside_as", unusable.Aside)
		return nil, nil //nolint:nilnil // it was set aside
	}
	return s, err
}

func (s *state) validate() error {
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

// keep schedules a write of the models and returns immediately.
func (m *Memory) keep(active, previous *scoring.Loaded) {
	if m == nil {
		return
	}
	s := &state{Schema: stateSchema, Active: savedOf(active)}
	if previous != nil {
		p := savedOf(previous)
		s.Previous = &p
	}
	m.mu.Lock()
	m.pending, m.lost = s, ""
	m.mu.Unlock()
}

const (
	// retryPeriod is the time between retries of a failed write.
	retryPeriod = time.Second
	// writeWait bounds how long the answer to a swap waits for the disk.
	writeWait = time.Second
)

// write writes the scheduled state. It returns why a restart may serve another model; empty if it serves this one.
func (m *Memory) write() (warning string) {
	if m == nil {
		return "ml-engine has no --state-dir: after a restart it serves --model again, and there is no model to roll back to"
	}
	if m.saver.Save(writeWait) != nil {
		return "the swap is in force, but not yet written to --state-dir: a restart may serve the previous model; the write is retried until it succeeds"
	}
	return ""
}

// save writes the pending state.
func (m *Memory) save() error {
	m.mu.Lock()
	s := m.pending
	m.mu.Unlock()
	if s == nil {
		return nil
	}
	if err := m.file.Save(s); err != nil {
		return err
	}
	m.mu.Lock()
	if m.pending == s {
		m.pending = nil
	}
	m.mu.Unlock()
	return nil
}

// Trouble describes a current problem: the model from before the restart is not active, or the active one is not written.
// It is empty if there is none.
func (m *Memory) Trouble() string {
	if m == nil {
		return ""
	}
	if trouble := m.saver.Trouble(); trouble != "" {
		return trouble
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lost
}

// Stop writes the pending state, unless ctx ends first.
func (m *Memory) Stop(ctx context.Context) {
	if m != nil {
		_ = m.saver.Stop(ctx) // logged
	}
}
