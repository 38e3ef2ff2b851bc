package telemetry_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/telemetry"
)

func TestLatencyBucketsHoldThePromises(t *testing.T) {
	if !slices.IsSorted(telemetry.LatencyBucketsMS) {
		t.Errorf("not ascending: %v", telemetry.LatencyBucketsMS)
	}
	for _, promise := range []float64{1, 60, 80, 120} {
		if !slices.Contains(telemetry.LatencyBucketsMS, promise) {
			t.Errorf("%v ms is not an edge", promise)
		}
	}
	if below := slices.Index(telemetry.LatencyBucketsMS, 1); below < 8 {
		t.Errorf("%d edges below 1 ms: too few to see where the system lives", below)
	}
}

func TestMilliseconds(t *testing.T) {
	if got := telemetry.Milliseconds(1500 * time.Microsecond); got != 1.5 {
		t.Errorf("got %v, want 1.5", got)
	}
	if telemetry.Bool(true) != 1 || telemetry.Bool(false) != 0 {
		t.Error("Bool")
	}
}

func TestNewLogger(t *testing.T) {
	for name, tt := range map[string]struct{ level, format, want string }{
		"text":         {"info", "text", "level=INFO msg=seen n=1\n"},
		"json":         {"info", "json", `"msg":"seen","n":1}` + "\n"},
		"too detailed": {"warn", "text", ""},
		"upper case":   {"INFO", "text", "msg=seen"},
	} {
		var out strings.Builder
		logger, err := telemetry.NewLogger(&out, tt.level, tt.format)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		logger.Info("seen", "n", 1)
		if got := out.String(); !strings.Contains(got, tt.want) || (tt.want == "") != (got == "") {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
	for _, bad := range [][2]string{{"loud", "text"}, {"", "text"}, {"info", "xml"}, {"info", ""}} {
		if _, err := telemetry.NewLogger(nil, bad[0], bad[1]); err == nil {
			t.Errorf("level %q, format %q: got no error", bad[0], bad[1])
		}
	}
}
