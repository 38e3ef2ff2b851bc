package telemetry_test

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/test/bufconn"

	"github.com/greenlight-ml/greenlight/pkg/telemetry"
)

// A client that sends a byte now and then, or none, or that does not read, is cut off in time. Headers that are too long are
// an error.
func TestSlowClientsAreCutOff(t *testing.T) {
	const head = "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n"
	for name, tt := range map[string]struct {
		send  string // sent at once
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
				srv := telemetry.NewHTTPServer(mux, slog.New(slog.DiscardHandler))
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
