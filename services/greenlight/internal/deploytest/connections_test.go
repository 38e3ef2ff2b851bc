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
	"github.com/greenlight-ml/greenlight/pkg/testkit/telemetrytest"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/process"
)

// from returns a dialer with a local loopback address. To the services, each address is a different client.
func from(ip string) *net.Dialer {
	return &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
}

// page gets a page over a new connection.
func page(t *testing.T, d *net.Dialer, p *process.Process, path string) (string, error) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: d.DialContext}}
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
func counts(t *testing.T, d *net.Dialer, p *process.Process) map[string]float64 {
	t.Helper()
	body, err := page(t, d, p, "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	return telemetrytest.Values(telemetrytest.Parse(t, strings.NewReader(body)), "ml_")
}

// flood opens n connections from 127.0.0.1 and returns on how many the service answers. It sends ask first, which is
// empty for gRPC: there the server speaks first.
func flood(t *testing.T, addr, ask string, n int) (answered int, hangUp func()) {
	t.Helper()
	var open []net.Conn
	for range n {
		c, err := from("127.0.0.1").DialContext(t.Context(), "tcp", addr)
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

// One client opens more connections than the service has. It gets its share and no more, further connections are refused
// at once, and another client is answered throughout.
func TestTooManyConnections(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs the programs")
	}
	bin := programs(t, "ml-engine", "executor")
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
			const want = limit - limit/8
			for listener, ask := range map[string]string{"grpc": "", "http": "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"} {
				answered, hangUp := flood(t, p.Addr(listener), ask, sent)
				body, err := page(t, from("127.0.0.2"), p, "/healthz")
				if answered != want || err != nil || body != "ok\n" {
					t.Errorf("%s: %d of %d connections are answered, want %d; another client: %q, %v", listener, answered, sent, want, body, err)
				}
				got := counts(t, from("127.0.0.2"), p)
				refused := got["ml_connections_refused_total "+listener+" address_full"]
				open := got["ml_connections_open "+listener]
				if refused != sent-want || open < want || open > want+2 {
					t.Errorf("%s: %v refused, %v open, want %d and %d", listener, refused, open, sent-want, want)
				}
				hangUp()
			}
			log, err := os.ReadFile(filepath.Join(dir, name+".log"))
			if n := strings.Count(string(log), "connections are refused"); err != nil || n != 2 {
				t.Errorf("%d lines in the log, want one per listener: %v\n%s", n, err, log)
			}
		})
	}
}
