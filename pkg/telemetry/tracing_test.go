package telemetry_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"

	"github.com/greenlight-ml/greenlight/pkg/telemetry"
)

// The text format has only the classic buckets. A scraper that asks for protobuf also gets native ones, at a bounded number.
func TestLatencyMS(t *testing.T) {
	reg := prometheus.NewRegistry()
	h := prometheus.NewHistogram(telemetry.LatencyMS("ml_test_latency_ms", "Test."))
	reg.MustRegister(h)
	const values = 100_000
	for i := range values {
		telemetry.ObserveMS(h, time.Duration(1+i*i), nil)
	}
	get := func(accept string) (contentType, body string) {
		r, w := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", http.NoBody), httptest.NewRecorder()
		r.Header.Set("Accept", accept)
		telemetry.MetricsHandler(reg).ServeHTTP(w, r)
		return w.Header().Get("Content-Type"), w.Body.String()
	}
	if _, text := get("text/plain"); strings.Count(text, "ml_test_latency_ms_bucket{") != len(telemetry.LatencyBucketsMS)+1 || !strings.Contains(text, "ml_test_latency_ms_count 100000\n") {
		t.Errorf("got %s", text)
	}
	if kind, _ := get("application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"); !strings.HasPrefix(kind, "application/vnd.google.protobuf") {
		t.Errorf("got %s, want protobuf", kind)
	}
	var m dto.Metric
	if err := h.Write(&m); err != nil {
		t.Fatal(err)
	}
	got := m.GetHistogram()
	var native int64
	for i, delta := 0, int64(0); i < len(got.GetPositiveDelta()); i++ {
		delta += got.GetPositiveDelta()[i]
		native += delta
	}
	if n := len(got.GetPositiveDelta()); n < 20 || n > 200 || uint64(native)+got.GetZeroCount() != values || got.GetSampleCount() != values {
		t.Errorf("%d native buckets with %d of %d values", n, native, got.GetSampleCount())
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 1 { // one is about the unit in the name
		t.Error(problems, err)
	}
}
