package app_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/greenlight-ml/greenlight/pkg/testkit/durabletest"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	"github.com/greenlight-ml/greenlight/pkg/testkit/servetest"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/ml-engine/internal/app"
)

// starts is a series of ml-engine starts with the same registry of models a and b, and the same state folder. --model is a.
type starts struct {
	*testing.T

	opts *app.Options
	n    int
}

func newStarts(t *testing.T) *starts {
	o := options(t)
	o.Models, o.Model, o.StateDir = enginetest.Registry(t, "v1.8.1", "v1.8.1-a", "v1.8.1-b"), "v1.8.1-a", t.TempDir()
	o.Control.Insecure = true
	return &starts{T: t, opts: o}
}

func (s *starts) start() *servetest.Service {
	s.Helper()
	o := *s.opts
	s.n++
	o.AddressFile = fmt.Sprint(s.opts.AddressFile, s.n)
	return start(s.T, &o)
}

func (s *starts) stop(r *servetest.Service) {
	s.Helper()
	if err := r.Stop(); err != nil {
		s.Fatal(err)
	}
}

func (s *starts) folder(version string) string {
	s.Helper()
	all, err := filepath.Glob(filepath.Join(s.opts.Models, "*", version))
	if err != nil || len(all) != 1 {
		s.Fatalf("%s: %q, %v", version, all, err)
	}
	return all[0]
}

func models(r *servetest.Service) mlenginev1.ModelRegistryServiceClient {
	return mlenginev1.NewModelRegistryServiceClient(r.Conn)
}

// serves checks the active and the previous model; "" is none.
func (s *starts) serves(r *servetest.Service, active, previous string) {
	s.Helper()
	list, err := models(r).ListModels(s.Context(), &mlenginev1.ListModelsRequest{})
	if err != nil || list.GetActive().GetVersion() != active || list.GetPrevious().GetVersion() != previous {
		s.Errorf("serves %s, before it %s (%v); want %s, %s", list.GetActive().GetVersion(), list.GetPrevious().GetVersion(), err, active, previous)
	}
	if _, body := r.Get("/readyz"); !strings.HasPrefix(body, "model "+active) {
		s.Errorf("/readyz: %q, want %s", body, active)
	}
}

func (s *starts) activate(r *servetest.Service, version string) (warning string) {
	s.Helper()
	resp, err := models(r).ActivateModel(s.Context(), &mlenginev1.ActivateModelRequest{Model: version})
	if err != nil || resp.GetActive().GetVersion() != version {
		s.Fatalf("activate %s: %v, %v", version, resp, err)
	}
	return resp.GetWarning()
}

func TestActivationSurvivesARestart(t *testing.T) {
	s := newStarts(t)
	r := s.start()
	s.serves(r, "v1.8.1-a", "")
	if warning := s.activate(r, "v1.8.1-b"); warning != "" {
		t.Errorf("warning: %s", warning)
	}
	s.stop(r)

	r = s.start()
	s.serves(r, "v1.8.1-b", "v1.8.1-a")
	if !strings.Contains(r.Log(), "--model differs from the served model") {
		t.Errorf("the log does not warn that --model differs from the served model:\n%s", r.Log())
	}
	back, err := models(r).RollbackModel(t.Context(), &mlenginev1.RollbackModelRequest{})
	if err != nil || back.GetWarning() != "" || !back.GetActive().GetLoadTime().AsTime().Before(back.GetPrevious().GetLoadTime().AsTime()) {
		t.Errorf("rollback: %v, %v; want the model that was loaded first", back, err)
	}
	s.stop(r)

	r = s.start()
	s.serves(r, "v1.8.1-a", "v1.8.1-b")
	list, err := models(r).ListModels(t.Context(), &mlenginev1.ListModelsRequest{})
	if err != nil || !list.GetActive().GetLoadTime().AsTime().Before(list.GetPrevious().GetLoadTime().AsTime()) {
		t.Errorf("after a restart a rollback looks like an activation: %v, %v", list, err)
	}
}

