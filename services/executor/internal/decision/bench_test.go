package decision_test

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	protobuf "google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/rpc"
	"github.com/greenlight-ml/greenlight/pkg/shadow"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/executor/internal/decision"
)

// BenchmarkPredict measures the handler without an engine: the cost of a decision, and what submitting a shadow adds. The
// shadow ends there for lack of a schema; BenchmarkDetach of pkg/shadow measures the rest.
func BenchmarkPredict(b *testing.B) {
	for name, percent := range map[string]float64{"shadow off": 0, "shadow half": 50, "shadow all": 100} {
		b.Run(name, func(b *testing.B) {
			a := enginetest.Artifact(b, "v1.8.1", "any")
			path := filepath.Join(enginetest.Registry(b, "v1.8.1", "any"), "test", "any", model.BaselineFile)
			baseline, err := decision.LoadBaseline("heuristic="+path, "", nil)
			if err != nil {
				b.Fatal(err)
			}
			conn, err := rpc.Dial("passthrough:///127.0.0.1:1", nil) // nobody listens there
			if err != nil {
				b.Fatal(err)
			}
			opts := shadow.DefaultOptions()
			opts.Engine, opts.Logger = mlenginev1.NewScoringServiceClient(conn), slog.New(slog.DiscardHandler)
			opts.Registerer = prometheus.NewRegistry()
			d, err := shadow.New(opts)
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() {
				_ = d.Stop(context.WithoutCancel(b.Context()))
				_ = conn.Close()
			})
			s := decision.New(baseline, fixed(b, percent), d, emptyBook(b), decision.NewMetrics(prometheus.NewRegistry()))
			x := enginetest.Vector(rand.New(rand.NewPCG(1, 1)), a.Schema)
			req := &executorv1.PredictRequest{
				RequestId: "SIM-PERP-1736121660000", Symbol: "SIM-PERP", Vector: &executorv1.FeatureVector{Schema: a.Schema.Name, Values: x},
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Predict(b.Context(), req); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkDecode measures decoding a request, which gRPC does before it calls the handler.
func BenchmarkDecode(b *testing.B) {
	raw, err := protobuf.Marshal(&executorv1.PredictRequest{
		RequestId: "SIM-PERP-1736121660000", Symbol: "SIM-PERP", EventTime: timestamppb.Now(),
		Vector: &executorv1.FeatureVector{Schema: "v1.8.1", Values: make([]float64, 7)},
	})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := protobuf.Unmarshal(raw, &executorv1.PredictRequest{}); err != nil {
			b.Fatal(err)
		}
	}
}
