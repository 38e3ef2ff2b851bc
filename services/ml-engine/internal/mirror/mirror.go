// Package mirror copies the models of a repository in an OCI registry into a models folder, the cache. ml-engine reads only the
// cache: whatever the registry does, cached models stay, and serving does not wait for it.
package mirror

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/oci"
	"github.com/greenlight-ml/greenlight/pkg/text"
)

const (
	// firstTime limits how long a start waits for the registry if the cache does not have the model to serve.
	// The transfer has a separate limit.
	firstTime = time.Minute
	// maxBackoff limits the time between two attempts after failures.
	maxBackoff = 15 * time.Minute
	// maxBytes limits the total size of a repository's models in the cache, 8 GB.
	maxBytes = 8 << 30
	// maxProblem limits an error of the registry in the log and in /readyz, in bytes.
	maxProblem = 300
)

var errFull = errors.New("the models of the repository have 8 GB, the limit of the cache")

// Source is a repository of models: [oci.Repository].
type Source interface {
	// Tags returns the tags. Those that are valid versions name models.
	Tags(ctx context.Context) ([]string, error)
	// Resolve returns the digest of the artifact that a tag names.
	Resolve(ctx context.Context, tag string) (string, error)
	// Pull adds the model that a digest names to the models folder.
	Pull(ctx context.Context, digest string, into *model.Registry, progress func(done, total int)) (oci.Moved, error)
}

// Options configure a mirror.
type Options struct {
	// Name names the repository in messages.
	Name   string
	Source Source
	// Cache is the models folder. Only models that it can load are added, including their signatures if it requires them.
	Cache *model.Registry
	// Period is the time between two polls of the tags.
	Period time.Duration
	Logger *slog.Logger
}

// Mirror copies new tags into the cache. It never asks for a copied tag again, because models never change. A nil mirror has
// nothing to copy.
type Mirror struct {
	Options

	tags    map[string]*tag // by name; only the running goroutine uses it
	bytes   int64           // in the cache
	counted map[string]bool // digests of the artifacts in bytes that were copied since the start
	stop    context.CancelFunc
	done    chan struct{}

	mu sync.Mutex
	// away is why the repository cannot be read, and refused has why tags were not copied; empty if there is no problem.
	away    string
	refused map[string]string
	// success is when the repository was last read. unread and uncopied count failed attempts to read it and to copy a model.
	success          time.Time
	unread, uncopied int
}

// tag is the known state of a tag.
type tag struct {
	copied bool
	// digest is what the tag named at the last failed attempt, empty if unknown. failures counts those attempts; the next one
	// is not before next.
	digest   string
	failures int
	next     time.Time
	// unanswered is the error if the registry did not resolve the tag.
	unanswered error
}

// New returns a mirror. It copies nothing before Start.
func New(opts Options) *Mirror {
	return &Mirror{Options: opts, tags: map[string]*tag{}, counted: map[string]bool{}, refused: map[string]string{}, done: make(chan struct{})}
}

// First copies the model that ref names, unless the cache has it and it verifies. The model's tag is its version.
func (m *Mirror) First(ctx context.Context, ref string) error {
	if m == nil {
		return nil
	}
	_, reason := m.Cache.Load(ref)
	if reason == nil {
		return nil
	}
	_, version, ok := strings.Cut(ref, "/")
	if !ok {
		version = ref
	}
	m.Logger.Info("the cache cannot serve the model yet: pulling it", "model", ref, "from", m.Name, "reason", reason)
	asking, cancel := context.WithTimeout(ctx, firstTime)
	digest, err := m.Source.Resolve(asking, version)
	cancel()
	if err == nil {
		_, err = m.Source.Pull(ctx, digest, m.Cache, func(int, int) {})
	}
	if err != nil {
		m.Logger.Warn("the model could not be pulled", "model", ref, "from", m.Name, "error", text.Clean(err.Error(), maxProblem))
	}
	return err
}

// Start polls the tags until ctx ends or Stop is called.
func (m *Mirror) Start(ctx context.Context) {
	if m == nil {
		return
	}
	ctx, m.stop = context.WithCancel(ctx)
	go func() {
		defer close(m.done)
		m.run(ctx)
	}()
}

