package scoring_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/oip/gen/inference"
	"github.com/greenlight-ml/greenlight/pkg/rpc"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/ml-engine/internal/monitor"
	"github.com/greenlight-ml/greenlight/services/ml-engine/internal/scoring"
)

const version = "v1.8.1-test"

// engine is the service with a real server and client in memory.
type engine struct {
	client  mlenginev1.ScoringServiceClient
	oip     inference.GRPCInferenceServiceClient
	conn    *grpc.ClientConn
	service *scoring.Service
	drift   *monitor.Service
	model   *model.Artifact
	reg     *prometheus.Registry
}

func start(t *testing.T, a *model.Artifact) *engine {
	t.Helper()
	logger := slog.New(slog.DiscardHandler)
	watching, err := monitor.Open(monitor.Options{Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	watch, err := watching.Watch(a)
	if err != nil {
		t.Fatal(err)
	}
	watching.Activate(watch)
	e := &engine{model: a, reg: prometheus.NewRegistry(), drift: monitor.NewService(watching)}
	service := scoring.New(scoring.Loaded{Artifact: a, Watch: watch}, scoring.NewMetrics(e.reg))
	e.service = service
	server := rpc.NewServer(rpc.ServerOptions{
		Logger: logger, Registerer: prometheus.NewRegistry(), OnRefused: service.Refused,
	})
	mlenginev1.RegisterScoringServiceServer(server, service)
	scoring.RegisterInference(server, service, model.OpenRegistry(enginetest.Registry(t, "v1.8.1", "v1.8.1-other")))
	server.Ready()
	l := bufconn.Listen(1 << 20)
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	conn, err := rpc.Dial("passthrough:///bufnet", nil, grpc.WithContextDialer(
		func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		server.Stop()
		if err := errors.Join(<-served, watching.Stop(context.WithoutCancel(t.Context()))); err != nil {
			t.Error(err)
		}
	})
	e.client, e.oip, e.conn = mlenginev1.NewScoringServiceClient(conn), inference.NewGRPCInferenceServiceClient(conn), conn
	return e
}

func startTest(t *testing.T) *engine {
	return start(t, enginetest.Artifact(t, "v1.8.1", version))
}

// counts are ml_predict_requests_total by status.
func (e *engine) counts(t *testing.T) map[string]float64 {
	t.Helper()
	families, err := e.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]float64{}
	for _, f := range families {
		if f.GetName() != "ml_predict_requests_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			if m.GetLabel()[0].GetValue() != version {
				t.Errorf("model_version: got %q, want %q", m.GetLabel()[0].GetValue(), version)
			}
			counts[m.GetLabel()[1].GetValue()] = m.GetCounter().GetValue()
		}
	}
	return counts
}

// wantCounts checks all statuses; the others must be zero.
func (e *engine) wantCounts(t *testing.T, want map[string]float64) {
	t.Helper()
	got := e.counts(t)
	for _, s := range []string{"ok", "invalid_argument", "resource_exhausted", "internal"} {
		if v, ok := got[s]; !ok || v != want[s] {
			t.Errorf("count of %s: got %v (there: %v), want %v", s, v, ok, want[s])
		}
	}
}

// wantError checks the code, reason and names of a failed call.
func wantError(t *testing.T, err error, code codes.Code, reason, names string) {
	t.Helper()
	s := status.Convert(err)
	if s.Code() != code {
		t.Errorf("code: got %v (%v), want %v", s.Code(), err, code)
	}
	if reason == "" {
		return
	}
	if len(s.Details()) != 1 {
		t.Fatalf("details: got %v, want one", s.Details())
	}
	info, ok := s.Details()[0].(*errdetails.ErrorInfo)
	if !ok || info.GetDomain() != "mlengine.greenlight" || info.GetReason() != reason || info.GetMetadata()["features"] != names {
		t.Errorf("detail: got %v, want reason %s with the names %q", s.Details()[0], reason, names)
	}
}

// good is a valid state by name.
func good(schema *feature.Schema) map[string]float64 {
	m := map[string]float64{}
	for i, f := range schema.Features {
		m[f.Name] = float64(i) / 4
	}
	m[feature.Bias] = 1
	return m
}

// goodVector is the same state as a vector.
func goodVector(schema *feature.Schema) []float64 {
	x := make([]float64, schema.Len())
	for i, f := range schema.Features {
		x[i] = good(schema)[f.Name]
	}
	return x
}
