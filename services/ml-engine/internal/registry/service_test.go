package registry_test

import (
	"context"
	"log/slog"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/rpc"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/ml-engine/internal/monitor"
	"github.com/greenlight-ml/greenlight/services/ml-engine/internal/registry"
	"github.com/greenlight-ml/greenlight/services/ml-engine/internal/scoring"
)

// engine is the registry and the scoring service with a real server and client in memory.
type engine struct {
	dir     string
	models  mlenginev1.ModelRegistryServiceClient
	scoring mlenginev1.ScoringServiceClient
	drift   mlenginev1.DriftServiceClient
}

func start(t *testing.T, control rpc.ControlOptions, versions ...string) *engine {
	t.Helper()
	e := &engine{dir: enginetest.Registry(t, "v1.8.1", versions...)}
	models := model.OpenRegistry(e.dir)
	first, err := models.Load(versions[0])
	if err != nil {
		t.Fatal(err)
	}
	logger := slog.New(slog.DiscardHandler)
	watching, err := monitor.Open(monitor.Options{Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	watch, err := watching.Watch(first)
	if err != nil {
		t.Fatal(err)
	}
	watching.Activate(watch)
	t.Cleanup(func() {
		if err := watching.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	service := scoring.New(scoring.Loaded{Artifact: first, Watch: watch}, scoring.NewMetrics(prometheus.NewRegistry()))
	server := rpc.NewServer(rpc.ServerOptions{
		Logger: logger, Registerer: prometheus.NewRegistry(),
		Control: rpc.NewControl(control, logger, mlenginev1.ModelRegistryService_ServiceDesc.ServiceName),
	})
	mlenginev1.RegisterScoringServiceServer(server, service)
	mlenginev1.RegisterModelRegistryServiceServer(server, registry.New(registry.Options{Models: models, Scoring: service, Monitor: watching, Logger: logger}))
	mlenginev1.RegisterDriftServiceServer(server, monitor.NewService(watching))
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
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	e.models, e.scoring = mlenginev1.NewModelRegistryServiceClient(conn), mlenginev1.NewScoringServiceClient(conn)
	e.drift = mlenginev1.NewDriftServiceClient(conn)
	return e
}

var insecure = rpc.ControlOptions{Insecure: true}

// Under load, 1,000 swaps fail no request. Version, digest and score of every answer come from one model.
func TestSwapsUnderLoad(t *testing.T) {
	versions := []string{"v1.8.1-a", "v1.8.1-bb"}
	e := start(t, insecure, versions...)
	a := enginetest.Artifact(t, "v1.8.1", versions[0])
	x := a.Golden.Vectors[0].X
	want := map[string]float64{}
	for _, v := range versions {
		want[enginetest.Artifact(t, "v1.8.1", v).Digest()] = enginetest.Artifact(t, "v1.8.1", v).Scorer.Score(x)
	}
	if len(want) != 2 {
		t.Fatal("the two models are the same: nothing is swapped")
	}

	var stop atomic.Bool
	var requests atomic.Int64
	var load sync.WaitGroup
	for range 4 {
		load.Go(func() {
			for !stop.Load() {
				resp, err := e.scoring.BatchPredict(t.Context(), &mlenginev1.BatchPredictRequest{Schema: "v1.8.1", Values: x})
				if err != nil {
					t.Errorf("a request failed: %v", err)
					return
				}
				if got, ok := resp.GetScores()[0], want[resp.GetModelDigest()]; math.Float64bits(got) != math.Float64bits(ok) {
					t.Errorf("%s of digest %.12s scored %v, want %v", resp.GetModelVersion(), resp.GetModelDigest(), got, ok)
					return
				}
				requests.Add(1)
			}
		})
	}
	for i := range 1000 {
		v := versions[(i+1)%2]
		resp, err := e.models.ActivateModel(t.Context(), &mlenginev1.ActivateModelRequest{Model: v})
		if err != nil {
			t.Fatal(err)
		}
		if got := resp.GetActive().GetVersion(); got != v {
			t.Fatalf("active: got %s, want %s", got, v)
		}
	}
	stop.Store(true)
	load.Wait()
	if requests.Load() == 0 {
		t.Error("no request was made while models were swapped")
	}
}

func TestRollback(t *testing.T) {
	e := start(t, insecure, "v1.8.1-a", "v1.8.1-bb")
	_, err := e.models.RollbackModel(t.Context(), &mlenginev1.RollbackModelRequest{})
	wantCode(t, err, codes.FailedPrecondition, "no previous model")
	activate(t, e, "v1.8.1-bb")
	activate(t, e, "v1.8.1-bb") // again: no swap, so the previous model stays the same
	// Changes of the registry folder do not matter: the previous model is in memory.
	if err := os.RemoveAll(e.dir); err != nil {
		t.Fatal(err)
	}
	resp, err := e.models.RollbackModel(t.Context(), &mlenginev1.RollbackModelRequest{})
	if err != nil || resp.GetActive().GetVersion() != "v1.8.1-a" || resp.GetPrevious().GetVersion() != "v1.8.1-bb" {
		t.Fatalf("got %v (%v), want v1.8.1-a active and v1.8.1-bb before it", resp, err)
	}
	info, err := e.scoring.GetModelInfo(t.Context(), &mlenginev1.GetModelInfoRequest{})
	if err != nil || info.GetVersion() != "v1.8.1-a" {
		t.Errorf("scoring: got %s (%v), want v1.8.1-a", info.GetVersion(), err)
	}
}

// A failed activation leaves the active model in place.
func TestActivateRefuses(t *testing.T) {
	e := start(t, insecure, "v1.8.1-a", "v1.8.1-bb", "v1.8.1-ccc")
	damaged := filepath.Join(e.dir, "test", "v1.8.1-ccc", model.ModelFile)
	if err := os.WriteFile(damaged, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		req  *mlenginev1.ActivateModelRequest
		code codes.Code
		text string
	}{
		"no name":      {&mlenginev1.ActivateModelRequest{}, codes.InvalidArgument, "no model to activate"},
		"unknown":      {&mlenginev1.ActivateModelRequest{Model: "v9"}, codes.NotFound, "it has test/v1.8.1-a"},
		"path":         {&mlenginev1.ActivateModelRequest{Model: "../../etc"}, codes.NotFound, "has no model"},
		"damaged":      {&mlenginev1.ActivateModelRequest{Model: "v1.8.1-ccc"}, codes.FailedPrecondition, "v1.8.1-a stays active"},
		"other digest": {&mlenginev1.ActivateModelRequest{Model: "v1.8.1-bb", Digest: strings.Repeat("0", 12)}, codes.FailedPrecondition, "was expected"},
		"short digest": {&mlenginev1.ActivateModelRequest{Model: "v1.8.1-bb", Digest: enginetest.Artifact(t, "v1.8.1", "v1.8.1-bb").Digest()[:4]}, codes.FailedPrecondition, "at least 12"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := e.models.ActivateModel(t.Context(), tt.req)
			wantCode(t, err, tt.code, tt.text)
			resp, err := e.models.ListModels(t.Context(), &mlenginev1.ListModelsRequest{})
			if err != nil || resp.GetActive().GetVersion() != "v1.8.1-a" || resp.GetPrevious() != nil {
				t.Errorf("afterwards: got %v (%v), want v1.8.1-a active and nothing before it", resp, err)
			}
			if got := len(resp.GetModels()); got != 3 {
				t.Errorf("got %d models, want 3", got)
			}
		})
	}
}

// Control calls need the operators' token; scoring does not.
func TestControlNeedsTheToken(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("s3cret-s3cret-s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		opts  rpc.ControlOptions
		given string
		want  codes.Code
	}{
		"control is off": {rpc.ControlOptions{}, "Bearer s3cret-s3cret-s3cret", codes.PermissionDenied},
		"no token":       {rpc.ControlOptions{TokenFile: token}, "", codes.Unauthenticated},
		"wrong token":    {rpc.ControlOptions{TokenFile: token}, "Bearer guess", codes.PermissionDenied},
		"token":          {rpc.ControlOptions{TokenFile: token}, "Bearer s3cret-s3cret-s3cret", codes.OK},
		"no token file":  {rpc.ControlOptions{TokenFile: token + "x"}, "Bearer s3cret-s3cret-s3cret", codes.Unauthenticated},
		"insecure":       {insecure, "", codes.OK},
	} {
		t.Run(name, func(t *testing.T) {
			e := start(t, tt.opts, "v1.8.1-a")
			ctx := t.Context()
			if tt.given != "" {
				ctx = metadata.AppendToOutgoingContext(ctx, "authorization", tt.given)
			}
			_, err := e.models.ListModels(ctx, &mlenginev1.ListModelsRequest{})
			if got := status.Code(err); got != tt.want {
				t.Errorf("got %v (%v), want %v", got, err, tt.want)
			}
			if _, err := e.scoring.GetModelInfo(t.Context(), &mlenginev1.GetModelInfoRequest{}); err != nil {
				t.Errorf("scoring: %v", err)
			}
		})
	}
}

func TestInsecureControlIsForLoopback(t *testing.T) {
	for addr, ok := range map[string]bool{"127.0.0.1": true, "::1": true, "10.0.0.1": false, "0.0.0.0": false} {
		err := insecure.Validate(&net.TCPAddr{IP: net.ParseIP(addr), Port: 4010}, false)
		if (err == nil) != ok {
			t.Errorf("%s: got %v, want ok %t", addr, err, ok)
		}
	}
}

func activate(t *testing.T, e *engine, version string) {
	t.Helper()
	if _, err := e.models.ActivateModel(t.Context(), &mlenginev1.ActivateModelRequest{Model: version}); err != nil {
		t.Fatal(err)
	}
}

func wantCode(t *testing.T, err error, code codes.Code, text string) {
	t.Helper()
	if status.Code(err) != code || !strings.Contains(status.Convert(err).Message(), text) {
		t.Errorf("got %v, want %v with %q", err, code, text)
	}
}

// Every row is counted for the model that scored it, however often models are swapped under load. A model that becomes active again
// continues its counts.
func TestDriftFollowsTheModel(t *testing.T) {
	e := start(t, insecure, "a", "b")
	schema, _ := feature.Lookup("v1.8.1")
	rng := rand.New(rand.NewPCG(1, 1))
	scored := make(map[string]uint64)
	var mu sync.Mutex
	var load sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		x := enginetest.Vector(rng, schema)
		load.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				resp, err := e.scoring.Predict(t.Context(), &mlenginev1.PredictRequest{
					Vector: &mlenginev1.FeatureVector{Schema: "v1.8.1", Values: x}, Watched: map[string]float64{"mid": 100},
				})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				scored[resp.GetModelVersion()]++
				mu.Unlock()
			}
		})
	}
	for i := range 50 {
		if _, err := e.models.ActivateModel(t.Context(), &mlenginev1.ActivateModelRequest{Model: []string{"b", "a"}[i%2]}); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	load.Wait()
	for _, version := range []string{"b", "a"} {
		if _, err := e.models.ActivateModel(t.Context(), &mlenginev1.ActivateModelRequest{Model: version}); err != nil {
			t.Fatal(err)
		}
		got, err := e.drift.GetDrift(t.Context(), &mlenginev1.GetDriftRequest{})
		if err != nil || got.GetModelVersion() != version || got.GetRows() != scored[version] || got.GetRows() == 0 {
			t.Errorf("model %s: got %d rows of %s, %v; want %d", version, got.GetRows(), got.GetModelVersion(), err, scored[version])
		}
	}
}
