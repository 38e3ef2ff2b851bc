package promote

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/oip"
	"github.com/greenlight-ml/greenlight/pkg/oip/gen/inference"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

// engine is an ml-engine in memory.
type engine struct {
	mlenginev1.ScoringServiceClient
	mlenginev1.ModelRegistryServiceClient

	version, digest string
	err             error
	server          inference.GRPCInferenceServiceClient
	// refuses is the error of an activation.
	refuses error
}

func (e *engine) GetModelInfo(context.Context, *mlenginev1.GetModelInfoRequest, ...grpc.CallOption) (*mlenginev1.GetModelInfoResponse, error) {
	return &mlenginev1.GetModelInfoResponse{Version: e.version, Digest: e.digest}, e.err
}

func (e *engine) ActivateModel(_ context.Context, req *mlenginev1.ActivateModelRequest, _ ...grpc.CallOption) (*mlenginev1.ActivateModelResponse, error) {
	if e.refuses != nil {
		return nil, e.refuses
	}
	_, version, _ := cut(req.GetModel())
	e.version, e.digest = version, req.GetDigest()
	return &mlenginev1.ActivateModelResponse{}, nil
}

// modelServer is a model server in memory.
type modelServer struct {
	inference.GRPCInferenceServiceClient
}

func (modelServer) ServerMetadata(context.Context, *inference.ServerMetadataRequest, ...grpc.CallOption) (*inference.ServerMetadataResponse, error) {
	return &inference.ServerMetadataResponse{Name: "triton", Version: "2.46.0"}, nil
}

// executor is an executor in memory.
type executor struct {
	executorv1.ShadowServiceClient

	digest string
	err    error
	// process is drawn when it is empty.
	process string
	// tolerance is 0 for an executor that does not name it.
	tolerance float64
}

func (e *executor) GetShadowReport(context.Context, *executorv1.GetShadowReportRequest, ...grpc.CallOption) (*executorv1.GetShadowReportResponse, error) {
	r := &executorv1.GetShadowReportResponse{
		StartTime: timestamppb.Now(), ReportTime: timestamppb.Now(), InstanceId: e.process,
		BaselineVersion: "heuristic-v1", BaselineDigest: strings.Repeat("b", 64), ShadowDigest: e.digest,
		LatencyMsTotal: &executorv1.Histogram{Edges: []float64{1}, Counts: []uint64{0, 0}},
		Breaker:        &executorv1.BreakerStatus{State: executorv1.BreakerState_BREAKER_STATE_CLOSED},
		MatchTolerance: e.tolerance,
	}
	if r.InstanceId == "" {
		r.InstanceId = rand.Text()
	}
	if e.digest != "" {
		r.ShadowVersion = "v"
	}
	return r, e.err
}

func pairOf(engines []*engine, executors []*executor) *fleet.Services {
	p := &fleet.Services{}
	for _, e := range engines {
		p.Engines = append(p.Engines, fleet.Engine{Addr: "engine", Scoring: e, Models: e, Inference: e.server})
	}
	for _, e := range executors {
		p.Executors = append(p.Executors, fleet.Executor{Addr: "executor", Shadows: e})
	}
	return p
}

func TestServed(t *testing.T) {
	t.Parallel()
	s := newSetting(t)
	ours := s.made.Model.Digest()
	nines := strings.Repeat("9", 64)
	_, unpinned := oip.Identity("m", "1")
	noEngine := status.Error(codes.Unimplemented, "unknown service greenlight.mlengine.v1.ScoringService")
	away := status.Error(codes.Unavailable, "connection refused")
	for name, test := range map[string]struct {
		engines   []*engine
		executors []*executor
		blocker   string
		verdict   gate.Verdict
		reason    string
	}{
		"serves":                    {engines: []*engine{{version: "v", digest: ours}, {version: "v", digest: ours}}, blocker: EngineServes, verdict: gate.Pass},
		"serves another":            {engines: []*engine{{version: "v", digest: ours}, {version: "v9", digest: nines}}, blocker: EngineServes, verdict: gate.Fail, reason: "ml-engine engine serves v9 with digest 999999999999"},
		"engine is away":            {engines: []*engine{{err: away}}, blocker: EngineServes, verdict: gate.Error, reason: "Unavailable: connection refused"},
		"one away, one not":         {engines: []*engine{{err: away}, {version: "v9", digest: nines}}, blocker: EngineServes, verdict: gate.Fail, reason: "connection refused"},
		"shadows":                   {executors: []*executor{{digest: ours}}, blocker: ExecutorAsks, verdict: gate.Pass},
		"shadows another":           {executors: []*executor{{digest: nines}}, blocker: ExecutorAsks, verdict: gate.Fail, reason: "was answered by v with digest 999"},
		"shadows nobody yet":        {executors: []*executor{{}}, blocker: ExecutorAsks, verdict: gate.Inconclusive, reason: "no model has answered"},
		"engine says nothing":       {engines: []*engine{{}}, blocker: EngineServes, verdict: gate.Error, reason: "model_version is empty"},
		"report contradicts itself": {executors: []*executor{{digest: "999"}}, blocker: ExecutorAsks, verdict: gate.Error, reason: "shadow_digest is"},
		"shadows a model server":    {executors: []*executor{{digest: unpinned}}, blocker: ExecutorAsks, verdict: gate.Fail, reason: "executor executor was answered by v of a model server: its identity is only what a model server says, so it can be compared and judged, and neither promoted nor gated"},
		"engine is a model server":  {engines: []*engine{{err: noEngine, server: modelServer{}}}, blocker: EngineServes, verdict: gate.Fail, reason: "engine is not an ml-engine but a model server for the Open Inference Protocol (triton 2.46.0)"},
		"engine is another program": {engines: []*engine{{err: noEngine}}, blocker: EngineServes, verdict: gate.Error, reason: "Unimplemented"},
		"one executor twice":        {executors: []*executor{{digest: ours, process: "p"}, {digest: ours, process: "p"}}, blocker: ExecutorAsks, verdict: gate.Error, reason: `are one process ("p")`},
		"another tolerance":         {executors: []*executor{{digest: ours, tolerance: 0.1}}, blocker: ExecutorAsks, verdict: gate.Error, reason: "start it with --match-tolerance 0.05"},
		"executor is away":          {executors: []*executor{{err: away}}, blocker: ExecutorAsks, verdict: gate.Error, reason: "connection refused"},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			q := s.q
			p := pairOf(test.engines, test.executors)
			q.Engines, q.Executors = p.Engines, p.Executors
			c, err := Judge(t.Context(), q, s.now)
			if err != nil {
				t.Fatal(err)
			}
			if r := c.row(test.blocker); r == nil || r.Verdict != test.verdict || !strings.Contains(r.Reason, test.reason) {
				t.Errorf("got %+v, want %s %q", r, test.verdict, test.reason)
			}
		})
	}
}

var errKilled = errors.New("killed")
