package serve

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/greenlight-ml/greenlight/pkg/telemetry"
)

// NewPages returns a mux with /metrics, /healthz (the process runs) and /readyz (its state). Both answer 200: a service
// listens only once it can do its work.
func NewPages(reg *prometheus.Registry, state func() string) *http.ServeMux {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", telemetry.MetricsHandler(reg))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("ok\n"))
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(state() + "\n"))
	})
	return mux
}

// NewHTTPServer returns a server for the handler with timeouts for slow clients. Its errors go to the logger.
func NewHTTPServer(handler http.Handler, logger *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           handler,
		ErrorLog:          slog.NewLogLogger(httpLog{logger.Handler()}, slog.LevelWarn),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
}

// Web is the HTTP server of a program that serves nothing else.
type Web struct {
	// Name names it in errors and in the file Addresses, which gets the bound address; an empty path is no file.
	Name, Addresses string
	// Addr is the listen address, Flag the flag that sets it.
	Addr, Flag string
	Handler    http.Handler
	// Grace bounds the time to stop.
	Grace  time.Duration
	Logger *slog.Logger
}

// Run serves until ctx ends. begin gets the bound address, and may register parts that stop before the server.
func (w *Web) Run(ctx context.Context, begin func(*Stack, net.Addr)) error {
	var stack Stack
	listener, err := stack.Listen(ctx, w.Addr, w.Flag)
	if err != nil {
		return err
	}
	srv := NewHTTPServer(w.Handler, w.Logger)
	stack.OnStop(w.Name, srv.Shutdown)
	stack.Serve(w.Name, func() error { return ServeHTTP(srv, listener) })
	begin(&stack, listener.Addr())
	if err := WriteAddresses(w.Addresses, map[string]net.Addr{w.Name: listener.Addr()}); err != nil {
		return errors.Join(err, stack.Stop(ctx, w.Grace))
	}
	stack.Start(ctx)
	return stack.Wait(ctx, w.Grace, w.Logger)
}

// httpLog is the log handler of an HTTP server. The server's messages name clients, so they become an attribute.
type httpLog struct{ slog.Handler }

// Handle implements slog.Handler.
func (h httpLog) Handle(ctx context.Context, r slog.Record) error {
	line := slog.NewRecord(r.Time, r.Level, "HTTP server", r.PC)
	line.AddAttrs(slog.String("problem", r.Message))
	return h.Handler.Handle(ctx, line)
}

// addProfiles adds /debug/pprof/, for go tool pprof. Profiles reveal a lot about a process and slow it down, so services add
// them only on request.
func addProfiles(mux *http.ServeMux) {
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
}

// SecureHeaders sets the headers of a response for a browser: no caching, no content sniffing, no use by other sites. Each
// source is a directive of a content security policy; a document may load only what the sources allow. Without sources the
// response is not a document.
func SecureHeaders(h http.Header, sources ...string) {
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	if len(sources) > 0 {
		h.Set("Content-Security-Policy", "default-src 'none'; "+strings.Join(sources, "; ")+"; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	}
}

// SourceHash returns the source of a content security policy that allows exactly this inline style or script.
func SourceHash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}
