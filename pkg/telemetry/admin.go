package telemetry

import (
	"log"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Readiness says whether a service can do its work, and if not, why.
type Readiness func() (ok bool, reason string)

// NewAdmin returns a mux with /metrics, /healthz (the process runs) and /readyz (it can do its work).
func NewAdmin(reg *prometheus.Registry, ready Readiness) *http.ServeMux {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", MetricsHandler(reg))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("ok\n"))
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		ok, reason := ready()
		if !ok {
			http.Error(w, reason, http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte(reason + "\n"))
	})
	return mux
}

// NewHTTPServer returns a server for the handler with limits that a slow client cannot outwait. What it has to say goes to
// the logger.
func NewHTTPServer(handler http.Handler, logger *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           handler,
		ErrorLog:          log.New(errorLog{logger}, "", 0),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
}

// errorLog makes each line of an HTTP server's log a line of ours. Their texts name clients, so the message is constant.
type errorLog struct{ logger *slog.Logger }

// Write implements io.Writer.
func (e errorLog) Write(line []byte) (int, error) {
	e.logger.Warn("HTTP server", "problem", strings.TrimSpace(string(line)))
	return len(line), nil
}
