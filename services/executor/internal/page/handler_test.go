package page

import (
	"bufio"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/test/bufconn"

	"github.com/greenlight-ml/greenlight/pkg/serve"
)

func (p *Page) mux() *http.ServeMux {
	mux := http.NewServeMux()
	p.Register(mux)
	return mux
}

func TestAnswersOfTheHandler(t *testing.T) {
	p := newWorld(t).start()
	defer func() { _ = p.Stop(t.Context()) }()
	for _, tt := range []struct {
		method, path string
		code         int
		kind         string
		body         bool
	}{
		{http.MethodGet, "/", 200, "text/html; charset=utf-8", true},
		{http.MethodHead, "/", 200, "text/html; charset=utf-8", true}, // the server drops the body
		{http.MethodGet, "/status", 200, "application/json", true},
		{http.MethodHead, "/status", 200, "application/json", false},
		{http.MethodHead, "/status/events", 200, "text/event-stream", false},
		{http.MethodPost, "/", 405, "text/plain; charset=utf-8", true},
		{http.MethodPost, "/status/events", 405, "text/plain; charset=utf-8", true},
		{http.MethodGet, "/index.html", 404, "text/plain; charset=utf-8", true},
		{http.MethodGet, "/page.js", 404, "text/plain; charset=utf-8", true},
		{http.MethodGet, "/status/", 404, "text/plain; charset=utf-8", true},
	} {
		w := httptest.NewRecorder()
		p.mux().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), tt.method, tt.path, http.NoBody))
		if w.Code != tt.code || w.Header().Get("Content-Type") != tt.kind || (w.Body.Len() > 0) != tt.body {
			t.Errorf("%s %s: got %d %q with %d bytes, want %d %q", tt.method, tt.path, w.Code, w.Header().Get("Content-Type"), w.Body.Len(), tt.code, tt.kind)
		}
		if tt.code != http.StatusOK {
			continue
		}
		for name, want := range map[string]string{
			"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cross-Origin-Resource-Policy": "same-origin",
		} {
			if got := w.Header().Get(name); got != want {
				t.Errorf("%s %s: %s is %q, want %q", tt.method, tt.path, name, got, want)
			}
		}
	}
}

func TestPolicy(t *testing.T) {
	w := httptest.NewRecorder()
	(&Page{build: "executor <devel>"}).serveDocument(w, nil)
	got := w.Header().Get("Content-Security-Policy")
	for _, want := range []string{
		"default-src 'none'", "connect-src 'self'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'", "script-src 'sha256-", "style-src 'sha256-",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the policy lacks %q: %s", want, got)
		}
	}
	if strings.Contains(got, "unsafe") || strings.Contains(got, "*") {
		t.Errorf("the policy is lax: %s", got)
	}
	body := w.Body.String()
	if !strings.Contains(body, `<footer class="build">executor &lt;devel&gt;</footer>`) {
		t.Error("the page does not say which build it is of")
	}
	for kind, want := range map[string]string{"style": sourceOf(between(t, body, "<style>", "</style>")), "script": sourceOf(between(t, body, "<script>", "</script>"))} {
		if !strings.Contains(got, kind+"-src '"+want+"'") {
			t.Errorf("the policy does not allow the %s that is sent, %s: %s", kind, want, got)
		}
	}
}

func between(t *testing.T, s, from, to string) string {
	t.Helper()
	_, rest, found := strings.Cut(s, from)
	inner, _, ended := strings.Cut(rest, to)
	if !found || !ended || inner == "" {
		t.Fatalf("no %s...%s", from, to)
	}
	return inner
}

// The document loads nothing but its event stream, and its markup has no inline handlers or styles.
func TestDocumentIsSelfContained(t *testing.T) {
	markup := strings.NewReplacer(script, "", style, "").Replace(document)
	for _, m := range regexp.MustCompile(`(?i)\s(src|href|srcset|action|data|style|on[a-z]+)\s*=\s*"([^"]*)"`).FindAllStringSubmatch(markup, -1) {
		if m[1] != "href" || !strings.HasPrefix(m[2], "#") && m[2] != "data:," {
			t.Errorf("the markup has %s", m[0])
		}
	}
	for name, part := range map[string]string{"markup": markup, "style": style, "script": strings.ReplaceAll(script, "http://www.w3.org/2000/svg", "")} {
		for _, bad := range []string{"http:", "https:", "//cdn", "@import", "url(", "innerHTML", "eval("} {
			if strings.Contains(part, bad) {
				t.Errorf("the %s has %q", name, bad)
			}
		}
	}
	if strings.Contains(document, "/*style*/") || strings.Contains(document, "/*script*/") {
		t.Error("a part is missing")
	}
}

// served is the page on the executor's HTTP server, in memory and in fake time.
func served(t *testing.T, p *Page) (*http.Server, *bufconn.Listener) {
	t.Helper()
	listener, server := bufconn.Listen(64<<10), serve.NewHTTPServer(p.mux(), slog.New(slog.DiscardHandler))
	go func() { _ = server.Serve(listener) }()
	return server, listener
}

func dial(t *testing.T, l *bufconn.Listener, path string) net.Conn {
	t.Helper()
	conn, err := l.DialContext(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	return conn
}

// The stream outlives the server's read and write timeouts, and ends with the page, so that a shutdown does not wait for it.
func TestStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newWorld(t).start()
		server, listener := served(t, p)
		conn := dial(t, listener, "/status/events")
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		lines, events := bufio.NewReader(resp.Body), 0
		for events < 120 {
			line, err := lines.ReadString('\n')
			if err != nil {
				t.Fatalf("after %d statuses: %v", events, err)
			}
			if raw, found := strings.CutPrefix(line, "data: "); found {
				events++
				if s := decoded(t, []byte(raw)); len(s.Answers) != 5 {
					t.Fatalf("got %s", raw)
				}
			}
		}
		began := time.Now()
		_ = p.Stop(t.Context())
		if _, err := io.ReadAll(lines); err != nil {
			t.Errorf("the stream broke off: %v", err)
		}
		if err := server.Shutdown(t.Context()); err != nil || time.Since(began) > interval {
			t.Errorf("the server stopped after %v: %v", time.Since(began), err)
		}
		_ = resp.Body.Close()
		_ = conn.Close()
	})
}

// A viewer that reads nothing is disconnected, and its slot is free.
func TestDeadViewerIsDisconnected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newWorld(t).start()
		server, listener := served(t, p)
		conn := dial(t, listener, "/status/events")
		synctest.Wait()
		if !p.hub.watched() {
			t.Error("nobody looks")
		}
		time.Sleep(2 * time.Minute)
		if p.hub.watched() {
			t.Error("a viewer that reads nothing still has its place")
		}
		_ = conn.Close()
		_ = p.Stop(t.Context())
		_ = server.Shutdown(t.Context())
	})
}

func TestTooManyViewers(t *testing.T) {
	p := newWorld(t).start()
	defer func() { _ = p.Stop(t.Context()) }()
	for range maxViewers {
		p.hub.subscribe()
	}
	for _, path := range []string{"/status", "/status/events"} {
		w := httptest.NewRecorder()
		p.mux().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, http.NoBody))
		if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
			t.Errorf("%s: got %d, retry after %q", path, w.Code, w.Header().Get("Retry-After"))
		}
	}
}

// sourceOf returns the source of an inline style or script in a content security policy.
func sourceOf(s string) string {
	sum := sha256.Sum256([]byte(s))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}
