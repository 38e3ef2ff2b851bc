package deploytest

import (
	"path/filepath"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/rpc"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	"github.com/greenlight-ml/greenlight/pkg/testkit/need"
	"github.com/greenlight-ml/greenlight/pkg/testkit/tracetest"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/process"
)

// One collector gets the trace of a decision from a real executor and that of the call to a real ml-engine, which is linked to it.
func TestTracesOfThePair(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs the programs")
	}
	const trace = "0af7651916cd43dd8448eb211c80319c"
	dir, models := need.Programs(t, filepath.Join(deploy, ".."), "ml-engine", "executor"), enginetest.Registry(t, "v1.8.1", "v1")
	a, err := model.OpenRegistry(models).Load("test/v1")
	if err != nil {
		t.Fatal(err)
	}
	collector := tracetest.Start(t)
	services, traced := process.Services{Programs: dir, Models: models, Artifact: a}, []string{"--otlp-endpoint", collector.Addr, "--trace-ratio", "0"}
	engine, err := services.Engine(t.Context(), t.TempDir(), process.Listen{}, traced...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = engine.Stop(process.StopGrace) })
	executor, err := services.Executor(t.Context(), t.TempDir(), engine.Addr("grpc"), process.Listen{}, append(traced, "--shadow-timeout", "10s")...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = executor.Stop(process.StopGrace) })
	conn, err := rpc.Dial(executor.Addr("grpc"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", "00-"+trace+"-b7ad6b7169203331-01")
	for sent := 1; ; sent++ { // until ml-engine is reached
		resp, err := executorv1.NewDecisionServiceClient(conn).PredictWithShadow(ctx, &executorv1.PredictWithShadowRequest{
			Vector: &executorv1.FeatureVector{Schema: "v1.8.1", Values: []float64{1, 0, 0, 0, 0, 0, 0}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if resp.GetShadow() != nil {
			break
		}
		if sent == 1000 {
			t.Fatal(resp)
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-t.Context().Done():
		}
	}
	if got := tracetest.Exemplars(t, "http://"+executor.Addr("http")+"/metrics", "ml_shadow_latency_ms"); !slices.Contains(got, trace) {
		t.Errorf("exemplars %v, want one of the trace", got)
	}
	if err := executor.Stop(process.StopGrace); err != nil {
		t.Error(err)
	}
	if err := engine.Stop(process.StopGrace); err != nil {
		t.Error(err)
	}
	spans := collector.Spans()
	scored := tracetest.Find(spans, "ml-engine", "greenlight.mlengine.v1.ScoringService/StreamPredict")
	batches, shadows := tracetest.Find(spans, "executor", "ml-engine batch"), tracetest.Find(spans, "executor", "shadow")
	if len(scored) == 0 || len(scored) != len(batches) {
		t.Fatalf("%d messages at ml-engine, %d sent, want as many and at least 1: %+v", len(scored), len(batches), spans)
	}
	for _, s := range scored {
		i := slices.IndexFunc(batches, func(b tracetest.Span) bool { return b.ID == s.Parent && b.Trace == s.Trace })
		if i < 0 {
			t.Fatalf("no batch is the parent of %+v", s)
		}
		if !slices.ContainsFunc(shadows, func(row tracetest.Span) bool { return row.Trace == trace && slices.Contains(batches[i].Links, row.ID) }) {
			t.Errorf("%+v is linked to no shadow of the trace", batches[i])
		}
	}
}
