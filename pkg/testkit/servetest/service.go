// Package servetest runs executor or ml-engine in a test, on real loopback ports, as its main would.
package servetest

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/greenlight-ml/greenlight/pkg/rpc"
	"github.com/greenlight-ml/greenlight/pkg/telemetry"
)

// Service is a running service.
type Service struct {
	// HTTP is the base URL of its pages, "http://127.0.0.1:port"; Conn is a connection to its gRPC server.
	HTTP string
	Conn *grpc.ClientConn

	t    testing.TB
	end  context.CancelFunc
	done chan error
	log  journal
}

// Start runs the service until the test ends or Stop is called. run must write its addresses to the file.
func Start(t testing.TB, addressFile string, run func(context.Context, *slog.Logger) error) *Service {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	s := &Service{t: t, end: cancel, done: make(chan error, 1)}
	logger, err := telemetry.NewLogger(&s.log, "info", "text")
	if err != nil {
		t.Fatal(err)
	}
	go func() { s.done <- run(ctx, logger) }()
	addrs := s.addresses(addressFile)
	s.HTTP = "http://" + addrs["http"]
	conn, err := rpc.Dial(addrs["grpc"], nil)
	if err != nil {
		t.Fatal(err)
	}
	s.Conn = conn
	t.Cleanup(func() {
		_ = conn.Close()
		cancel()
		if err := <-s.done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	return s
}

func (s *Service) addresses(path string) map[string]string {
	s.t.Helper()
	for {
		select {
		case err := <-s.done:
			s.t.Fatalf("the service ended: %v", err)
		case <-s.t.Context().Done():
			s.t.Fatal("no addresses")
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

// End asks the service to stop, and returns immediately.
func (s *Service) End() { s.end() }

// Stop asks the service to stop and returns its error.
func (s *Service) Stop() error {
	s.end()
	err := <-s.done
	s.done <- nil // the cleanup reads it
	return err
}

// Log returns the log of the service.
func (s *Service) Log() string { return s.log.String() }

// Get returns the status and the body of a page.
func (s *Service) Get(path string) (code int, body string) {
	s.t.Helper()
	return s.do(http.MethodGet, path, "")
}

// Post sends the body to a page and returns the status and the body of its answer.
func (s *Service) Post(path, body string) (code int, answer string) {
	s.t.Helper()
	return s.do(http.MethodPost, path, body)
}

func (s *Service) do(method, path, body string) (int, string) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.HTTP+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Close = true
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, string(raw)
}

// journal collects the log.
type journal struct {
	mu  sync.Mutex
	log bytes.Buffer
}

// Write implements io.Writer.
func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.log.Write(b)
}

// String returns the whole log.
func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.log.String()
}
