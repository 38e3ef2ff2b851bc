// Package page is executor's status page: one self-contained HTML document, updated by a stream of server-sent events. One
// status per second serves all viewers; without viewers no status is made. The figures of the last 24 hours are in memory.
package page

import (
	"context"
	_ "embed" // the parts of the document
	"html/template"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/greenlight-ml/greenlight/pkg/serve"
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

var (
	//go:embed page.html
	html string
	//go:embed page.css
	style string
	//go:embed page.js
	script string
)

// document is the page with its style and script inlined. It loads nothing but its event stream.
var document = strings.NewReplacer("/*style*/", style, "/*script*/", script).Replace(html)

// sources allow only this style, this script and connections to the page's own origin.
var sources = []string{"script-src '" + serve.SourceHash(script) + "'", "style-src '" + serve.SourceHash(style) + "'", "connect-src 'self'", "img-src data:"}

// serveDocument serves the page with the build in its footer.
func (p *Page) serveDocument(w http.ResponseWriter, _ *http.Request) {
	serve.SecureHeaders(w.Header(), sources...)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write([]byte(strings.Replace(document, "<!--build-->", template.HTMLEscapeString(p.build), 1)))
}
