package scoring_test

import (
	"log/slog"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/ml-engine/internal/monitor"
	"github.com/greenlight-ml/greenlight/services/ml-engine/internal/scoring"
)

// BenchmarkPredict measures the handler; gRPC costs a hundred times as much. Compared with a model that is not watched, drift
// costs at most 100 ns and no allocation.
func BenchmarkPredict(b *testing.B) {
	a := enginetest.Artifact(b, "v1.8.1", version)
	x := enginetest.Vector(rand.New(rand.NewPCG(1, 1)), a.Schema)
	inputs := map[string]float64{"mid": 100, "spread_bp": 2, "vol1m": 3, "rsi14": 50}
	w := watch(b, a)
	for _, tt := range []struct {
		name   string
		watch  *monitor.Watch
		inputs map[string]float64
	}{{"unwatched", nil, nil}, {"watched", w, nil}, {"unwatched with inputs", nil, inputs}, {"watched with inputs", w, inputs}} {
		b.Run(tt.name, func(b *testing.B) {
			req := &mlenginev1.PredictRequest{
				RequestId: "SIM-PERP-1736121660000", Symbol: "SIM-PERP", Watched: tt.inputs,
				Vector: &mlenginev1.FeatureVector{Schema: a.Schema.Name, Values: x},
			}
			s := scoring.New(scoring.Loaded{Artifact: a, Watch: tt.watch}, scoring.NewMetrics(prometheus.NewRegistry()))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Predict(b.Context(), req); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// watch counts the drift of the scored rows. Its monitor is stopped, so that nothing runs during a benchmark.
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
	if err := m.Stop(b.Context()); err != nil {
		b.Fatal(err)
	}
	return w
}

func BenchmarkBatchPredict(b *testing.B) {
	a := enginetest.Artifact(b, "v1.8.1", version)
	rng := rand.New(rand.NewPCG(1, 1))
	for name, w := range map[string]*monitor.Watch{"unwatched": nil, "watched": watch(b, a)} {
		s := scoring.New(scoring.Loaded{Artifact: a, Watch: w}, scoring.NewMetrics(prometheus.NewRegistry()))
		for _, rows := range []int{1, 16, 64, 1024} {
			b.Run(name+"/"+strconv.Itoa(rows), func(b *testing.B) {
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
}

// BenchmarkDecode measures decoding a request, which gRPC does before it calls the handler.
func BenchmarkDecode(b *testing.B) {
	raw, err := proto.Marshal(&mlenginev1.PredictRequest{
		RequestId: "SIM-PERP-1736121660000", Symbol: "SIM-PERP", EventTime: timestamppb.Now(),
		Vector: &mlenginev1.FeatureVector{Schema: "v1.8.1", Values: make([]float64, 7)},
	})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := proto.Unmarshal(raw, &mlenginev1.PredictRequest{}); err != nil {
			b.Fatal(err)
		}
	}
}
