package app_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc/metadata"

	"github.com/greenlight-ml/greenlight/pkg/testkit/tracetest"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

const (
	callersTrace = "0af7651916cd43dd8448eb211c80319c"
	callersSpan  = "b7ad6b7169203331"
	unsampled    = "00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
)

// Each decision that its caller samples is one trace, for a call, a message and a POST. Its shadow is a child, the call to
// ml-engine links to it, and the exemplars have its id. A decision that its caller does not sample has no trace.
func TestTraces(t *testing.T) {
	collector, engine := tracetest.Start(t), loopback(t)
	o := options(t, engine)
	o.Tracing.Endpoint, o.Tracing.Ratio = collector.Addr, 0
	r := start(t, o)
	r.reached()
	client := executorv1.NewDecisionServiceClient(r.Conn)
	with := func(traceparent string) context.Context {
		return metadata.AppendToOutgoingContext(t.Context(), "traceparent", traceparent)
	}
	sampled := "00-" + callersTrace + "-" + callersSpan + "-01"
	if _, err := client.PredictWithShadow(with(unsampled), &executorv1.PredictWithShadowRequest{RequestId: "no", Vector: vector()}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.PredictWithShadow(with(sampled), &executorv1.PredictWithShadowRequest{RequestId: "call", Vector: vector()}); err != nil {
		t.Fatal(err)
	}
	stream, err := client.Decide(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	second := strings.ReplaceAll(sampled, callersTrace, strings.ReplaceAll(callersTrace, "0", "2"))
	for _, parent := range []string{second, unsampled, "", "00-zz", strings.Repeat("0", 1000)} {
		if err := stream.Send(&executorv1.DecideRequest{Traceparent: parent, Request: &executorv1.PredictRequest{RequestId: "message", Vector: vector()}}); err != nil {
			t.Fatal(err)
		}
		if answer, err := stream.Recv(); err != nil || answer.GetResponse() == nil {
			t.Fatalf("%q: %v, %v", parent, answer, err)
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	post(t, r.HTTP+"/predict-with-shadow", strings.ReplaceAll(sampled, callersTrace, strings.ReplaceAll(callersTrace, "0", "3")))

	_, page := r.Get("/metrics")
	if strings.Contains(page, "trace_id") {
		t.Error("the text format has an exemplar, which its readers do not know")
	}
	exemplars := tracetest.Exemplars(t, r.HTTP+"/metrics", "ml_baseline_latency_ms")
	for name, got := range map[string][]string{"ml_baseline_latency_ms": exemplars, "ml_shadow_latency_ms": tracetest.Exemplars(t, r.HTTP+"/metrics", "ml_shadow_latency_ms")} {
		if len(got) == 0 {
			t.Errorf("%s has no exemplar", name)
		}
		exemplars = append(exemplars, got...)
	}
	if err := r.Stop(); err != nil { // the last spans leave
		t.Fatal(err)
	}

	spans := collector.Spans()
	calls, messages := tracetest.Find(spans, "executor", "greenlight.executor.v1.DecisionService/PredictWithShadow"), tracetest.Find(spans, "executor", "greenlight.executor.v1.DecisionService/Decide")
	posts, shadows, batches := tracetest.Find(spans, "executor", "POST /predict-with-shadow"), tracetest.Find(spans, "executor", "shadow"), tracetest.Find(spans, "executor", "ml-engine batch")
	if len(calls) != 1 || len(messages) != 1 || len(posts) != 1 || len(shadows) != 3 || len(spans) != 6+len(batches) {
		t.Fatalf("got %d calls, %d messages, %d POSTs, %d shadows of %d spans, want 1, 1, 1, 3: %+v", len(calls), len(messages), len(posts), len(shadows), len(spans), spans)
	}
	if c := calls[0]; c.Trace != callersTrace || c.Parent != callersSpan || c.Attributes["greenlight.request_id"] != "call" {
		t.Errorf("the call is %+v", c)
	}
	decisions := map[string]string{calls[0].Trace: calls[0].ID, messages[0].Trace: messages[0].ID, posts[0].Trace: posts[0].ID}
	for _, trace := range exemplars {
		if decisions[trace] == "" {
			t.Errorf("an exemplar has the trace %s, which is that of no decision", trace)
		}
	}
	linked := map[string]bool{}
	for _, b := range batches {
		if b.Parent != "" || decisions[b.Trace] != "" || len(b.Links) == 0 {
			t.Errorf("a call to ml-engine is not a trace with links: %+v", b)
		}
		for _, id := range b.Links {
			linked[id] = true
		}
	}
	for _, s := range shadows {
		outcome := s.Attributes["greenlight.shadow.outcome"]
		if s.Parent == "" || s.Parent != decisions[s.Trace] || !linked[s.ID] || (outcome != "match" && outcome != "mismatch") ||
			s.Attributes["greenlight.model.version"] != "v1.8.1-test" {
			t.Errorf("a shadow is not the linked child of its decision: %+v", s)
		}
		for key, v := range s.Attributes {
			if f, ok := v.(float64); ok && key != "greenlight.shadow.delta" {
				t.Errorf("%s = %v may be a feature", key, f)
			}
		}
	}
}

// A missing collector costs neither decisions nor the exit code.
func TestAbsentCollector(t *testing.T) {
	o := options(t, loopback(t))
	o.Tracing.Endpoint, o.Tracing.Ratio = "127.0.0.1:1", 1
	r := start(t, o)
	if _, err := executorv1.NewDecisionServiceClient(r.Conn).Predict(t.Context(), &executorv1.PredictRequest{Vector: vector()}); err != nil {
		t.Error(err)
	}
	if err := r.Stop(); err != nil {
		t.Error(err)
	}
	if !strings.Contains(r.Log(), "spans are lost") {
		t.Errorf("the log does not say that spans are lost:\n%s", r.Log())
	}
}

func post(t *testing.T, url, traceparent string) {
	t.Helper()
	body, err := json.Marshal(map[string]any{"vector": map[string]any{"schema": "v1.8.1", "values": vector().GetValues()}})
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(string(body)))
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Traceparent", traceparent)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("status %d", resp.StatusCode)
	}
}
