package serve_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/test/bufconn"

	"github.com/greenlight-ml/greenlight/pkg/serve"
	"github.com/greenlight-ml/greenlight/pkg/telemetry"
)

// A client that sends slowly or nothing, or does not read, is cut off in time. Headers that are too long are
// an error.
func TestSlowClientsAreCutOff(t *testing.T) {
	const head = "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n"
	for name, tt := range map[string]struct {
		send  string // sent immediately
		drip  string // then sent every second
		want  string // beginning of the answer
		after time.Duration
	}{
		"nothing is sent":             {after: 5 * time.Second},
		"headers that never end":      {send: head, drip: "X-A: b\r\n", after: 5 * time.Second},
		"a first line that drips":     {drip: "A", want: "HTTP/1.1 400", after: 5 * time.Second},
		"a body that drips":           {send: strings.Replace(head, "10", "100", 1) + "\r\n", drip: "x", want: "HTTP/1.1 408", after: 10 * time.Second},
		"a body that never comes":     {send: head + "\r\n", want: "HTTP/1.1 408", after: 10 * time.Second},
		"idle after an answer":        {send: head + "\r\n0123456789", want: "HTTP/1.1 200 OK", after: 2 * time.Minute},
		"headers that are too long":   {send: head + "X-A: " + strings.Repeat("x", 32<<10) + "\r\n\r\n", want: "HTTP/1.1 431", after: time.Second},
		"an answer that nobody reads": {send: "GET /endless HTTP/1.1\r\nHost: x\r\n\r\n", after: 30 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				mux := http.NewServeMux()
				mux.HandleFunc("POST /echo", func(w http.ResponseWriter, r *http.Request) {
					body, err := io.ReadAll(r.Body)
					if err != nil {
						http.Error(w, "too slow", http.StatusRequestTimeout)
						return
					}
					_, _ = w.Write(body)
				})
				ended := make(chan error, 1)
				mux.HandleFunc("GET /endless", func(w http.ResponseWriter, _ *http.Request) {
					for {
						if _, err := w.Write(make([]byte, 1<<10)); err != nil {
							ended <- err
							return
						}
					}
				})
				srv := serve.NewHTTPServer(mux, slog.New(slog.DiscardHandler))
				l := bufconn.Listen(64 << 10)
				served := make(chan error, 1)
				go func() { served <- srv.Serve(l) }()
				conn, err := l.DialContext(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				sent := make(chan struct{})
				go func() {
					defer close(sent)
					_, err := io.WriteString(conn, tt.send)
					for err == nil && tt.drip != "" {
						time.Sleep(time.Second)
						_, err = io.WriteString(conn, tt.drip)
					}
				}()
				if strings.Contains(tt.send, "endless") {
					<-ended
				} else {
					answer, err := io.ReadAll(conn)
					if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) && !errors.Is(err, io.ErrClosedPipe) {
						t.Errorf("read: %v", err)
					}
					if !strings.HasPrefix(string(answer), tt.want) || (tt.want == "" && len(answer) > 0) {
						t.Errorf("got %.60q, want %q", answer, tt.want)
					}
				}
				if took := time.Since(start).Round(100 * time.Millisecond); took > tt.after {
					t.Errorf("cut off after %v, want at most %v", took, tt.after)
				}
				_ = conn.Close()
				_ = srv.Close()
				<-served
				<-sent
			})
		})
	}
}

func TestAdminPages(t *testing.T) {
	mux := serve.NewPages(telemetry.NewRegistry("test"), func() string { return "model v1" })
	get := func(method, path string) (int, string) {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, nil))
		return w.Code, w.Body.String()
	}
	for name, tt := range map[string]struct {
		method, path string
		code         int
		body         string
	}{
		"health":   {http.MethodGet, "/healthz", 200, "ok\n"},
		"ready":    {http.MethodGet, "/readyz", 200, "model v1\n"},
		"metrics":  {http.MethodGet, "/metrics", 200, "go_build_info"},
		"posting":  {http.MethodPost, "/metrics", 405, ""},
		"no pages": {http.MethodGet, "/other", 404, ""},
	} {
		if code, body := get(tt.method, tt.path); code != tt.code || !strings.Contains(body, tt.body) {
			t.Errorf("%s: got %d %q, want %d with %q", name, code, body, tt.code, tt.body)
		}
	}
}

func TestHTTPServerHasLimits(t *testing.T) {
	s := serve.NewHTTPServer(http.NotFoundHandler(), slog.New(slog.DiscardHandler))
	if s.ReadHeaderTimeout <= 0 || s.ReadTimeout <= 0 || s.WriteTimeout <= 0 || s.IdleTimeout <= 0 || s.MaxHeaderBytes <= 0 {
		t.Errorf("a limit is missing: %+v", s)
	}
}

// The log of an HTTP server is bounded too.
func TestTheLogOfAnHTTPServer(t *testing.T) {
	var out strings.Builder
	logger, err := telemetry.NewLogger(&out, "info", "text")
	if err != nil {
		t.Fatal(err)
	}
	s := serve.NewHTTPServer(http.NotFoundHandler(), logger)
	for i := range 100 {
		s.ErrorLog.Printf("http: TLS handshake error from 10.0.0.1:%d: EOF", i)
	}
	if got := out.String(); strings.Count(got, "\n") != 10 || !strings.Contains(got, `msg="HTTP server" problem="http: TLS handshake error from 10.0.0.1:0: EOF"`) {
		t.Errorf("got %s", got)
	}
}

// The server runs until the context ends, and parts added by begin stop before it. It does not run if it cannot write its address
// file.
func TestWeb(t *testing.T) {
	path := filepath.Join(t.TempDir(), "addresses")
	w := serve.Web{
		Name: "http", Addr: "127.0.0.1:0", Flag: "--http-addr", Addresses: path, Grace: time.Minute, Logger: slog.New(slog.DiscardHandler),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("here")) }),
	}
	get := func(addr net.Addr) (string, error) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr.String(), nil)
		if err != nil {
			return "", err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return string(body), err
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var at net.Addr
	var answers, last string
	err := w.Run(ctx, func(stack *serve.Stack, addr net.Addr) {
		at = addr
		stack.OnStop("work", func(context.Context) (err error) {
			last, err = get(at)
			return err
		})
		stack.Serve("work", func() (err error) {
			answers, err = get(at)
			cancel()
			return err
		})
	})
	if err != nil || answers != "here" || last != "here" {
		t.Errorf("got %v; it answered %q, and %q before it stopped", err, answers, last)
	}
	if raw, err := os.ReadFile(path); err != nil || string(raw) != "http="+at.String()+"\n" {
		t.Errorf("the address file has %q (%v), want the address %s", raw, err, at)
	}
	if _, err := get(at); err == nil {
		t.Error("it answers after it has stopped")
	}
	w.Addresses = t.TempDir()
	if err := w.Run(t.Context(), func(*serve.Stack, net.Addr) {}); err == nil || !strings.Contains(err.Error(), "address file") {
		t.Errorf("without its address file: %v", err)
	}
}
