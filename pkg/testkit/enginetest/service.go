package enginetest

import (
	"context"
	"fmt"
	"math"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/rpc"
	"github.com/greenlight-ml/greenlight/pkg/shadow/batches"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

// service answers like ml-engine in everything that a shadow can observe; a test of ml-engine compares the two. It does not
// fully check features sent by name, which only people use.
type service struct {
	mlenginev1.UnimplementedScoringServiceServer

	engine   *Engine
	stopping chan struct{}
}

// unary is a service without StreamPredict.
type unary struct {
	mlenginev1.ScoringServiceServer
}

// StreamPredict implements ScoringService.
func (unary) StreamPredict(batches.Stream) error {
	return status.Error(codes.Unimplemented, "enginetest: no StreamPredict")
}

func refuse(reason, format string, args ...any) error {
	return rpc.EngineError(codes.InvalidArgument, reason, format, args...)
}

// Predict implements ScoringService: a batch of one row.
func (s *service) Predict(ctx context.Context, req *mlenginev1.PredictRequest) (*mlenginev1.PredictResponse, error) {
	schema := s.engine.Model().Schema
	batch := &mlenginev1.BatchPredictRequest{Schema: schema.Name}
	if v := req.GetVector(); v != nil {
		batch.Schema, batch.Values = v.GetSchema(), v.GetValues()
	} else {
		for _, f := range schema.Features {
			x, ok := req.GetFeatures()[f.Name]
			if !ok && f.Name != feature.Bias {
				return nil, refuse("FEATURE_MISSING", "%s is missing", f.Name)
			}
			if !ok {
				x = 1
			}
			batch.Values = append(batch.Values, x)
		}
	}
	resp, err := s.BatchPredict(ctx, batch)
	if err != nil {
		return nil, err
	}
	if len(resp.GetErrors()) > 0 {
		return nil, refuse("FEATURE_INVALID", "%s", resp.GetErrors()[0].GetMessage())
	}
	return &mlenginev1.PredictResponse{
		RequestId: req.GetRequestId(), Score: resp.GetScores()[0],
		ModelVersion: resp.GetModelVersion(), ModelDigest: resp.GetModelDigest(),
	}, nil
}

// BatchPredict implements ScoringService.
func (s *service) BatchPredict(ctx context.Context, req *mlenginev1.BatchPredictRequest) (*mlenginev1.BatchPredictResponse, error) {
	e := s.engine
	m, fault := e.Model(), e.fault.Load()
	defer e.enter(ctx, req, m.Schema.Len())()
	if fault.Before != nil {
		if err := fault.Before(ctx); err != nil {
			return nil, err
		}
	}
	n, k := len(req.GetValues()), m.Schema.Len()
	switch {
	case req.GetSchema() != m.Schema.Name:
		return nil, refuse("SCHEMA_MISMATCH", "schema %q: the active model needs %q", req.GetSchema(), m.Schema.Name)
	case n == 0:
		return nil, refuse("BATCH_EMPTY", "the batch has no rows")
	case n%k != 0:
		return nil, refuse("VECTOR_LENGTH", "the batch has %d values: not a multiple of %d", n, k)
	case len(req.GetWatchedValues()) != n/k*len(req.GetWatched()):
		return nil, refuse("VECTOR_LENGTH", "%d watched values: want %d of %d rows", len(req.GetWatchedValues()), len(req.GetWatched()), n/k)
	case len(req.GetEventTimesMs()) > 0 && len(req.GetEventTimesMs()) != n/k:
		return nil, refuse("VECTOR_LENGTH", "%d event times: want %d", len(req.GetEventTimesMs()), n/k)
	}
	resp := &mlenginev1.BatchPredictResponse{
		Scores: make([]float64, n/k), ModelVersion: m.Manifest.Version, ModelDigest: m.Digest(),
	}
	for i := range resp.GetScores() {
		x := req.GetValues()[i*k : (i+1)*k]
		if bad := invalidColumn(m.Schema, x); bad >= 0 {
			resp.Scores[i] = math.NaN()
			resp.Errors = append(resp.Errors, &mlenginev1.RowError{
				Row: uint32(i), Reason: mlenginev1.ErrorReason_ERROR_REASON_FEATURE_INVALID,
				Message: fmt.Sprintf("row %d: %s is %v", i, m.Schema.Features[bad].Name, x[bad]),
			})
			continue
		}
		resp.Scores[i] = m.Scorer.Score(x)
	}
	if fault.After != nil {
		fault.After(resp)
	}
	return resp, nil
}

// StreamPredict implements ScoringService.
func (s *service) StreamPredict(stream batches.Stream) error {
	return batches.Answer(faultyStream{stream, s.engine}, s.stopping, s.BatchPredict)
}

// faultyStream sends through the engine's fault.
type faultyStream struct {
	batches.Stream

	engine *Engine
}

// Send implements the stream.
func (s faultyStream) Send(resp *mlenginev1.BatchPredictResponse) error {
	if send := s.engine.fault.Load().Send; send != nil {
		return send(s.Stream, resp)
	}
	return s.Stream.Send(resp)
}

func invalidColumn(schema *feature.Schema, x []float64) int {
	for i, v := range x {
		if math.IsNaN(v) || math.IsInf(v, 0) || schema.Features[i].Name == feature.Bias && v != 1 {
			return i
		}
	}
	return -1
}

// enter records a call. The returned function records its end.
func (e *Engine) enter(ctx context.Context, req *mlenginev1.BatchPredictRequest, k int) (leave func()) {
	c := Call{
		Schema: req.GetSchema(), Rows: len(req.GetValues()) / k, Arrival: time.Now(),
		Watched: req.GetWatched(), WatchedValues: req.GetWatchedValues(), EventTimesMS: req.GetEventTimesMs(),
	}
	if schema, ok := feature.Lookup(c.Schema); ok {
		c.Rows = len(req.GetValues()) / schema.Len()
	}
	if t, ok := ctx.Deadline(); ok {
		c.Timeout = time.Until(t)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.calls = append(e.calls, c)
	e.inFlight++
	e.peak = max(e.peak, e.inFlight)
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.inFlight--
	}
}

// GetModelInfo implements ScoringService.
func (s *service) GetModelInfo(ctx context.Context, _ *mlenginev1.GetModelInfoRequest) (*mlenginev1.GetModelInfoResponse, error) {
	m, fault := s.engine.Model(), s.engine.fault.Load()
	if fault.Everywhere && fault.Before != nil {
		if err := fault.Before(ctx); err != nil {
			return nil, err
		}
	}
	info := &mlenginev1.GetModelInfoResponse{
		Name: m.Manifest.Name, Version: m.Manifest.Version, Digest: m.Digest(), Family: m.Spec.Family,
		Schema: m.Spec.Schema, SchemaHash: m.Spec.SchemaHash,
	}
	ranges := m.Ranges()
	for i, f := range m.Schema.Features {
		described := &mlenginev1.FeatureInfo{Name: f.Name, Unit: f.Unit, Description: f.Description}
		if ranges != nil {
			described.ProfileLow, described.ProfileHigh = &ranges[i].Low, &ranges[i].High
		}
		info.Features = append(info.Features, described)
	}
	if fault.Info != nil {
		fault.Info(info)
	}
	return info, nil
}
