package mirror_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/oci"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	"github.com/greenlight-ml/greenlight/services/ml-engine/internal/mirror"
)

var (
	errAway = errors.New("the registry is away")
	errBad  = errors.New("it does not verify\x1b[2J")
)

// source is a repository whose tags name digests. A digest that begins with "bad" does not verify; for "away" the registry does not
// answer; "gone" is not found.
type source struct {
	mu    sync.Mutex
	tags  map[string]string
	away  bool
	size  int64
	slow  time.Duration // of a pull
	polls []time.Time   // every call of Tags
	pulls []string      // the digests
	asked []string      // the tags
}

func (s *source) Tags(context.Context) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.polls = append(s.polls, time.Now())
	if s.away {
		return nil, errAway
	}
	return slices.Sorted(maps.Keys(s.tags)), nil
}

func (s *source) Resolve(_ context.Context, tag string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, tag)
	switch digest := s.tags[tag]; {
	case s.away || strings.HasPrefix(digest, "away"):
		return "", errAway
	case strings.HasPrefix(digest, "gone"):
		return "", oci.ErrNotFound
	default:
		return digest, nil
	}
}

func (s *source) Pull(ctx context.Context, digest string, _ *model.Registry, progress func(done, total int)) (oci.Moved, error) {
	select {
	case <-ctx.Done():
		return oci.Moved{}, ctx.Err()
	case <-time.After(s.slow):
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	progress(0, 1)
	s.pulls = append(s.pulls, digest)
	if strings.HasPrefix(digest, "bad") {
		return oci.Moved{}, errBad
	}
	return oci.Moved{Model: &model.Artifact{Manifest: model.Manifest{Name: "test", Version: digest}}, Digest: digest, Size: s.size, Changed: true}, nil
}

// set changes the source.
func (s *source) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// seen returns the digests that were pulled, and the times of the polls.
func (s *source) seen() (pulls []string, polls []time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.pulls), slices.Clone(s.polls)
}

// journal is a log that can be read while it is written.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.String()
}

// start starts a mirror with a period of a minute.
func start(t *testing.T, s *source) (*mirror.Mirror, *journal) {
	t.Helper()
	log := &journal{}
	m := mirror.New(mirror.Options{
		Name: "oci://r.desk/models", Source: s, Cache: model.OpenRegistry(t.TempDir()), Period: time.Minute,
		Logger: slog.New(slog.NewTextHandler(log, nil)),
	})
	m.Start(t.Context())
	t.Cleanup(func() {
		if err := m.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	synctest.Wait()
	return m, log
}

// pass lets time pass.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// exports fails the test unless the metrics are these. A nil Mirror has them too.
func exports(t *testing.T, m *mirror.Mirror, success int64, repository, models int) {
	t.Helper()
	want := fmt.Sprintf(`
# HELP ml_models_mirror_failures_total Failed attempts to read the repository of models (of="repository"), or to copy one of its models (of="model").
# TYPE ml_models_mirror_failures_total counter
ml_models_mirror_failures_total{of="model"} %d
ml_models_mirror_failures_total{of="repository"} %d
# HELP ml_models_mirror_last_success_timestamp_seconds Time at which the repository of models was last read, in Unix seconds; 0 before the first time, and without a repository.
# TYPE ml_models_mirror_last_success_timestamp_seconds gauge
ml_models_mirror_last_success_timestamp_seconds %d
`, models, repository, success)
	if err := testutil.CollectAndCompare(m, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}

func TestMetricsWithoutARepository(t *testing.T) { exports(t, nil, 0, 0, 0) }

// New tags are copied once each, within the period plus a tenth. Tags that are not versions are ignored.
func TestNewTags(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{tags: map[string]string{"v1": "a", "sha256-0123": "signatures", ".hidden": "x", strings.Repeat("v", 65): "y"}}
		m, log := start(t, s)
		if pulls, _ := s.seen(); !slices.Equal(pulls, []string{"a"}) {
			t.Fatalf("at once: pulled %v, want a", pulls)
		}
		pass(time.Hour)
		s.set(func() { s.tags["v2"] = "b" })
		pass(66 * time.Second)
		pulls, polls := s.seen()
		if !slices.Equal(pulls, []string{"a", "b"}) {
			t.Errorf("pulled %v, want a and b", pulls)
		}
		if n := len(polls); n < 55 || n > 63 {
			t.Errorf("%d polls in an hour and a minute, want one a minute", n)
		}
		// A tag that moves would name another model, but models never change.
		s.set(func() { s.tags["v1"] = "c" })
		pass(time.Hour)
		if pulls, _ := s.seen(); len(pulls) != 2 || m.Trouble() != "" {
			t.Errorf("pulled %v, trouble %q", pulls, m.Trouble())
		}
		if n := strings.Count(log.String(), "a model was copied to the cache"); n != 2 {
			t.Errorf("%d lines in the log:\n%s", n, log)
		}
	})
}

// While the registry is unavailable it is polled less and less often, down to every 15 minutes plus a tenth. Then polling recovers.
func TestAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{tags: map[string]string{"v1": "a"}, away: true}
		m, log := start(t, s)
		if want := "cannot be read, serving from the cache: the registry is away"; !strings.Contains(m.Trouble(), want) {
			t.Errorf("trouble: got %q, want %q", m.Trouble(), want)
		}
		pass(24 * time.Hour)
		_, polls := s.seen()
		exports(t, m, 0, len(polls), 0)
		for i := 1; i < len(polls); i++ {
			gap, want := polls[i].Sub(polls[i-1]), min(time.Minute<<min(i, 10), 15*time.Minute)
			if gap < want || gap > want+want/10+1 {
				t.Errorf("poll %d comes after %v, want %v and up to a tenth", i, gap, want)
			}
		}
		if len(polls) < 80 {
			t.Errorf("%d polls in a day", len(polls))
		}
		s.set(func() { s.away, s.polls = false, nil })
		pass(17 * time.Minute)
		if pulls, _ := s.seen(); !slices.Equal(pulls, []string{"a"}) || m.Trouble() != "" {
			t.Errorf("pulled %v, trouble %q", pulls, m.Trouble())
		}
		if !strings.Contains(log.String(), "can be read again") {
			t.Errorf("the log does not say that it is back:\n%s", log)
		}
		pass(10 * time.Minute)
		_, again := s.seen()
		if len(again) < 9 {
			t.Fatalf("%d polls after it is back, want one a minute", len(again))
		}
		exports(t, m, again[len(again)-1].Unix(), len(polls), 0)
	})
}

