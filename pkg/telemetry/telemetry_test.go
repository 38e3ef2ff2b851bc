package telemetry_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/telemetry"
)

func TestLatencyBucketsHoldThePromises(t *testing.T) {
	if !slices.IsSorted(telemetry.LatencyBucketsMS) {
		t.Errorf("not ascending: %v", telemetry.LatencyBucketsMS)
	}
	for _, promise := range []float64{1, 60, 80, 120} {
		if !slices.Contains(telemetry.LatencyBucketsMS, promise) {
			t.Errorf("%v ms is not an edge", promise)
		}
	}
	if below := slices.Index(telemetry.LatencyBucketsMS, 1); below < 8 {
		t.Errorf("%d edges below 1 ms: too few to see where the system lives", below)
	}
}

func TestMilliseconds(t *testing.T) {
	if got := telemetry.Milliseconds(1500 * time.Microsecond); got != 1.5 {
		t.Errorf("got %v, want 1.5", got)
	}
	if telemetry.Bool(true) != 1 || telemetry.Bool(false) != 0 {
		t.Error("Bool")
	}
}

func TestProfilesAreOnlyThereWhenAdded(t *testing.T) {
	mux := telemetry.NewAdmin(telemetry.NewRegistry("test"), func() (bool, string) { return true, "" })
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/heap", "/debug/pprof/profile?seconds=1"} {
		get := func() int {
			w := httptest.NewRecorder()
			mux.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
			return w.Code
		}
		if code := get(); code != http.StatusNotFound {
			t.Errorf("%s: got %d before they were added, want 404", path, code)
		}
	}
	telemetry.AddProfiles(mux)
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/debug/pprof/heap", nil))
	if w.Code != http.StatusOK || w.Body.Len() == 0 {
		t.Errorf("heap: got %d with %d bytes", w.Code, w.Body.Len())
	}
}

func TestAdminPages(t *testing.T) {
	ready, reason := true, "model v1"
	mux := telemetry.NewAdmin(telemetry.NewRegistry("test"), func() (bool, string) { return ready, reason })
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
	ready, reason = false, "no model"
	if code, body := get(http.MethodGet, "/readyz"); code != 503 || body != "no model\n" {
		t.Errorf("not ready: got %d %q, want 503 with the reason", code, body)
	}
}

func TestNewLogger(t *testing.T) {
	for name, tt := range map[string]struct{ level, format, want string }{
		"text":         {"info", "text", "level=INFO msg=seen n=1\n"},
		"json":         {"info", "json", `"msg":"seen","n":1}` + "\n"},
		"too detailed": {"warn", "text", ""},
		"upper case":   {"INFO", "text", "msg=seen"},
	} {
		var out strings.Builder
		logger, err := telemetry.NewLogger(&out, tt.level, tt.format)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		logger.Info("seen", "n", 1)
		if got := out.String(); !strings.Contains(got, tt.want) || (tt.want == "") != (got == "") {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
	for _, bad := range [][2]string{{"loud", "text"}, {"", "text"}, {"info", "xml"}, {"info", ""}} {
		if _, err := telemetry.NewLogger(nil, bad[0], bad[1]); err == nil {
			t.Errorf("level %q, format %q: got no error", bad[0], bad[1])
		}
	}
}

func TestHTTPServerHasLimits(t *testing.T) {
	s := telemetry.NewHTTPServer(http.NotFoundHandler(), slog.New(slog.DiscardHandler))
	if s.ReadHeaderTimeout <= 0 || s.ReadTimeout <= 0 || s.WriteTimeout <= 0 || s.IdleTimeout <= 0 || s.MaxHeaderBytes <= 0 {
		t.Errorf("a limit is missing: %+v", s)
	}
}
