package facade_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/test/bufconn"

	"github.com/greenlight-ml/greenlight/pkg/facade"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

// Cross-origin pages and pages with a rebound name change nothing; curl and other programs can.
func TestWebPagesChangeNothing(t *testing.T) {
	handler := facade.Guard(facade.Unary(echo, facade.Route[*mlenginev1.PredictRequest]{
		Bodies: new(facade.Bodies), Changes: func(r *mlenginev1.PredictRequest) bool { return r.GetRequestId() == "changes" },
	}), "desk.example:4021", facade.Hosts{"executor.desk.svc"})
	const asJSON, asForm = "application/json", "application/x-www-form-urlencoded"
	for name, tt := range map[string]struct {
		host, contentType, origin, site string
		changes                         bool
		want                            int
	}{
		"curl with JSON":                       {"127.0.0.1:4021", asJSON, "", "", true, 200},
		"curl -d, for a decision":              {"127.0.0.1:4021", asForm, "", "", false, 200},
		"curl -d, for a change":                {"127.0.0.1:4021", asForm, "", "", true, 415},
		"by localhost":                         {"LOCALHOST:4021", asJSON, "", "", true, 200},
		"by an address of IPv6":                {"[::1]:4021", asJSON, "", "", true, 200},
		"by an address without a port":         {"10.1.2.3", asJSON, "", "", true, 200},
		"by the name that it listens on":       {"desk.example:4021", asJSON, "", "", true, 200},
		"by a name of --http-host":             {"executor.desk.svc:4021", asJSON, "", "", true, 200},
		"by an unknown name":                   {"evil.example", asJSON, "", "", false, 403},
		"by a name that begins like localhost": {"localhost.evil.example:4021", asJSON, "", "", false, 403},
		"by no name":                           {"", asJSON, "", "", false, 403},
		"a page of another origin":             {"127.0.0.1:4021", asJSON, "https://evil.example", "", false, 403},
		"a page of another origin, as text":    {"127.0.0.1:4021", "text/plain", "https://evil.example", "cross-site", false, 403},
		"a page of another port":               {"127.0.0.1:4021", asJSON, "http://127.0.0.1:8000", "", false, 403},
		"a page of the same site":              {"127.0.0.1:4021", asJSON, "", "same-site", false, 403},
		"a page without an origin":             {"127.0.0.1:4021", asJSON, "null", "", false, 403},
		"a page whose name points here":        {"evil.example:4021", asJSON, "http://evil.example:4021", "same-origin", false, 403},
		"a page of this service":               {"127.0.0.1:4021", asJSON, "http://127.0.0.1:4021", "same-origin", true, 200},
		"a form of this service":               {"127.0.0.1:4021", asForm, "http://127.0.0.1:4021", "same-origin", false, 415},
		"text":                                 {"127.0.0.1:4021", "text/plain", "", "", false, 415},
		"a program that gives no content type": {"127.0.0.1:4021", "", "", "", true, 200},
		"a page that gives no content type":    {"127.0.0.1:4021", "", "http://127.0.0.1:4021", "same-origin", false, 415},
	} {
		body := `{"requestId":"r"}`
		if tt.changes {
			body = `{"requestId":"changes"}`
		}
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(body))
		r.Host = tt.host
		for k, v := range map[string]string{"Content-Type": tt.contentType, "Origin": tt.origin, "Sec-Fetch-Site": tt.site} {
			if v != "" {
				r.Header.Set(k, v)
			}
		}
		w := httptest.NewRecorder()
		if handler.ServeHTTP(w, r); w.Code != tt.want {
			t.Errorf("%s: got %d %s, want %d", name, w.Code, w.Body, tt.want)
		}
		r = httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		r.Host = tt.host
		w = httptest.NewRecorder()
		if handler.ServeHTTP(w, r); w.Code != http.StatusOK {
			t.Errorf("%s: GET got %d, want 200: Prometheus and probes come by any name", name, w.Code)
		}
	}
}