// A tag that does not verify is retried less and less often, until it moves. Others are copied. Text from the registry
// cannot control a terminal.
func TestRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{tags: map[string]string{"v1": "bad1", "v2": "b"}}
		m, log := start(t, s)
		if got, want := m.Trouble(), "1 tag of the repository not copied, such as v1: it does not verify\uFFFD[2J"; got != want {
			t.Errorf("trouble: got %q, want %q", got, want)
		}
		if pulls, _ := s.seen(); !slices.Equal(pulls, []string{"bad1", "b"}) {
			t.Fatalf("pulled %v", pulls)
		}
		pass(24 * time.Hour)
		if pulls, _ := s.seen(); len(pulls) < 80 || len(pulls) > 110 {
			t.Errorf("%d tries in a day, want about one every 15 minutes", len(pulls))
		} else if _, polls := s.seen(); len(polls) > 0 {
			exports(t, m, polls[len(polls)-1].Unix(), 0, len(pulls)-1) // one of them is v2
		}
		s.set(func() { s.tags["v1"], s.pulls = "a", nil })
		pass(67 * time.Second)
		if pulls, _ := s.seen(); !slices.Equal(pulls, []string{"a"}) || m.Trouble() != "" {
			t.Errorf("after it is replaced: pulled %v, trouble %q", pulls, m.Trouble())
		}
		s.set(func() { s.tags["v3"] = "bad3" })
		pass(67 * time.Second)
		if m.Trouble() == "" {
			t.Error("no trouble with v3")
		}
		s.set(func() { delete(s.tags, "v3") })
		pass(67 * time.Second)
		if m.Trouble() != "" {
			t.Errorf("v3 is gone: trouble %q", m.Trouble())
		}
		if strings.Contains(log.String(), "\x1b") {
			t.Error("the log has an escape sequence")
		}
	})
}

// A tag that the registry does not answer for, or does not find, is retried less and less often. Others are copied.
func TestOneTagIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{tags: map[string]string{"v1": "away", "v2": "gone", "v3": "c"}}
		m, _ := start(t, s)
		if pulls, _ := s.seen(); !slices.Equal(pulls, []string{"c"}) {
			t.Fatalf("pulled %v, want c", pulls)
		}
		if got, want := m.Trouble(), "2 tags of the repository not copied, such as v1: the registry is away"; got != want {
			t.Errorf("trouble: got %q, want %q", got, want)
		}
		pass(24 * time.Hour)
		pulls, polls := s.seen()
		if asked := strings.Count(strings.Join(s.asked, " "), "v1"); len(pulls) != 1 || len(polls) < 1200 || asked < 80 || asked > 110 {
			t.Errorf("in a day: pulled %v, %d polls, asked %d times for v1; want it about every 15 minutes", pulls, len(polls), asked)
		}
		s.set(func() { s.tags["v1"], s.tags["v2"] = "a", "b" })
		pass(18 * time.Minute)
		if pulls, _ := s.seen(); len(pulls) != 3 || m.Trouble() != "" {
			t.Errorf("pulled %v, trouble %q", pulls, m.Trouble())
		}
	})
}

