package app_test

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/executor/internal/app"
)

// Executor on a Unix socket works as on loopback: it decides, accepts rollouts, reports its address, and removes the socket.
func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "executor.sock")
	o := options(t, loopback(t))
	o.GRPCAddr, o.Control.Insecure, o.GRPCSocketMode = "unix:"+path, true, 0o600
	r := start(t, o)
	r.reached()
	if got := r.Conn.Target(); got != "unix:"+path {
		t.Errorf("the address file says %s, want unix:%s", got, path)
	}
	if file, err := os.Lstat(path); err != nil || file.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("got %v, %v; want a socket of the mode 0600", file.Mode(), err)
	}
	resp, err := executorv1.NewDecisionServiceClient(r.Conn).PredictWithShadow(t.Context(), &executorv1.PredictWithShadowRequest{Vector: vector()})
	if err != nil || resp.GetBaseline() == nil {
		t.Errorf("got %v, %v; want a decision", resp, err)
	}
	set, err := executorv1.NewRolloutServiceClient(r.Conn).SetRollout(t.Context(), observe(50))
	if err != nil || set.GetRollout().GetSetBy() != "loopback" || !strings.HasPrefix(set.GetRollout().GetSetFrom(), "unix") {
		t.Errorf("got %v, %v; want it set from the socket", set, err)
	}

	second := options(t, loopback(t))
	second.GRPCAddr = o.GRPCAddr
	if err := app.Run(t.Context(), second, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "another process answers there") {
		t.Errorf("a second executor: got %v, want an error", err)
	}
	if _, err := executorv1.NewRolloutServiceClient(r.Conn).GetRollout(t.Context(), &executorv1.GetRolloutRequest{}); err != nil {
		t.Errorf("after the second: %v", err)
	}

	if err := r.Stop(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file is there after the end (%v)", err)
	}
	if log := r.Log(); !strings.Contains(log, "grpc=unix:"+path+" ") || strings.Contains(log, "WITHOUT TLS") {
		t.Errorf("log: got %s, want the target and no warning", log)
	}
}
