package page

import (
	"encoding/json"
	"math"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// readHistory returns the points that the page serves.
func readHistory(t *testing.T, p *Page) []Point {
	t.Helper()
	r := httptest.NewRecorder()
	mux := http.NewServeMux()
	p.Register(mux)
	mux.ServeHTTP(r, httptest.NewRequest(http.MethodGet, "/status/history", nil))
	var points []Point
	if err := json.Unmarshal(r.Body.Bytes(), &points); err != nil || r.Code != http.StatusOK || r.Header().Get("Cache-Control") != "no-store" {
		t.Fatalf("%d %s: %v", r.Code, r.Body, err)
	}
	return points
}

// A point is taken every five minutes, even without viewers, and the points of the last 24 hours are kept.
func TestHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.quality, w.bounds = &executorv1.QualityJudgment{}, []Bound{{Time: time.Now(), Lower: -0.01, Upper: 0.03}}
		p := w.start()
		defer func() { _ = p.Stop(t.Context()) }()
		synctest.Wait()
		first := readHistory(t, p)
		if len(first) != 1 || *first[0].Match != 1960.0/1990 || *first[0].Coverage != 0.995 || *first[0].P95 != 4.5 || math.Abs(*first[0].Quality-0.01) > 1e-15 {
			t.Fatalf("%+v", first)
		}
		time.Sleep(2 * historyStep)
		synctest.Wait()
		if points := readHistory(t, p); len(points) != 3 || points[2].PSI == nil || *points[2].PSI != 0.05 {
			t.Errorf("after ten minutes: %+v", points)
		}
		time.Sleep(30 * time.Hour)
		synctest.Wait()
		points := readHistory(t, p)
		if len(points) != 288 || points[287].Time.Sub(points[0].Time) != 287*historyStep {
			t.Errorf("after 30 hours: %d points over %v", len(points), points[len(points)-1].Time.Sub(points[0].Time))
		}
	})
}

// Unknown figures are null, never numbers.
func TestHistoryWithoutData(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		nan := math.NaN()
		w.report = &executorv1.GetShadowReportResponse{Window: &executorv1.ShadowWindow{Coverage: &nan, LatencyMs: &executorv1.Quantiles{}}}
		p := w.start()
		defer func() { _ = p.Stop(t.Context()) }()
		synctest.Wait()
		if got := readHistory(t, p)[0]; got.Match != nil || got.Coverage != nil || got.P95 != nil || got.PSI != nil || got.Quality != nil {
			t.Errorf("%+v", got)
		}
	})
}
