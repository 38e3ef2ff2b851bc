package scoring_test

import (
	"log/slog"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/greenlight-ml/greenlight/pkg/enginetest"
	"github.com/greenlight-ml/greenlight/pkg/model"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/ml-engine/internal/monitor"
	"github.com/greenlight-ml/greenlight/services/ml-engine/internal/scoring"
)

// BenchmarkPredict is the handler alone: gRPC costs a hundred times as much.
func BenchmarkPredict(b *testing.B) {
	a := enginetest.Artifact(b, "v1.8.1", version)
	x := enginetest.Vector(rand.New(rand.NewPCG(1, 1)), a.Schema)
	req := &mlenginev1.PredictRequest{
		RequestId: "SIM-PERP-1736121660000", Symbol: "SIM-PERP", Vector: &mlenginev1.FeatureVector{Schema: a.Schema.Name, Values: x},
	}
	for name, w := range map[string]*monitor.Watch{"unwatched": nil, "watched": watch(b, a)} {
		b.Run(name, func(b *testing.B) {
			s := scoring.New(scoring.Loaded{Artifact: a, Watch: w}, scoring.NewMetrics(prometheus.NewRegistry()))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Predict(b.Context(), req); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// watch counts the drift of what the model scores.
func watch(b *testing.B, a *model.Artifact) *monitor.Watch {
	b.Helper()
	m, err := monitor.Open(monitor.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	w, err := m.Watch(a)
	if err != nil {
		b.Fatal(err)
	}
	return w
}

func BenchmarkBatchPredict(b *testing.B) {
	a := enginetest.Artifact(b, "v1.8.1", version)
	s := scoring.New(scoring.Loaded{Artifact: a, Watch: watch(b, a)}, scoring.NewMetrics(prometheus.NewRegistry()))
	rng := rand.New(rand.NewPCG(1, 1))
	for _, rows := range []int{1, 16, 64, 1024} {
		b.Run(strconv.Itoa(rows), func(b *testing.B) {
			req := &mlenginev1.BatchPredictRequest{Schema: a.Schema.Name}
			for range rows {
				req.Values = append(req.Values, enginetest.Vector(rng, a.Schema)...)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.BatchPredict(b.Context(), req); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(rows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}
