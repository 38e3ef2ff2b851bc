package app_test

import (
	"encoding/json"
	"log/slog"
	"maps"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	"github.com/greenlight-ml/greenlight/pkg/testkit/telemetrytest"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/ml-engine/internal/app"
)

var prefixes = []string{"ml_", "grpc_"}

func TestPages(t *testing.T) {
	r := start(t, options(t))
	for path, want := range map[string]string{
		"/ml/health": `{"ok":true,"model":"v1.8.1-test"}` + "\n",
		"/healthz":   "ok\n",
		"/readyz":    "model v1.8.1-test\n",
	} {
		if code, body := r.Get(path); code != http.StatusOK || body != want {
			t.Errorf("%s: got %d %q, want 200 %q", path, code, body, want)
		}
	}
	_, ml := r.Get("/ml/metrics")
	if _, plain := r.Get("/metrics"); !strings.Contains(ml, "ml_predict_requests_total") || !strings.Contains(plain, "ml_predict_requests_total") {
		t.Error("metrics are not on both pages")
	}
	var info map[string]any
	if _, body := r.Get("/ml/model/info"); json.Unmarshal([]byte(body), &info) != nil || info["version"] != version || len(info["features"].([]any)) != 7 {
		t.Errorf("/ml/model/info: got %v", info)
	}
}

func TestPredictOverHTTP(t *testing.T) {
	r := start(t, options(t))
	features := `{"mid_logret_1m_rel":0.5,"mid_logret_5m_rel":1,"spread_bp_rel":0,"vol1m_log_rel":0.25,"rsi14_z":-1,"zscore_mid_24h":2}`
	older := `{"midLogret1mRel":0.5,"midLogret5mRel":1,"spreadBpRel":0,"vol1mLogRel":0.25,"rsi14Z":-1,"zscoreMid24h":2,"bias":1}`
	var bodies []string
	for _, f := range []string{features, older} {
		code, body := r.Post("/ml/predict", `{"requestId":"r1","features":`+f+`}`)
		if code != http.StatusOK {
			t.Errorf("got %d %s", code, body)
		}
		bodies = append(bodies, body)
	}
	var got struct {
		RequestID, ModelVersion string
		Score                   float64
	}
	if err := json.Unmarshal([]byte(bodies[0]), &got); err != nil || got.RequestID != "r1" || got.ModelVersion != version || got.Score <= 0 || got.Score >= 1 {
		t.Errorf("got %+v, %v", got, err)
	}
	var again struct{ Score float64 }
	if err := json.Unmarshal([]byte(bodies[1]), &again); err != nil || again.Score != got.Score {
		t.Errorf("camelCase: got %v, want the same score %v", again.Score, got.Score)
	}
	for name, tt := range map[string]struct {
		body string
		code int
		want string
	}{
		"missing":     {`{"features":{"rsi14_z":1}}`, 400, `"reason":"FEATURE_MISSING"`},
		"both names":  {`{"features":` + strings.Replace(features, "{", `{"rsi14Z":1,`, 1) + `}`, 400, `"features":"rsi14Z"`},
		"NaN":         {`{"features":` + strings.Replace(features, "-1", `"NaN"`, 1) + `}`, 400, `"reason":"FEATURE_INVALID"`},
		"no JSON":     {`features`, 400, "not a PredictRequest in JSON"},
		"too large":   {`{"symbol":"` + strings.Repeat("x", 5<<20) + `"}`, 429, "larger than 65536 bytes"},
		"nothing":     {`{}`, 400, `"reason":"INPUT_MISSING"`},
		"wrong shape": {`{"vector":{"schema":"v1.8.1","values":[1]}}`, 400, `"reason":"VECTOR_LENGTH"`},
	} {
		code, body := r.Post("/ml/predict", tt.body)
		if code != tt.code || !strings.Contains(strings.ReplaceAll(body, " ", ""), strings.ReplaceAll(tt.want, " ", "")) {
			t.Errorf("%s: got %d %s, want %d with %s", name, code, body, tt.code, tt.want)
		}
	}
	_, page := r.Get("/metrics")
	counts := telemetrytest.Values(telemetrytest.Parse(t, strings.NewReader(page)), "ml_predict_requests_total")
	want := map[string]float64{
		"ml_predict_requests_total v1.8.1-test ok": 2, "ml_predict_requests_total v1.8.1-test invalid_argument": 6,
		"ml_predict_requests_total v1.8.1-test resource_exhausted": 1, "ml_predict_requests_total v1.8.1-test internal": 0,
	}
	if !maps.Equal(counts, want) {
		t.Errorf("counts: got %v, want %v", counts, want)
	}
}