// If the registry answers for no tag, it cannot be read.
func TestAllTagsAreAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{tags: map[string]string{"v1": "away1", "v2": "away2"}}
		m, _ := start(t, s)
		if want := "cannot be read, serving from the cache: the registry is away"; !strings.Contains(m.Trouble(), want) {
			t.Errorf("trouble: got %q, want %q", m.Trouble(), want)
		}
		pass(24 * time.Hour)
		if _, polls := s.seen(); len(polls) < 80 || len(polls) > 110 {
			t.Errorf("%d polls in a day, want about one every 15 minutes", len(polls))
		}
		s.set(func() { s.tags["v1"], s.tags["v2"] = "a", "b" })
		pass(17 * time.Minute)
		if pulls, _ := s.seen(); len(pulls) != 2 || m.Trouble() != "" {
			t.Errorf("pulled %v, trouble %q", pulls, m.Trouble())
		}
	})
}

// The models already in the cache count, and a tag that vanishes and returns does not count again.
func TestBytesOfTheCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{tags: map[string]string{"v1": "a"}, size: 3 << 30}
		cache := t.TempDir()
		if err := os.WriteFile(filepath.Join(cache, "model.json"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(filepath.Join(cache, "model.json"), 3<<30); err != nil {
			t.Fatal(err)
		}
		m := mirror.New(mirror.Options{Name: "r", Source: s, Cache: model.OpenRegistry(cache), Period: time.Minute, Logger: slog.New(slog.DiscardHandler)})
		m.Start(t.Context())
		defer func() { _ = m.Stop(context.WithoutCancel(t.Context())) }()
		pass(time.Second)
		for range 5 {
			s.set(func() { delete(s.tags, "v1") })
			pass(2 * time.Minute)
			s.set(func() { s.tags["v1"] = "a" })
			pass(2 * time.Minute)
		}
		if pulls, _ := s.seen(); len(pulls) != 6 || m.Trouble() != "" {
			t.Errorf("pulled %v, trouble %q", pulls, m.Trouble())
		}
		s.set(func() { s.tags["v2"], s.tags["v3"] = "b", "c" }) // 9 GiB with b
		pass(2 * time.Minute)
		if pulls, _ := s.seen(); len(pulls) != 7 || !strings.Contains(m.Trouble(), "1 tag of the repository not copied, such as v3: ") {
			t.Errorf("pulled %v, trouble %q", pulls, m.Trouble())
		}
	})
}

// Pulling the first model may take longer than resolving its tag.
func TestFirstIsLarge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{tags: map[string]string{"v1": "a"}, slow: 5 * time.Minute}
		m := mirror.New(mirror.Options{Name: "r", Source: s, Cache: model.OpenRegistry(t.TempDir()), Period: time.Minute, Logger: slog.New(slog.DiscardHandler)})
		if err := m.First(t.Context(), "v1"); err != nil {
			t.Error(err)
		}
	})
}

// A repository cannot fill the disk.
func TestFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{tags: map[string]string{}, size: 256 << 20}
		for i := range 40 {
			s.tags[fmt.Sprintf("v%02d", i)] = fmt.Sprint(i)
		}
		m, _ := start(t, s)
		if pulls, _ := s.seen(); len(pulls) != 32 || !strings.Contains(m.Trouble(), "8 GB, the limit of the cache") { // 8 GiB
			t.Errorf("%d pulls, trouble %q", len(pulls), m.Trouble())
		}
	})
}

// First asks the registry only for a model that the cache cannot load, by its version.
func TestFirst(t *testing.T) {
	dir := enginetest.Registry(t, "v1.8.1", "v1")
	s := &source{tags: map[string]string{"v1": "a", "v2": "b"}}
	m := mirror.New(mirror.Options{Name: "r", Source: s, Cache: model.OpenRegistry(dir), Period: time.Minute, Logger: slog.New(slog.DiscardHandler)})
	for _, ref := range []string{"v1", "test/v1"} {
		if err := m.First(t.Context(), ref); err != nil || len(s.pulls) > 0 {
			t.Errorf("%s: pulled %v, %v", ref, s.pulls, err)
		}
	}
	for _, ref := range []string{"v2", "test/v2"} {
		s.pulls = nil
		if err := m.First(t.Context(), ref); err != nil || !slices.Equal(s.pulls, []string{"b"}) {
			t.Errorf("%s: pulled %v, %v", ref, s.pulls, err)
		}
	}
	s.away = true
	if err := m.First(t.Context(), "v2"); !errors.Is(err, errAway) {
		t.Errorf("away: got %v", err)
	}
	if err := m.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	var none *mirror.Mirror
	none.Start(t.Context())
	if err := none.First(t.Context(), "v1"); err != nil || none.Trouble() != "" {
		t.Errorf("without a mirror: %v, trouble %q", err, none.Trouble())
	}
}