func TestHosts(t *testing.T) {
	for _, bad := range []string{"", "a,,b", "http://a", "a:4021", "*"} {
		if err := new(facade.Hosts).Set(bad); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
	var h facade.Hosts
	if err := h.Set("a.example, b"); err != nil || h.String() != "a.example,b" {
		t.Errorf("got %q, %v", h, err)
	}
}

func pack(t *testing.T, s string) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err := z.Write([]byte(s))
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestPackedBodies(t *testing.T) {
	const body = `{"requestId":"r"}`
	for name, tt := range map[string]struct {
		encoding, body string
		want           int
		message        string
	}{
		"gzip":                     {"gzip", pack(t, body), 200, ""},
		"none, by name":            {"identity", body, 200, ""},
		"not gzip":                 {"gzip", body, 400, "the body is not"},
		"cut off":                  {"gzip", pack(t, body)[:20], 400, "decompress"},
		"larger when it is whole":  {"gzip", pack(t, `{"requestId":"`+strings.Repeat("x", 50<<20)+`"}`), 429, "larger than 65536 bytes"},
		"brotli":                   {"br", body, 415, "gzip"},
		"gzip of gzip":             {"gzip, gzip", pack(t, pack(t, body)), 415, "gzip"},
		"larger, without encoding": {"", strings.Repeat(" ", facade.MaxBody+1), 429, "larger than 65536 bytes"},
		"as large as it may be":    {"", body + strings.Repeat(" ", facade.MaxBody-len(body)), 200, ""},
	} {
		code, r, _ := postWith(t, map[string]string{"Content-Encoding": tt.encoding}, strings.NewReader(tt.body), echo)
		if code != tt.want || !strings.Contains(r.Message, tt.message) {
			t.Errorf("%s: got %d %q, want %d %q", name, code, r.Message, tt.want, tt.message)
		}
	}
}

// Partly sent large bodies are refused when together they hold too much memory, and other requests are answered.
func TestHalfSentBodies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &http.Server{Handler: facade.Unary(echo, facade.Route[*mlenginev1.PredictRequest]{Bodies: new(facade.Bodies)}), ReadTimeout: time.Hour}
		l := bufconn.Listen(1 << 20)
		served := make(chan error, 1)
		go func() { served <- srv.Serve(l) }()
		open := func() net.Conn {
			c, err := l.DialContext(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		const head = "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: "
		const clients = 200 // there is memory for 128 of 64 KiB
		refused, conns := make(chan struct{}, clients), []net.Conn{}
		for range clients {
			c := open()
			conns = append(conns, c)
			go func() {
				var answer bytes.Buffer
				if _, _ = answer.ReadFrom(c); strings.HasPrefix(answer.String(), "HTTP/1.1 429") {
					refused <- struct{}{}
				}
			}()
			_, _ = c.Write([]byte(head + "65536\r\n\r\n" + strings.Repeat(" ", 65535)))
		}
		synctest.Wait()
		if n := len(refused); n < clients-128 {
			t.Errorf("%d of %d half bodies were refused: the others take more than there is room for", n, clients)
		}
		c := open()
		_, _ = c.Write([]byte(head + "17\r\n\r\n" + `{"requestId":"r"}`))
		var answer bytes.Buffer
		if _, err := answer.ReadFrom(c); err != nil || !strings.HasPrefix(answer.String(), "HTTP/1.1 200") {
			t.Errorf("a whole body: got %q %v, want 200", answer.String(), err)
		}
		for _, c := range conns {
			_ = c.Close()
		}
		_ = srv.Close()
		<-served
	})
}

// The codes of refused bodies are reported, like the codes of messages that gRPC refuses.
func TestRefusedBodiesAreReported(t *testing.T) {
	for encoding, want := range map[string]codes.Code{"br": codes.InvalidArgument, "gzip": codes.InvalidArgument} {
		_, _, refused := postWith(t, map[string]string{"Content-Encoding": encoding}, strings.NewReader("{}"), func(context.Context, *mlenginev1.PredictRequest) (*mlenginev1.PredictResponse, error) {
			t.Error("called")
			return nil, nil //nolint:nilnil // not reached
		})
		if len(refused) != 1 || refused[0] != want {
			t.Errorf("%s: reported %v, want %v", encoding, refused, want)
		}
	}
}