func TestModelThatNoLongerVerifiesIsNotServedAfterARestart(t *testing.T) {
	for name, tt := range map[string]struct {
		damage   func(s *starts)
		previous string
		readyz   string
	}{
		"it was removed": {func(s *starts) {
			if err := os.RemoveAll(s.folder("v1.8.1-b")); err != nil {
				s.Fatal(err)
			}
		}, "", "not v1.8.1-b, which was active before the restart: it does not verify"},
		"it was changed": {func(s *starts) {
			if err := os.WriteFile(filepath.Join(s.folder("v1.8.1-b"), "model.json"), []byte("{}"), 0o600); err != nil {
				s.Fatal(err)
			}
		}, "", "not v1.8.1-b, which was active before the restart: it does not verify"},
		"the state is damaged": {func(s *starts) {
			if err := os.WriteFile(filepath.Join(s.opts.StateDir, "active-model.json"), []byte(`{"schema":"x"}`), 0o600); err != nil {
				s.Fatal(err)
			}
		}, "", "active-model.json could not be read, so --model is served"},
		"the state leads out of the registry": {func(s *starts) {
			raw := `{"schema":"greenlight/active-model/v1","active":{"name":"..","version":"..","digest":""}}`
			if err := os.WriteFile(filepath.Join(s.opts.StateDir, "active-model.json"), []byte(raw), 0o600); err != nil {
				s.Fatal(err)
			}
		}, "", "active-model.json could not be read, so --model is served"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStarts(t)
			r := s.start()
			s.activate(r, "v1.8.1-b")
			s.stop(r)
			tt.damage(s)
			r = s.start()
			s.serves(r, "v1.8.1-a", tt.previous)
			if _, body := r.Get("/readyz"); !strings.Contains(body, tt.readyz) || !strings.Contains(r.Log(), "level=ERROR") {
				t.Errorf("/readyz: %q, want %q; log:\n%s", body, tt.readyz, r.Log())
			}
		})
	}
}

func TestActivationThatMayNotSurviveARestartWarns(t *testing.T) {
	t.Run("no state folder", func(t *testing.T) {
		s := newStarts(t)
		s.opts.StateDir = ""
		r := s.start()
		if warning := s.activate(r, "v1.8.1-b"); !strings.Contains(warning, "--state-dir") || !strings.Contains(r.Log(), "may not survive a restart") {
			t.Errorf("warning %q, log:\n%s", warning, r.Log())
		}
	})
	for name, fail := range map[string]func(*testing.T, string) func(){
		"the file cannot be synced": durabletest.FailFiles, "the folder cannot be synced": durabletest.FailFolders,
		"the disk hangs": durabletest.Hang,
	} {
		t.Run(name, func(t *testing.T) {
			s := newStarts(t)
			r := s.start()
			repair := fail(t, s.opts.StateDir)
			if warning := s.activate(r, "v1.8.1-b"); !strings.Contains(warning, "a restart may serve the previous model") {
				t.Errorf("warning: %q", warning)
			}
			s.serves(r, "v1.8.1-b", "v1.8.1-a")
			if _, body := r.Get("/readyz"); !strings.Contains(body, "the active model is not written") {
				t.Errorf("/readyz: %q", body)
			}
			repair()
			s.stop(r) // writes it if it is not written yet
			s.serves(s.start(), "v1.8.1-b", "v1.8.1-a")
		})
	}
}

// A FIFO in the registry is reported as such, and blocks nothing.
func TestFIFOInTheRegistryBlocksNothing(t *testing.T) {
	s := newStarts(t)
	r := s.start()
	s.activate(r, "v1.8.1-b")
	name := filepath.Dir(s.folder("v1.8.1-a"))
	for _, file := range []string{"manifest.json", "model.json"} {
		dir := filepath.Join(name, "evil-"+strings.TrimSuffix(file, ".json"))
		if err := os.CopyFS(dir, os.DirFS(s.folder("v1.8.1-a"))); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(dir, file)); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mkfifo(filepath.Join(dir, file), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{filepath.Join(s.opts.Models, "fifo"), filepath.Join(name, "fifo")} {
		if err := syscall.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	begun := time.Now()
	list, err := models(r).ListModels(t.Context(), &mlenginev1.ListModelsRequest{})
	if err != nil || len(list.GetModels()) != 4 {
		t.Fatalf("list: %v, %v", list, err)
	}
	for _, m := range list.GetModels() {
		if problem := m.GetProblem(); strings.Contains(problem, "not a regular file") != (m.GetVersion() == "evil-manifest") {
			t.Errorf("%s: problem %q", m.GetVersion(), problem)
		}
	}
	for _, version := range []string{"evil-manifest", "evil-model", "fifo"} {
		_, err := models(r).ActivateModel(t.Context(), &mlenginev1.ActivateModelRequest{Model: filepath.Base(name) + "/" + version})
		if c := status.Code(err); c != codes.FailedPrecondition && c != codes.NotFound {
			t.Errorf("activate %s: got %v", version, err)
		}
	}
	if _, err := models(r).RollbackModel(t.Context(), &mlenginev1.RollbackModelRequest{}); err != nil {
		t.Error(err)
	}
	if code, _ := r.Get("/healthz"); code != http.StatusOK || time.Since(begun) > time.Minute {
		t.Errorf("health %d after %s", code, time.Since(begun))
	}
}
