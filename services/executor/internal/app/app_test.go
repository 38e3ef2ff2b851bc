package app_test

import (
	"encoding/json"
	"flag"
	"io"
	"log/slog"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	"github.com/greenlight-ml/greenlight/pkg/testkit/telemetrytest"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/executor/internal/app"
)

const features = `{"mid_logret_1m_rel":0.5,"mid_logret_5m_rel":1,"spread_bp_rel":0,"vol1m_log_rel":0.25,"rsi14_z":-1,"zscore_mid_24h":2}`

func loopback(t *testing.T) *enginetest.Engine {
	t.Helper()
	return enginetest.Start(t, enginetest.Options{Loopback: true})
}

// reached waits until executor has reached the engine.
func (r *running) reached() {
	r.t.Helper()
	for {
		if _, body := r.Get("/readyz"); strings.Contains(body, ", shadow ") {
			return
		}
		select {
		case <-r.t.Context().Done():
			r.t.Fatal("the engine is never reached")
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func vector() *executorv1.FeatureVector {
	return &executorv1.FeatureVector{Schema: "v1.8.1", Values: []float64{1, 0.5, 1, 0, 0.25, -1, 2}}
}

func TestPages(t *testing.T) {
	r := start(t, options(t, loopback(t)))
	r.reached()
	for path, want := range map[string]string{
		"/healthz": "ok\n", "/readyz": "baseline heuristic-test, shadow v1.8.1-test\n", "/metrics": "ml_shadow_outcomes_total", "/": "<title>Greenlight executor</title>",
		"/status": `"answers":[{"question":"Is the baseline affected?"`,
	} {
		if code, body := r.Get(path); code != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: got %d %q, want 200 with %q", path, code, body, want)
		}
	}
	older := strings.NewReplacer("mid_logret_1m_rel", "midLogret1mRel", "spread_bp_rel", "spreadBpRel", "rsi14_z", "rsi14Z").Replace(features)
	var scores []float64
	for _, f := range []string{features, older} {
		code, body := r.Post("/predict-with-shadow", `{"requestId":"r1","features":`+f+`}`)
		var got struct {
			RequestID  string
			Baseline   struct{ Score float64 }
			Shadow     struct{ ModelVersion string }
			Comparison struct{ Delta float64 }
			Outcome    string
		}
		if err := json.Unmarshal([]byte(body), &got); err != nil || code != http.StatusOK || got.RequestID != "r1" || got.Shadow.ModelVersion != "v1.8.1-test" {
			t.Errorf("got %d %s (%v)", code, body, err)
		}
		scores = append(scores, got.Baseline.Score, got.Comparison.Delta)
	}
	if scores[0] != scores[2] || scores[1] != scores[3] || scores[0] <= 0 {
		t.Errorf("camelCase scores differently: %v", scores)
	}
	code, body := r.Post("/predict-with-shadow", `{"features":{"rsi14_z":1}}`)
	if code != http.StatusBadRequest || !strings.Contains(body, "FEATURE_MISSING") || !strings.Contains(body, "executor.greenlight") {
		t.Errorf("missing features: got %d %s", code, body)
	}
	code, body = r.Get("/shadow/metrics")
	var report struct {
		RequestsTotal string
		Window        struct{ Comparisons string }
	}
	if err := json.Unmarshal([]byte(body), &report); err != nil || code != http.StatusOK || report.RequestsTotal != "2" || report.Window.Comparisons != "2" {
		t.Errorf("/shadow/metrics: got %d %s (%v)", code, body, err)
	}
}

// The names and labels of the metrics are API, and all series exist before the first call. grpc_client_* is excluded: its
// library creates a series at its first use.
func TestMetrics(t *testing.T) {
	r := start(t, options(t, loopback(t)))
	prefixes := []string{"ml_", "grpc_server_"}
	_, page := r.Get("/metrics")
	families := telemetrytest.Parse(t, strings.NewReader(page))
	telemetrytest.Golden(t, "testdata/metrics.txt", telemetrytest.Inventory(families, prefixes, []string{"commit", "goversion", "instance_id"}))
	set := map[string]float64{
		"ml_rollout_percent": 100, "ml_rollout_mode observe_only": 1, "ml_shadow_breaker_state closed": 1, "ml_shadow_breaker_blind": 1,
	}
	for name, v := range telemetrytest.Values(families, "ml_") {
		if name == "ml_shadow_match_rate" || name == "ml_quality_coverage" || name == "ml_quality_days_needed" || strings.HasPrefix(name, "ml_quality_bound ") {
			if !math.IsNaN(v) {
				t.Errorf("%s: got %v without data, want NaN", name, v)
			}
			continue
		}
		if strings.HasPrefix(name, "ml_build_info ") || strings.HasPrefix(name, "ml_executor_info ") { // they describe the process
			continue
		}
		if strings.HasPrefix(name, "ml_connections_open ") || strings.HasPrefix(name, "ml_shadow_engine_addresses ") { // connections come and go
			continue
		}
		if v != set[name] {
			t.Errorf("%s: got %v at the start, want %v", name, v, set[name])
		}
	}
	telemetrytest.Lint(t, strings.NewReader(page), prefixes, map[string][]string{
		// These names are interfaces. Latencies are in milliseconds, as the limits of 60 and 80 ms are.
		"metric names should not contain abbreviated units": {"*_ms"},
		// The time to a verdict is days or months, for people.
		`use base unit "seconds" instead of "days"`: {"ml_quality_days_needed"},
	})
}

func TestOverGRPC(t *testing.T) {
	engine := loopback(t)
	r := start(t, options(t, engine))
	r.reached()
	client := executorv1.NewDecisionServiceClient(r.Conn)
	plain, err := client.Predict(t.Context(), &executorv1.PredictRequest{RequestId: "r1", Vector: vector()})
	if err != nil || !plain.GetShadowSampled() {
		t.Fatalf("got %v, %v", plain, err)
	}
	both, err := client.PredictWithShadow(t.Context(), &executorv1.PredictWithShadowRequest{RequestId: "r1", Vector: vector()})
	want := engine.Model().Scorer.Score(vector().GetValues())
	if err != nil || both.GetBaseline().GetScore() != plain.GetScore() || both.GetShadow().GetScore() != want {
		t.Errorf("got %v, %v; want the same baseline and the shadow %v", both, err, want)
	}
	for _, service := range []string{"", "greenlight.executor.v1.DecisionService", "greenlight.executor.v1.ShadowService"} {
		got, err := healthpb.NewHealthClient(r.Conn).Check(t.Context(), &healthpb.HealthCheckRequest{Service: service})
		if err != nil || got.GetStatus() != healthpb.HealthCheckResponse_SERVING {
			t.Errorf("health of %q: got %v, %v", service, got, err)
		}
	}
}

// The caller's score is the answer over HTTP too. Decisions are counted by side of the threshold.
func TestCallerScoreOverHTTP(t *testing.T) {
	o := options(t, loopback(t))
	o.Baseline, o.Shadow.MatchTolerance, o.Shadow.DecisionThreshold = "caller=desk@7", 0.99, 0.5
	r := start(t, o)
	r.reached()
	for _, score := range []string{"0.30000000000000004", "5e-324", "0.9999999999999999", "1", "0"} {
		code, body := r.Post("/predict-with-shadow", `{"baselineScore":`+score+`,"features":`+features+`}`)
		var got struct {
			Baseline struct {
				Score        json.Number
				ModelVersion string
			}
			Outcome string
		}
		if err := json.Unmarshal([]byte(body), &got); err != nil || code != http.StatusOK || string(got.Baseline.Score) != score || got.Baseline.ModelVersion != "desk@7" || got.Outcome != "SHADOW_OUTCOME_MATCH" {
			t.Errorf("%s: got %d %s (%v)", score, code, body, err)
		}
	}
	if code, body := r.Post("/predict-with-shadow", `{"features":`+features+`}`); code != http.StatusBadRequest || !strings.Contains(body, "BASELINE_SCORE_MISSING") {
		t.Errorf("without a score: got %d %s", code, body)
	}
	_, page := r.Get("/metrics")
	decisions := 0.
	for name, v := range telemetrytest.Values(telemetrytest.Parse(t, strings.NewReader(page)), "ml_shadow_decisions_total") {
		decisions += v
		if above := strings.HasPrefix(name, "ml_shadow_decisions_total above "); above && v != 0 && v != 2 || !above && v != 0 && v != 3 {
			t.Errorf("%s: got %v, want 2 above and 3 below, by the baseline", name, v)
		}
	}
	if decisions != 5 || !strings.Contains(page, `ml_shadow_abs_delta_bucket{le="0.99"} 5`) {
		t.Errorf("got %v decisions, want 5; the tolerance must be an edge:\n%s", decisions, page)
	}
}

// Without an engine executor starts, is ready and answers, and /readyz reports the missing engine.
func TestWithoutAnEngine(t *testing.T) {
	engine := enginetest.Start(t, enginetest.Options{Loopback: true, Absent: true})
	r := start(t, options(t, engine))
	if code, body := r.Get("/readyz"); code != http.StatusOK || !strings.Contains(body, "no shadow: ml-engine cannot be reached at "+engine.Addr()) {
		t.Errorf("/readyz: got %d %q", code, body)
	}
	code, body := r.Post("/predict-with-shadow", `{"features":`+features+`}`)
	if code != http.StatusOK || !strings.Contains(body, "SHADOW_OUTCOME_UNAVAILABLE") {
		t.Errorf("got %d %s, want the baseline with an unavailable shadow", code, body)
	}
	engine.Restart()
	r.reached()
}

// A stop lets open calls and detached shadows finish, and counts them.
func TestStopDrains(t *testing.T) {
	engine := loopback(t)
	o := options(t, engine)
	r := start(t, o)
	r.reached()
	held := make(chan struct{})
	arrived := make(chan struct{}, 100)
	engine.Break(holdUntil(held, arrived))
	client := executorv1.NewDecisionServiceClient(r.Conn)
	for range 20 {
		if _, err := client.Predict(t.Context(), &executorv1.PredictRequest{Vector: vector()}); err != nil {
			t.Fatal(err)
		}
	}
	type answer struct {
		resp *executorv1.PredictWithShadowResponse
		err  error
	}
	waited := make(chan answer, 1)
	go func() {
		resp, err := client.PredictWithShadow(t.Context(), &executorv1.PredictWithShadowRequest{Vector: vector()})
		waited <- answer{resp, err}
	}()
	<-arrived
	for { // until the waiting call has arrived
		if _, body := r.Get("/shadow/metrics"); strings.Contains(strings.ReplaceAll(body, " ", ""), `"inFlight":"21"`) {
			break
		}
		time.Sleep(time.Millisecond)
	}
	r.End()
	close(held)
	got := <-waited
	if got.err != nil || got.resp.GetShadow() == nil {
		t.Errorf("the call under way: got %v, %v; want its shadow", got.resp, got.err)
	}
	if err := r.Stop(); err != nil {
		t.Errorf("stop: got %v, want nil", err)
	}
	if log := r.Log(); !strings.Contains(log, `msg="executor stopped" requests=21 in_flight=0`) {
		t.Errorf("log: got %s, want 21 requests and none in flight", log)
	}
	rows := 0
	for _, c := range engine.Calls() {
		rows += c.Rows
	}
	if rows != 21 {
		t.Errorf("the engine saw %d rows, want 21", rows)
	}
}

// A hung engine delays a stop by at most the shadow timeout.
func TestStopWithAHungEngine(t *testing.T) {
	engine := loopback(t)
	o := options(t, engine)
	o.Shadow.Timeout = 60 * time.Millisecond
	r := start(t, o)
	r.reached()
	engine.Break(enginetest.Hang())
	client := executorv1.NewDecisionServiceClient(r.Conn)
	for range 50 {
		if _, err := client.Predict(t.Context(), &executorv1.PredictRequest{Vector: vector()}); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Stop(); err != nil {
		t.Errorf("stop: got %v, want nil", err)
	}
	if log := r.Log(); !strings.Contains(log, `requests=50 in_flight=0`) {
		t.Errorf("log: got %s, want 50 requests and none in flight", log)
	}
}

func TestRunRefuses(t *testing.T) {
	engine := loopback(t)
	taken := start(t, options(t, engine))
	httpAddr, grpcAddr := strings.TrimPrefix(taken.HTTP, "http://"), taken.Conn.Target()
	for name, tt := range map[string]struct {
		change func(o *app.Options)
		want   []string
	}{
		"gRPC port taken":  {func(o *app.Options) { o.GRPCAddr = grpcAddr }, []string{grpcAddr, "--grpc-addr"}},
		"HTTP port taken":  {func(o *app.Options) { o.HTTPAddr = httpAddr }, []string{httpAddr, "--http-addr"}},
		"no baseline":      {func(o *app.Options) { o.Baseline = "" }, []string{"--baseline"}},
		"no such baseline": {func(o *app.Options) { o.Baseline = "heuristic=no/such.json" }, []string{"no/such"}},
		"no grace":         {func(o *app.Options) { o.ShutdownGrace = -1 }, []string{"--shutdown-grace"}},
		"sample":           {func(o *app.Options) { o.SamplePercent = 101 }, []string{"[0,100]"}},
		"engine address":   {func(o *app.Options) { o.EngineAddr = "dns://%%" }, []string{"--engine-addr"}},
		"unknown baseline": {func(o *app.Options) { o.Baseline = "formula=x" }, []string{"heuristic=<file>, model=<registry entry> or caller=<name>@<version>"}},
		"caller's version": {func(o *app.Options) { o.Baseline = "caller=desk" }, []string{"--baseline caller=", "want <name>@<version>"}},
		"tolerance 0":      {func(o *app.Options) { o.Shadow.MatchTolerance = 0 }, []string{"match tolerance 0: want more than 0"}},
		"tolerance 1":      {func(o *app.Options) { o.Shadow.MatchTolerance = 1 }, []string{"match tolerance 1"}},
		"tolerance NaN":    {func(o *app.Options) { o.Shadow.MatchTolerance = math.NaN() }, []string{"match tolerance NaN"}},
		"threshold":        {func(o *app.Options) { o.Shadow.DecisionThreshold = 1 }, []string{"decision threshold 1", "or 0 for none"}},
		"threshold NaN":    {func(o *app.Options) { o.Shadow.DecisionThreshold = math.NaN() }, []string{"decision threshold NaN"}},
		"model server":     {func(o *app.Options) { o.EngineAddr, o.EngineSchema = "oip://localhost:1", "v1.8.1" }, []string{"--engine-addr", "the model is missing", "oip://host:port?model=name"}},
		"no schema of it":  {func(o *app.Options) { o.EngineAddr = "oip://localhost:1?model=m" }, []string{"give --engine-schema"}},
		"no such schema":   {func(o *app.Options) { o.EngineAddr, o.EngineSchema = "oip://localhost:1?model=m", "no/such.yaml" }, []string{"--engine-schema", "no/such.yaml"}},
		"schema too many":  {func(o *app.Options) { o.EngineSchema = "v1.8.1" }, []string{"--engine-schema is for a model server"}},
		"breaker":          {func(o *app.Options) { o.Shadow.Breaker.MaxErrorRate = 2 }, []string{"error rate 2"}},
		"address file":     {func(o *app.Options) { o.AddressFile = "no/such/file" }, []string{"address file"}},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t, engine)
			tt.change(o)
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

func TestNumbersOfFlags(t *testing.T) {
	for value, want := range map[string]uint32{"1": 1, "4294967295": 4294967295, "-1": 0, "5x": 0, "1e3": 0, "4294967296": 0, "": 0} {
		fs := flag.NewFlagSet("executor", flag.ContinueOnError)
		fs.SetOutput(io.Discard)
		o := app.Flags(fs)
		err := fs.Parse([]string{"--breaker-min-requests=" + value})
		if (err == nil) != (want > 0) || err == nil && o.Shadow.Breaker.MinRequests != want {
			t.Errorf("%q: got %d, %v; want %d (0 is a refusal)", value, o.Shadow.Breaker.MinRequests, err, want)
		}
	}
}
