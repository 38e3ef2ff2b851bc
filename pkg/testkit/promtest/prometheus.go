// Package promtest runs the real Prometheus in tests, on loopback. Tests that need it are skipped if it is not
// installed.
package promtest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/api"
	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"

	"github.com/greenlight-ml/greenlight/pkg/testkit/need"
)

// Server is a Prometheus that runs until the test ends.
type Server struct {
	t *testing.T
	// URL is the server's base URL.
	URL string
	// API queries it.
	API promv1.API
}

// Options configure a server.
type Options struct {
	// Config is its configuration file, as text.
	Config string
	// Data is its storage folder; empty means a new one.
	Data string
}

// Program returns the path of prometheus or promtool.
func Program(t *testing.T, name string) string {
	t.Helper()
	return need.Program(t, name, "prometheus")
}

// Start returns a ready server. If the program exits, it retries with another address.
func Start(t *testing.T, o Options) *Server {
	t.Helper()
	program, dir := Program(t, "prometheus"), t.TempDir()
	config := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(config, []byte(o.Config), 0o600); err != nil {
		t.Fatal(err)
	}
	if o.Data == "" {
		o.Data = filepath.Join(dir, "data")
	}
	args := []string{"--config.file=" + config, "--storage.tsdb.path=" + o.Data, "--storage.tsdb.retention.time=60d", "--log.level=warn"}
	for range starts {
		addr := freeAddr(t)
		server, err := run(t, program, append(args, "--web.listen-address="+addr), "http://"+addr)
		if err == nil {
			return server
		}
		t.Log(err)
	}
	t.Fatalf("prometheus did not start, %d times", starts)
	return nil
}

// starts bounds the attempts to start: another process may take the free address first.
const starts = 5

// run starts the program and waits until it answers at the URL. It returns an error if the program has exited.
func run(t *testing.T, program string, args []string, url string) (*Server, error) {
	t.Helper()
	var log strings.Builder
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), program, args...)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	var exit error // valid once ended is closed
	go func() {
		defer close(ended)
		exit = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-ended
		if t.Failed() {
			t.Logf("prometheus: %s", log.String())
		}
	})
	client, err := api.NewClient(api.Config{Address: url})
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{t: t, URL: url, API: promv1.NewAPI(client)}
	var failed error
	s.Await("answer", func() bool {
		select {
		case <-ended:
			failed = fmt.Errorf("prometheus ended: %w: %s", exit, log.String())
			return true
		default:
		}
		flags, err := s.API.Flags(t.Context())
		return err == nil && "--config.file="+flags["config.file"] == args[0] // not another Prometheus
	})
	return s, failed
}

// freeAddr returns a loopback address that was free a moment ago: Prometheus does not report the port that it binds.
func freeAddr(t *testing.T) string {
	t.Helper()
	var listen net.ListenConfig
	l, err := listen.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// patience is how long Await polls. It is generous for busy machines; usually conditions are met within seconds.
const patience = 90 * time.Second

// Await polls until ok.
func (s *Server) Await(what string, ok func() bool) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	for !ok() {
		select {
		case <-ctx.Done():
			s.t.Fatalf("prometheus does not %s within %v", what, patience)
		case <-time.After(250 * time.Millisecond):
		}
	}
}

// Query returns the current series of the expression, by their labels ("{...}" without the name).
func (s *Server) Query(expr string) (map[string]float64, error) {
	value, _, _, err := s.API.Query(s.t.Context(), expr, time.Now())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", expr, err)
	}
	all := make(map[string]float64)
	switch v := value.(type) {
	case model.Vector:
		for _, sample := range v {
			labels := sample.Metric.Clone()
			delete(labels, model.MetricNameLabel)
			all[labels.String()] = float64(sample.Value)
		}
	case *model.Scalar:
		all["{}"] = float64(v.Value)
	default:
		return nil, fmt.Errorf("%s: %s is neither a vector nor a scalar", expr, value.Type())
	}
	return all, nil
}
