package app_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/testkit/servetest"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

// ml-engine takes over the socket of a killed process, treats it as loopback, and removes it at its stop.
func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ml-engine.sock")
	servetest.StaleSocket(t, path)
	o := options(t)
	o.GRPCAddr, o.Control.Insecure, o.StateDir = "unix:"+path, true, filepath.Dir(path)
	s := start(t, o)
	if _, err := mlenginev1.NewScoringServiceClient(s.Conn).GetModelInfo(t.Context(), &mlenginev1.GetModelInfoRequest{}); err != nil {
		t.Error(err)
	}
	if _, err := mlenginev1.NewModelRegistryServiceClient(s.Conn).ListModels(t.Context(), &mlenginev1.ListModelsRequest{}); err != nil {
		t.Error(err)
	}
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file is there after the end (%v)", err)
	}
	if log := s.Log(); !strings.Contains(log, "grpc=unix:"+path+" ") || !strings.Contains(log, "from=\"unix:uid=") && !strings.Contains(log, "from=unix") {
		t.Errorf("log: got %s, want the target, and who called", log)
	}
}
