package app_test

import (
	"bytes"
	"context"
	"flag"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"github.com/greenlight-ml/greenlight/pkg/enginetest"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/rpc"
	"github.com/greenlight-ml/greenlight/services/executor/internal/app"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// options are those of a service on free ports with a good baseline, and an engine.
func options(t *testing.T, engine *enginetest.Engine) *app.Options {
	t.Helper()
	o := app.Flags(flag.NewFlagSet("executor", flag.ContinueOnError))
	o.Baseline = "heuristic=" + filepath.Join(enginetest.Registry(t, "v1.8.1", "v1"), "test", "v1", model.BaselineFile)
	o.EngineAddr = engine.Addr()
	o.GRPCAddr, o.HTTPAddr = "127.0.0.1:0", "127.0.0.1:0"
	o.AddressFile = filepath.Join(t.TempDir(), "addresses")
	return o
}

// journal keeps what was logged.
type journal struct {
	mu  sync.Mutex
	log bytes.Buffer
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.log.Write(b)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.log.String()
}

// running is a service that answers on real ports.
type running struct {
	t    *testing.T
	http string
	conn *grpc.ClientConn
	end  context.CancelFunc
	done chan error
	log  journal
}

// start runs the service until the test ends, or stop is called.
func start(t *testing.T, o *app.Options) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := &running{t: t, end: cancel, done: make(chan error, 1)}
	go func() { r.done <- app.Run(ctx, o, slog.New(slog.NewTextHandler(&r.log, nil))) }()
	addrs := r.addresses(o.AddressFile)
	r.http = "http://" + addrs["http"]
	conn, err := rpc.Dial(addrs["grpc"], nil)
	if err != nil {
		t.Fatal(err)
	}
	r.conn = conn
	t.Cleanup(func() {
		_ = conn.Close()
		cancel()
		if err := <-r.done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	return r
}

func (r *running) addresses(path string) map[string]string {
	r.t.Helper()
	for {
		select {
		case err := <-r.done:
			r.t.Fatalf("the service ended: %v", err)
		case <-r.t.Context().Done():
			r.t.Fatal("no addresses")
		case <-time.After(5 * time.Millisecond):
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		addrs := map[string]string{}
		for line := range strings.Lines(string(raw)) {
			name, addr, _ := strings.Cut(strings.TrimSpace(line), "=")
			addrs[name] = addr
		}
		return addrs
	}
}

// stop asks the service to stop and returns how it ended.
func (r *running) stop() error {
	r.end()
	err := <-r.done
	r.done <- nil // for the cleanup
	return err
}

// get and post return the status and the body of a page.
func (r *running) get(path string) (int, string) {
	r.t.Helper()
	return r.do(http.MethodGet, path, "")
}

func (r *running) post(path, body string) (int, string) {
	r.t.Helper()
	return r.do(http.MethodPost, path, body)
}

func (r *running) do(method, path, body string) (int, string) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.http+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp.StatusCode, string(raw)
}

// holdUntil is a fault that says of every call that it has arrived, and holds it until the channel is closed.
func holdUntil(released <-chan struct{}, arrived chan<- struct{}) enginetest.Fault {
	return enginetest.Fault{Before: func(ctx context.Context) error {
		arrived <- struct{}{}
		select {
		case <-released:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}}
}
