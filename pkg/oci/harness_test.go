package oci_test

import (
	"bytes"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/greenlight-ml/greenlight/pkg/dsse"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/oci"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	"github.com/greenlight-ml/greenlight/pkg/testkit/keytest"
)

const version = "v1.8.1-rc1"

// serve starts a registry and returns a repository in it.
func serve(t *testing.T, wrap func(http.Handler) http.Handler, opts ...registry.Option) *oci.Repository {
	t.Helper()
	handler := registry.New(append(opts, registry.Logger(discard))...)
	if wrap != nil {
		handler = wrap(handler)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return open(t, server.Listener.Addr().String())
}

func open(t *testing.T, addr string) *oci.Repository {
	t.Helper()
	t.Setenv("DOCKER_CONFIG", t.TempDir()) // no credentials of the machine
	ref, err := oci.Parse("oci://" + addr + "/desk/models")
	if err != nil {
		t.Fatal(err)
	}
	r, err := oci.Open(ref, oci.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// client returns the library's client of the repository.
func client(t *testing.T, r *oci.Repository) *remote.Repository {
	t.Helper()
	repository, err := remote.NewRepository(r.Reference.Registry + "/" + r.Reference.Repository)
	if err != nil {
		t.Fatal(err)
	}
	repository.PlainHTTP = true
	return repository
}

// signed returns a registry folder with a signed model, and the keys of its signature.
func signed(t *testing.T, version string) (*model.Registry, dsse.Keys) {
	t.Helper()
	r := model.OpenRegistry(enginetest.Registry(t, "v1.8.1", version))
	return r, sign(t, r, version)
}

// sign signs the model with a new key.
func sign(t *testing.T, r *model.Registry, version string) dsse.Keys {
	t.Helper()
	key, path := keytest.New(t)
	if err := r.Sign(model.Entry{Name: "test", Version: version}, key); err != nil {
		t.Fatal(err)
	}
	keys, err := dsse.ReadKeys(path + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// push pushes the model and returns the digest of its artifact.
func push(t *testing.T, r *oci.Repository, from *model.Registry, version string) string {
	t.Helper()
	a, files, err := from.Files(version)
	if err != nil {
		t.Fatal(err)
	}
	m, err := r.Push(t.Context(), a, files, oci.PushOptions{Tag: version, Progress: silent})
	if err != nil {
		t.Fatal(err)
	}
	return m.Digest
}

var discard = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)

func silent(int, int) {}

// contents returns the files below a folder.
func contents(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	if err := fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files[path], err = os.ReadFile(filepath.Join(dir, path))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return files
}

// wantNothing fails the test unless the folder has neither a model nor a file.
func wantNothing(t *testing.T, dir string) {
	t.Helper()
	if entries, err := model.OpenRegistry(dir).List(); err != nil || len(entries) > 0 {
		t.Errorf("the folder has the models %v (%v)", entries, err)
	}
	for name := range contents(t, dir) {
		t.Errorf("the folder has %s", name)
	}
}

// replaced returns a handler that changes the answers to GETs of paths that contain part.
func replaced(part string, change func([]byte) []byte) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, part) {
				next.ServeHTTP(w, r)
				return
			}
			rec := httptest.NewRecorder()
			next.ServeHTTP(rec, r)
			body := rec.Body.Bytes()
			if rec.Code == http.StatusOK {
				body = change(bytes.Clone(body))
			}
			for k, v := range rec.Header() {
				if k != "Content-Length" {
					w.Header()[k] = v
				}
			}
			w.WriteHeader(rec.Code)
			_, _ = w.Write(body)
		})
	}
}