// Stop ends the mirror and waits for it, until ctx ends.
func (m *Mirror) Stop(ctx context.Context) error {
	if m.stop == nil {
		return nil
	}
	m.stop()
	select {
	case <-m.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run polls immediately, and then every period. While the repository cannot be read, the time doubles.
func (m *Mirror) run(ctx context.Context) {
	m.bytes = size(m.Cache.Dir(model.Entry{}))
	for failures := 0; ; {
		if err := m.poll(ctx); err != nil {
			failures++
		} else {
			failures = 0
		}
		timer := time.NewTimer(m.wait(failures))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// size returns the total size of the files in a folder, skipping files that it cannot read.
func size(folder string) (n int64) {
	_ = filepath.WalkDir(folder, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return nil //nolint:nilerr // count the others
		}
		if info, err := e.Info(); err == nil {
			n += info.Size()
		}
		return nil
	})
	return n
}

// wait returns the time to the next attempt: the period, doubled per failure up to a limit, plus up to a tenth, so that engines
// that were started together do not poll in step.
func (m *Mirror) wait(failures int) time.Duration {
	d := max(m.Period, min(m.Period<<min(failures, 10), maxBackoff))
	return d + rand.N(d/10+1)
}

// poll copies new tags. It returns an error if the repository cannot be read, even in part.
func (m *Mirror) poll(ctx context.Context) error {
	err := m.copyTags(ctx)
	if ctx.Err() == nil {
		m.answered(err)
	}
	return err
}

// copyTags copies new tags. A tag that the registry does not resolve does not keep others from being copied; it is an error only if
// the registry resolves none.
func (m *Mirror) copyTags(ctx context.Context) error {
	names, err := m.Source.Tags(ctx)
	if err != nil {
		return err
	}
	// Other tags are not versions, for example where registries without the referrers API keep signatures.
	names = slices.DeleteFunc(names, func(name string) bool {
		return model.CheckName("tag", name) != nil || strings.HasPrefix(name, "sha256-")
	})
	m.forget(names)
	var away []error
	for _, name := range names {
		t := m.tags[name]
		if t == nil {
			t = &tag{}
			m.tags[name] = t
		}
		if t.copied {
			continue
		}
		if t.unanswered != nil && time.Now().Before(t.next) {
			away = append(away, t.unanswered)
			continue
		}
		digest, err := m.Source.Resolve(ctx, name)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		t.unanswered = nil
		switch {
		case errors.Is(err, oci.ErrNotFound): // removed after it was listed
			m.refuse(name, "", t, err)
		case err != nil:
			m.refuse(name, "", t, err)
			t.unanswered = err
			away = append(away, err)
		default:
			m.copy(ctx, name, digest, t)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if len(away) == 0 || len(away) < len(names) {
		return nil
	}
	for _, t := range m.tags { // the time between polls grows instead
		t.next = time.Time{}
	}
	return away[0]
}

// refuse records that a tag was not copied, and when to try again.
func (m *Mirror) refuse(name, digest string, t *tag, err error) {
	if digest != t.digest {
		t.digest, t.failures = digest, 0
	}
	t.failures++
	t.next = time.Now().Add(m.wait(t.failures))
	m.mu.Lock()
	defer m.mu.Unlock()
	m.uncopied++
	m.refused[name] = text.Clean(err.Error(), maxProblem)
	m.Logger.Warn("a model of the repository is not copied to the cache", "tag", name, "digest", digest, "error", m.refused[name], "next_try", t.next)
}

// forget forgets all tags except those in but, so that a repository cannot fill the memory over time.
func (m *Mirror) forget(but []string) {
	maps.DeleteFunc(m.tags, func(name string, _ *tag) bool { return !slices.Contains(but, name) })
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.DeleteFunc(m.refused, func(name, _ string) bool { return !slices.Contains(but, name) })
}

// copy copies the model that the tag names. After a failure it waits, unless the tag has moved since.
func (m *Mirror) copy(ctx context.Context, name, digest string, t *tag) {
	if digest == t.digest && time.Now().Before(t.next) {
		return
	}
	var moved oci.Moved
	err := errFull
	if m.bytes < maxBytes {
		moved, err = m.Source.Pull(ctx, digest, m.Cache, func(int, int) {})
	}
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		m.refuse(name, digest, t, err)
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.refused, name)
	t.copied = true
	if moved.Changed {
		if !m.counted[digest] {
			m.counted[digest] = true
			m.bytes += moved.Size
		}
		a := moved.Model
		m.Logger.Info("a model was copied to the cache", "tag", name, "artifact", digest, "model", a.Manifest.Name+"/"+a.Manifest.Version,
			"digest", a.Digest(), "bytes", moved.Size)
	}
}

// answered records whether the repository can be read.
func (m *Mirror) answered(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		m.unread++
		m.away = text.Clean(err.Error(), maxProblem)
		m.Logger.Warn("the repository of models cannot be read: serving from the cache", "repository", m.Name, "error", m.away)
		return
	}
	if m.away != "" {
		m.Logger.Info("the repository of models can be read again", "repository", m.Name)
	}
	m.away, m.success = "", time.Now()
}

// Trouble describes a current problem; it is empty if there is none.
func (m *Mirror) Trouble() string {
	if m == nil {
		return ""
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.away != "":
		return "the repository of models cannot be read, serving from the cache: " + m.away
	case len(m.refused) > 0:
		first := slices.Min(slices.Collect(maps.Keys(m.refused)))
		return fmt.Sprintf("%s of the repository not copied, such as %s: %s", text.Count(len(m.refused), "tag"), first, m.refused[first])
	}
	return ""
}
