package page

import (
	"context"
	"encoding/json"
	"math"
	"net/http"
	"sync"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/serve"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

const (
	// historyStep is the time between two points of the history, and historyPoints how many are kept: 24 hours, about
	// 30 kB.
	historyStep   = 5 * time.Minute
	historyPoints = 288
)

// Point has the figures at one time. An unknown figure is nil.
type Point struct {
	Time time.Time `json:"time"`
	// Match and Coverage are in [0,1], and P95 is the shadow's latency in milliseconds, all over the window of the report.
	Match    *float64 `json:"match"`
	Coverage *float64 `json:"coverage"`
	P95      *float64 `json:"p95"`
	// PSI is the overall index of the drift.
	PSI *float64 `json:"psi"`
	// Quality is the midpoint of the bounds of the mean difference of the Brier losses: above 0 the model is better.
	Quality *float64 `json:"quality"`
}

// history has the points of the last 24 hours, only in memory.
type history struct {
	source *source
	stop   func()

	mu     sync.Mutex
	points []Point // the oldest first
}

// startHistory takes a point now and every historyStep, until stop is called.
func startHistory(s *source) *history {
	h := &history{source: s}
	h.stop = serve.Go(func(ctx context.Context) {
		ticker := time.NewTicker(historyStep)
		defer ticker.Stop()
		for {
			h.add(h.source.point(ctx))
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
		}
	})
	return h
}

func (h *history) add(p Point) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.points) == historyPoints {
		h.points = append(h.points[:0], h.points[1:]...)
	}
	h.points = append(h.points, p)
}

// serve serves the points as JSON.
func (h *history) serve(w http.ResponseWriter, _ *http.Request) {
	h.mu.Lock()
	raw, err := json.Marshal(h.points)
	h.mu.Unlock()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	serve.SecureHeaders(w.Header())
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(raw)
}

// point returns what is known now. It does not wait for ml-engine.
func (s *source) point(ctx context.Context) Point {
	p := Point{Time: time.Now().UTC().Truncate(time.Second)}
	if report, err := s.opts.Report(ctx, &executorv1.GetShadowReportRequest{}); err == nil {
		window := report.GetWindow()
		p.Match, p.Coverage = finite(window.MatchRate), finite(window.Coverage)
		if q := window.GetLatencyMs(); q.GetCount() > 0 {
			p.P95 = finite(&q.P95)
		}
	}
	if answer, _, err := s.drift.latest(); err == nil && answer.GetOverall() != nil {
		p.PSI = finite(&answer.Overall.Psi)
	}
	if _, bounds := s.opts.Quality(); len(bounds) > 0 {
		last := bounds[len(bounds)-1]
		middle := (last.Lower + last.Upper) / 2
		p.Quality = finite(&middle)
	}
	return p
}

// finite returns a copy of x, or nil if x is nil or not a finite number, which JSON cannot represent.
func finite(x *float64) *float64 {
	if x == nil || math.IsNaN(*x) || math.IsInf(*x, 0) {
		return nil
	}
	y := *x
	return &y
}
