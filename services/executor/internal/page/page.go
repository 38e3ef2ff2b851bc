// Package page is executor's status page: one self-contained HTML document, and the stream of server-sent events that
// keeps it up to date. However many people look, a status is made once a second, and none while nobody looks.
package page

import (
	"context"
	"log/slog"
	"net/http"

	"google.golang.org/grpc"

	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

// Options are where a status comes from. All are required. None is called while nobody looks.
type Options struct {
	// Report is the executor's own report of the shadow.
	Report func(context.Context, *executorv1.GetShadowReportRequest) (*executorv1.GetShadowReportResponse, error)
	// Rollout is the rollout in force.
	Rollout func() *executorv1.Rollout
	// Drift asks ml-engine. It may hang or fail: it is called beside the statuses, every 30 s, and given up after 5 s.
	Drift func(context.Context, *mlenginev1.GetDriftRequest, ...grpc.CallOption) (*mlenginev1.GetDriftResponse, error)
	// Host is the name of this machine.
	Host string
	// Metrics has the histograms of both latencies and of the differences between shadow and baseline.
	Metrics Gatherer
	// Build is what the program was built from, for the footer.
	Build string
	// Logger gets the error of a status that could not be made.
	Logger *slog.Logger
}

// Page serves the document and the statuses.
type Page struct {
	hub   *hub
	drift *drift
	build string
}

// New returns a page whose goroutines run until Stop.
func New(opts Options) *Page {
	d := startDrift(opts.Drift)
	s := &source{opts: opts, drift: d}
	return &Page{hub: startHub(s.status, opts.Logger), drift: d, build: opts.Build}
}

// Register adds the page (/), the latest status as JSON (/status) and the stream of statuses (/status/events).
func (p *Page) Register(mux *http.ServeMux) {
	mux.HandleFunc("GET /{$}", p.serveDocument)
	mux.HandleFunc("GET /status", p.hub.serveStatus)
	mux.HandleFunc("GET /status/events", p.hub.serveEvents)
}

// Stop ends the streams, which an HTTP server waits for when it shuts down, and waits for the goroutines.
func (p *Page) Stop(context.Context) error {
	p.hub.stop()
	p.drift.stop()
	return nil
}
