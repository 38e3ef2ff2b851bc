package deploytest

import (
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	"github.com/greenlight-ml/greenlight/pkg/testkit/need"
	"github.com/greenlight-ml/greenlight/pkg/testkit/telemetrytest"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/process"
)

// page gets a page over a new connection.
func page(t *testing.T, p *process.Process, path string) (string, error) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+p.Addr("http")+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

// counts returns the values of the metrics page, by name and label values.
func counts(t *testing.T, p *process.Process) map[string]float64 {
	t.Helper()
	body, err := page(t, p, "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	return telemetrytest.Values(telemetrytest.Parse(t, strings.NewReader(body)), "ml_")
}

// flood opens n connections and returns on how many the service answers. It sends ask first, which is
// empty for gRPC: there the server speaks first.
func flood(t *testing.T, addr, ask string, n int) (answered int, hangUp func()) {
	t.Helper()
	var open []net.Conn
	for range n {
		c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
		if err != nil {
			continue // reset before the handshake ended
		}
		open = append(open, c)
		_, _ = io.WriteString(c, ask) // a refused connection fails on read
		if _, err := io.ReadFull(c, make([]byte, 9)); err == nil {
			answered++
		}
	}
	return answered, func() {
		for _, c := range open {
			_ = c.Close()
		}
	}
}

// A client opens more connections than the service has. Further connections are refused at once, on the other listener the
// service answers throughout, and on this one again when they are closed.
func TestTooManyConnections(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs the programs")
	}
	bin := need.Programs(t, filepath.Join(deploy, ".."), "ml-engine", "executor")
	models := enginetest.Registry(t, "v1.8.1", "v1")
	for name, args := range map[string][]string{
		"ml-engine": {"--models", models, "--model", "test/v1"},
		"executor":  {"--baseline", "heuristic=" + filepath.Join(models, "test", "v1", model.BaselineFile)},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			p, err := process.Start(t.Context(), filepath.Join(bin, name), dir, append(args, "--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0")...)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = p.Stop(10 * time.Second) })
			const limit, sent = 1024, 1100
			for listener, ask := range map[string]string{"grpc": "", "http": "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"} {
				answered, hangUp := flood(t, p.Addr(listener), ask, sent)
				if answered != limit {
					t.Errorf("%s: %d of %d connections are answered, want %d", listener, answered, sent, limit)
				}
				if listener == "grpc" {
					if open := counts(t, p)["ml_connections_open grpc"]; open != limit {
						t.Errorf("%v connections are open, want %d", open, limit)
					}
				}
				hangUp()
				for { // the service takes a moment to see that they are closed
					body, err := page(t, p, "/healthz")
					if err == nil && body == "ok\n" {
						break
					}
					select {
					case <-t.Context().Done():
						t.Fatalf("%s: %q, %v", listener, body, err)
					case <-time.After(5 * time.Millisecond):
					}
				}
				if refused := counts(t, p)["ml_connections_refused_total "+listener]; refused < sent-limit {
					t.Errorf("%s: %v refused, want at least %d", listener, refused, sent-limit)
				}
			}
			if err := p.Stop(process.StopGrace); err != nil { // it has then written its whole log
				t.Error(err)
			}
			log, err := os.ReadFile(filepath.Join(dir, name+".log"))
			if n := strings.Count(string(log), "connections are refused"); err != nil || n != 2 {
				t.Errorf("%d lines in the log, want one per listener: %v\n%s", n, err, log)
			}
		})
	}
}
