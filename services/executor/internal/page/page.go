// Package page is executor's status page: one self-contained HTML document, updated by a stream of server-sent events. One
// status per second serves all viewers; without viewers no status is made. The figures of the last 24 hours are in memory.
package page

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"google.golang.org/grpc"

	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

// Options are the sources of a status. All are required. Without viewers, they are called only every five minutes, for a point of
// the history.
type Options struct {
	// Report returns the executor's report on the shadow.
	Report func(context.Context, *executorv1.GetShadowReportRequest) (*executorv1.GetShadowReportResponse, error)
	// Rollout returns the rollout in force.
	Rollout func() *executorv1.Rollout
	// Gate returns the state of the gate.
	Gate func() *executorv1.GateStatus
	// Drift asks ml-engine. It may hang or fail: it is called every 30 s in a separate goroutine, with a timeout of 5 s. It is nil
	// for a model server, which reports no drift.
	Drift func(context.Context, *mlenginev1.GetDriftRequest, ...grpc.CallOption) (*mlenginev1.GetDriftResponse, error)
	// Quality returns the verdict on the model's quality, nil without one, and its bounds over time.
	Quality func() (*executorv1.QualityJudgment, []Bound)
	// ShadowTimeout is how long a shadow may take from the arrival of its request.
	ShadowTimeout time.Duration
	// Host is the name of this machine.
	Host string
	// Metrics has the histograms of both latencies and of the differences between shadow and baseline.
	Metrics Gatherer
	// Build is the version of the program, for the footer.
	Build string
	// Logger logs why a status could not be made.
	Logger *slog.Logger
}

// Page serves the document and the statuses.
type Page struct {
	hub   *hub
	drift *drift
	// history has the last 24 hours.
	history *history
	build   string
}

// New returns a page whose goroutines run until Stop.
func New(opts Options) *Page {
	d := startDrift(opts.Drift)
	s := &source{opts: opts, drift: d}
	return &Page{hub: startHub(s.status, opts.Logger), drift: d, history: startHistory(s), build: opts.Build}
}

// Register adds the page (/), the latest status as JSON (/status), the stream of statuses (/status/events) and the points of the
// last 24 hours (/status/history).
func (p *Page) Register(mux *http.ServeMux) {
	mux.HandleFunc("GET /{$}", p.serveDocument)
	mux.HandleFunc("GET /status", p.hub.serveStatus)
	mux.HandleFunc("GET /status/events", p.hub.serveEvents)
	mux.HandleFunc("GET /status/history", p.history.serve)
}

// Stop ends the streams, which would block a shutdown of the HTTP server, and waits for the goroutines.
func (p *Page) Stop(context.Context) error {
	p.hub.stop()
	p.history.stop()
	p.drift.stop()
	return nil
}
