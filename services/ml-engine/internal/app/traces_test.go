package app_test

import (
	"slices"
	"testing"

	"google.golang.org/grpc/metadata"

	"github.com/greenlight-ml/greenlight/pkg/testkit/tracetest"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

// A message of a stream and a call are traced if their sender samples them, and are in its trace.
func TestTraces(t *testing.T) {
	const trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	collector, o := tracetest.Start(t), options(t)
	o.Tracing.Endpoint, o.Tracing.Ratio = "http://"+collector.Addr, 0
	s := start(t, o)
	client := mlenginev1.NewScoringServiceClient(s.Conn)
	row := []float64{1, 0, 0, 0, 0, 0, 0}
	stream, err := client.StreamPredict(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, traceparent := range []string{"00-" + trace + "-" + parent + "-01", "00-" + trace + "-" + parent + "-00", "", "zz"} {
		if err := stream.Send(&mlenginev1.BatchPredictRequest{Schema: "v1.8.1", Values: row, Traceparent: traceparent}); err != nil {
			t.Fatal(err)
		}
		if answer, err := stream.Recv(); err != nil || len(answer.GetScores()) != 1 {
			t.Fatalf("%q: %v, %v", traceparent, answer, err)
		}
	}
	ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", "00-"+trace+"-"+parent+"-01")
	if _, err := client.BatchPredict(ctx, &mlenginev1.BatchPredictRequest{Schema: "v1.8.1", Values: row}); err != nil {
		t.Fatal(err)
	}
	if got := tracetest.Exemplars(t, s.HTTP+"/metrics", "ml_predict_latency_ms"); !slices.Contains(got, trace) {
		t.Errorf("exemplars %v, want %s", got, trace)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	spans := collector.Spans()
	if len(spans) != 2 {
		t.Fatalf("got %d spans, want 2: %+v", len(spans), spans)
	}
	for _, name := range []string{"greenlight.mlengine.v1.ScoringService/StreamPredict", "greenlight.mlengine.v1.ScoringService/BatchPredict"} {
		if got := tracetest.Find(spans, "ml-engine", name); len(got) != 1 || got[0].Trace != trace || got[0].Parent != parent {
			t.Errorf("%s: got %+v, want one span in the trace of the sender", name, got)
		}
	}
}