// The names and labels of the metrics are API, and all series exist before the first call.
func TestMetrics(t *testing.T) {
	r := start(t, options(t))
	_, page := r.Get("/metrics")
	families := telemetrytest.Parse(t, strings.NewReader(page))
	telemetrytest.Golden(t, "testdata/metrics.txt", telemetrytest.Inventory(families, prefixes, []string{"digest", "bin", "commit", "goversion"}))
	for name, v := range telemetrytest.Values(families, "ml_") {
		family, _, _ := strings.Cut(name, " ")
		switch family {
		case "ml_model_info", "ml_build_info", "ml_feature_role", "ml_feature_reference_ratio", "ml_psi_reference_days", "ml_connections_open": // these describe state and count nothing
		case "ml_psi_score", "ml_psi_score_28d", "ml_psi_null_q99":
			if !math.IsNaN(v) {
				t.Errorf("%s: got %v without rows, want NaN", name, v)
			}
		default:
			if v != 0 {
				t.Errorf("%s: got %v at the start, want 0", name, v)
			}
		}
	}
	telemetrytest.Lint(t, strings.NewReader(page), prefixes, map[string][]string{
		// These names are interfaces. Latencies are in milliseconds, as the limits of 60 and 80 ms are.
		`metric names should not contain abbreviated units`: {"*_ms"},
		// Days is a count here, not a unit.
		`use base unit "seconds" instead of "days"`: {"ml_psi_days", "ml_psi_reference_days"},
	})
}

func TestGRPC(t *testing.T) {
	r := start(t, options(t))
	client := mlenginev1.NewScoringServiceClient(r.Conn)
	resp, err := client.BatchPredict(t.Context(), &mlenginev1.BatchPredictRequest{Schema: "v1.8.1", Values: []float64{1, 0, 0, 0, 0, 0, 0}})
	if err != nil || len(resp.GetScores()) != 1 || resp.GetModelVersion() != version {
		t.Errorf("batch: got %v, %v", resp, err)
	}
	_, err = client.Predict(t.Context(), &mlenginev1.PredictRequest{RequestId: strings.Repeat("x", 5<<20)})
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("5 MB: got %v, want RESOURCE_EXHAUSTED", err)
	}
	health, err := healthpb.NewHealthClient(r.Conn).Check(t.Context(), &healthpb.HealthCheckRequest{Service: "greenlight.mlengine.v1.ScoringService"})
	if err != nil || health.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("health: got %v, %v", health, err)
	}
	if err := r.Stop(); err != nil {
		t.Errorf("stop: got %v, want nil", err)
	}
	if _, err := client.GetModelInfo(t.Context(), nil); status.Code(err) != codes.Unavailable {
		t.Errorf("after the stop: got %v, want UNAVAILABLE", err)
	}
}

func TestRunRefuses(t *testing.T) {
	first := options(t)
	first.StateDir = t.TempDir()
	taken := start(t, first)
	httpAddr, grpcAddr := strings.TrimPrefix(taken.HTTP, "http://"), taken.Conn.Target()
	damage := func(t *testing.T, o *app.Options, name string, change func([]byte) []byte) {
		path := filepath.Join(o.Models, "test", version, name)
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, change(raw), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, tt := range map[string]struct {
		change func(t *testing.T, o *app.Options)
		want   []string
	}{
		"gRPC port taken":        {func(_ *testing.T, o *app.Options) { o.GRPCAddr = grpcAddr }, []string{grpcAddr, "--grpc-addr"}},
		"HTTP port taken":        {func(_ *testing.T, o *app.Options) { o.HTTPAddr = httpAddr }, []string{httpAddr, "--http-addr"}},
		"no model given":         {func(_ *testing.T, o *app.Options) { o.Model = "" }, []string{"--model"}},
		"no such model":          {func(_ *testing.T, o *app.Options) { o.Model = "v7" }, []string{`no model "v7"`, "it has test/v1.8.1-test"}},
		"no registry":            {func(_ *testing.T, o *app.Options) { o.Models = "no/such" }, []string{"no/such", "it has none"}},
		"no grace":               {func(_ *testing.T, o *app.Options) { o.ShutdownGrace = 0 }, []string{"--shutdown-grace"}},
		"state folder taken":     {func(_ *testing.T, o *app.Options) { o.StateDir = first.StateDir }, []string{"--state-dir", first.StateDir, "another process"}},
		"state folder is a file": {func(_ *testing.T, o *app.Options) { o.StateDir = first.AddressFile }, []string{"--state-dir", first.AddressFile}},
		"no such clock":          {func(_ *testing.T, o *app.Options) { o.DriftClock = "sun" }, []string{"--drift-clock", "arrival or event"}},
		"a certificate, no key":  {func(_ *testing.T, o *app.Options) { o.TLS.Cert = "me.pem" }, []string{"--tls-cert and --tls-key must be set together"}},
		"reference of another schema": {func(t *testing.T, o *app.Options) {
			o.Models = registry(t, func(a *model.Artifact) {
				a.Reference = enginetest.Artifact(t, "v1.8", "other").Reference
				a.Reference.Ranges = nil // the registry compares these with the schema
			})
		}, []string{version, "reference.json", "schema v1.8.1"}},
		"no folder for the addresses": {func(_ *testing.T, o *app.Options) { o.AddressFile = "no/such/file" }, []string{"address file"}},
		"damaged model": {func(t *testing.T, o *app.Options) {
			damage(t, o, model.ModelFile, func(raw []byte) []byte { return raw[:len(raw)-10] })
		}, []string{"model.json has the digest", "changed or is damaged", version}},
		"damaged manifest": {func(t *testing.T, o *app.Options) {
			damage(t, o, model.ManifestFile, func(raw []byte) []byte { return slices.Concat(raw, []byte("x")) })
		}, []string{"manifest.json", version}},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t)
			tt.change(t, o)
			err := app.Run(t.Context(), o, slog.New(slog.DiscardHandler))
			if err == nil {
				t.Fatal("got nil")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %q, want %q in it", err, want)
				}
			}
		})
	}
}
