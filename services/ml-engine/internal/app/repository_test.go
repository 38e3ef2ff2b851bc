package app_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	ociregistry "github.com/google/go-containerregistry/pkg/registry"

	"github.com/greenlight-ml/greenlight/pkg/dsse"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/oci"
	"github.com/greenlight-ml/greenlight/pkg/serve"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	"github.com/greenlight-ml/greenlight/pkg/testkit/keytest"
	"github.com/greenlight-ml/greenlight/pkg/testkit/servetest"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/ml-engine/internal/app"
)

// repository is a repository in a registry that can be unavailable or hang.
type repository struct {
	*testing.T
	*oci.Repository

	away, hangs atomic.Bool
	reached     chan struct{} // a request that hangs; more are not counted
}

func newRepository(t *testing.T) *repository {
	t.Setenv("DOCKER_CONFIG", t.TempDir()) // no credentials of the machine
	r := &repository{T: t, reached: make(chan struct{}, 1)}
	next := ociregistry.New(ociregistry.Logger(slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		switch {
		case r.away.Load():
			w.WriteHeader(http.StatusForbidden) // unlike 503, it is not retried
		case r.hangs.Load():
			select {
			case r.reached <- struct{}{}:
			default:
			}
			<-req.Context().Done()
		default:
			next.ServeHTTP(w, req)
		}
	}))
	t.Cleanup(server.Close)
	var err error
	if r.Repository, err = oci.Open(oci.Reference{Registry: server.Listener.Addr().String(), Repository: "desk/models"}, oci.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// push pushes models of these versions. With a key they are signed.
func (r *repository) push(key string, versions ...string) {
	r.Helper()
	from := model.OpenRegistry(enginetest.Registry(r.T, "v1.8.1", versions...))
	for _, v := range versions {
		if key != "" {
			signer, err := dsse.ReadSigner(key)
			if err == nil {
				err = from.Sign(model.Entry{Name: "test", Version: v}, signer)
			}
			if err != nil {
				r.Fatal(err)
			}
		}
		a, files, err := from.Files(v)
		if err == nil {
			_, err = r.Push(r.Context(), a, files, oci.PushOptions{Tag: v, Progress: func(int, int) {}})
		}
		if err != nil {
			r.Fatal(err)
		}
	}
}

// until waits until /readyz matches.
func until(t *testing.T, s *servetest.Service, what string, matches func(ready string) bool) {
	t.Helper()
	for {
		_, ready := s.Get("/readyz")
		if matches(ready) {
			return
		}
		select {
		case <-t.Context().Done():
			t.Fatalf("%s: /readyz is %q\n%s", what, ready, s.Log())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// ml-engine pulls the model to serve, and new versions as they appear. It refuses unsigned models, and keeps serving while the
// registry is unavailable, even after a restart.
func TestServesARepository(t *testing.T) {
	_, key := keytest.New(t)
	r := newRepository(t)
	r.push(key, "v1.8.1-a")
	s := newStarts(t)
	s.opts.Models, s.opts.Cache, s.opts.ModelsPeriod, s.opts.RequireSignature = r.Reference.String(), t.TempDir(), time.Second, key+".pub"
	first := s.start()
	s.serves(first, "v1.8.1-a", "")

	r.push("", "v1.8.1-unsigned")
	until(t, first, "an unsigned model", func(ready string) bool {
		return strings.Contains(ready, "1 tag of the repository not copied, such as v1.8.1-unsigned: ") && strings.Contains(ready, "is not signed")
	})
	r.push(key, "v1.8.1-b")
	cache := model.OpenRegistry(s.opts.Cache)
	until(t, first, "a new version", func(string) bool {
		_, err := cache.Find("v1.8.1-b")
		return err == nil
	})
	s.activate(first, "v1.8.1-b")
	s.serves(first, "v1.8.1-b", "v1.8.1-a")
	if entries, err := cache.List(); err != nil || len(entries) != 2 {
		t.Errorf("the cache has %v (%v), want a and b", entries, err)
	}

	r.away.Store(true)
	until(t, first, "the registry is away", func(ready string) bool {
		return strings.HasPrefix(ready, "model v1.8.1-b; the repository of models cannot be read, serving from the cache: ")
	})
	s.stop(first)
	second := s.start()
	s.serves(second, "v1.8.1-b", "v1.8.1-a")
	s.stop(second)

	// A registry that hangs delays neither the start nor the stop.
	r.away.Store(false)
	r.hangs.Store(true)
	third := s.start()
	s.serves(third, "v1.8.1-b", "v1.8.1-a")
	s.stop(third)
}

// If the cache is lost, the activated model and the previous one are pulled again, and --model is not served instead.
func TestActivationSurvivesALostCache(t *testing.T) {
	r := newRepository(t)
	r.push("", "v1.8.1-a", "v1.8.1-b", "v1.8.1-c")
	s := newStarts(t)
	s.opts.Models, s.opts.Cache, s.opts.ModelsPeriod = r.Reference.String(), t.TempDir(), time.Second
	first := s.start()
	cache := model.OpenRegistry(s.opts.Cache)
	until(t, first, "all versions", func(string) bool {
		entries, err := cache.List()
		return err == nil && len(entries) == 3
	})
	s.activate(first, "v1.8.1-b")
	s.activate(first, "v1.8.1-c")
	s.stop(first)

	s.opts.Cache = t.TempDir()
	second := s.start()
	s.serves(second, "v1.8.1-c", "v1.8.1-b")
	if _, ready := second.Get("/readyz"); strings.Contains(ready, "verify") {
		t.Errorf("/readyz: %q", ready)
	}
	if back, err := models(second).RollbackModel(t.Context(), &mlenginev1.RollbackModelRequest{}); err != nil || back.GetActive().GetVersion() != "v1.8.1-b" {
		t.Errorf("rollback: %v, %v", back, err)
	}
	s.stop(second)
}

// Without the registry and without the model in the cache there is nothing to serve.
func TestRepositoryIsAway(t *testing.T) {
	r := newRepository(t)
	r.push("", "v1.8.1-a")
	o := options(t)
	o.Models, o.Model, o.Cache = r.Reference.String(), "test/v1.8.1-b", t.TempDir()
	discard := slog.New(slog.DiscardHandler)
	if err := app.Run(t.Context(), o, discard); !errors.Is(err, oci.ErrNotFound) || !strings.Contains(err.Error(), `has no model "test/v1.8.1-b"`) {
		t.Errorf("another version: got %v", err)
	}
	r.away.Store(true)
	if err := app.Run(t.Context(), o, discard); err == nil || !strings.Contains(err.Error(), "403") {
		t.Errorf("away: got %v", err)
	}
}

// If it is asked to stop while it waits for the registry, ml-engine stops without an error.
func TestStopsWhileTheRegistryHangs(t *testing.T) {
	r := newRepository(t)
	r.hangs.Store(true)
	o := options(t)
	o.Models, o.Model, o.Cache = r.Reference.String(), "v1.8.1-a", t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	var waiting sync.WaitGroup
	waiting.Go(func() {
		<-r.reached
		cancel()
	})
	if err := app.Run(ctx, o, slog.New(slog.DiscardHandler)); err != nil {
		t.Errorf("got %v", err)
	}
	waiting.Wait()
}

func TestRepositoryFlags(t *testing.T) {
	for name, change := range map[string]func(*app.Options){
		"no cache":     func(o *app.Options) { o.Cache = "" },
		"no reference": func(o *app.Options) { o.Models = "oci://models" },
		"a tag":        func(o *app.Options) { o.Models += ":v1" },
		"no time":      func(o *app.Options) { o.ModelsPeriod = 0 },
		"only a cache": func(o *app.Options) { o.Models = "models" },
	} {
		o := options(t)
		o.Models, o.Cache = "oci://127.0.0.1:1/models", t.TempDir()
		change(o)
		if err := app.Run(t.Context(), o, slog.New(slog.DiscardHandler)); !errors.As(err, new(*serve.UsageError)) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
