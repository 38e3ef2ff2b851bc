package decision_test

import (
	"context"
	"io"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
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

// BenchmarkPredict measures the handler without an engine: the cost of a decision, and of submitting a shadow. The shadow ends
// there for lack of a schema; BenchmarkDetach of pkg/shadow measures the rest.
func BenchmarkPredict(b *testing.B) {
	for name, percent := range map[string]float64{"shadow off": 0, "shadow half": 50, "shadow all": 100} {
		b.Run(name, func(b *testing.B) {
			s, req := benchmarked(b, percent)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Predict(b.Context(), req); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// benchmarked returns the service without an engine, and a request.
func benchmarked(b *testing.B, percent float64) (*decision.Service, *executorv1.PredictRequest) {
	b.Helper()
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
	s := decision.New(baseline, fixed(b, percent), ungated(b), d, emptyBook(b), decision.NewMetrics(prometheus.NewRegistry()))
	x := enginetest.Vector(rand.New(rand.NewPCG(1, 1)), a.Schema)
	return s, &executorv1.PredictRequest{
		RequestId: "SIM-PERP-1736121660000", Symbol: "SIM-PERP", Vector: &executorv1.FeatureVector{Schema: a.Schema.Name, Values: x},
	}
}

// repeated is a stream with the same message n times.
type repeated struct {
	grpc.ServerStream

	ctx     context.Context
	n       int
	request *executorv1.PredictRequest
}

func (r *repeated) Context() context.Context { return r.ctx }

func (r *repeated) RecvMsg(m any) error {
	if r.n == 0 {
		return io.EOF
	}
	r.n--
	m.(*executorv1.DecideRequest).Request = r.request
	return nil
}

func (*repeated) SendMsg(any) error { return nil }

// BenchmarkDecide measures the handler's cost of a message, without a shadow.
func BenchmarkDecide(b *testing.B) {
	s, req := benchmarked(b, 0)
	b.ReportAllocs()
	b.ResetTimer()
	stream := &repeated{ctx: b.Context(), n: b.N, request: req}
	if err := s.Decide(&grpc.GenericServerStream[executorv1.DecideRequest, executorv1.DecideResponse]{ServerStream: stream}); err != nil {
		b.Fatal(err)
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
