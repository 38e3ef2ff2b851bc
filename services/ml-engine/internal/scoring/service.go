// Package scoring is ml-engine's ScoringService, and its GRPCInferenceService of the Open Inference Protocol.
package scoring

import (
	"context"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/oip/gen/inference"
	"github.com/greenlight-ml/greenlight/pkg/rpc"
	"github.com/greenlight-ml/greenlight/pkg/shadow/batches"
	"github.com/greenlight-ml/greenlight/pkg/telemetry"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/ml-engine/internal/monitor"
)

// MaxRows is how many rows a batch may have.
const MaxRows = 10_000

// Service scores with the active model.
type Service struct {
	mlenginev1.UnimplementedScoringServiceServer

	metrics  *Metrics
	tracer   *telemetry.Tracer // nil if traces are off
	active   atomic.Pointer[snapshot]
	stopping chan struct{} // closed by EndStreams
}

// Loaded is a model that is ready to score.
type Loaded struct {
	*model.Artifact

	// Watch counts what the model scores; nil counts nothing.
	Watch *monitor.Watch
	// At is when it was loaded.
	At time.Time
}

// snapshot is a model with everything that a request needs. A request uses one snapshot, and so one model, throughout.
type snapshot struct {
	Loaded

	metrics modelMetrics
}

// New returns a service whose active model is l.
func New(l Loaded, m *Metrics) *Service {
	s := &Service{metrics: m, stopping: make(chan struct{})}
	s.active.Store(&snapshot{Loaded: l, metrics: s.metrics.of(l.Artifact)})
	return s
}

// Trace makes the service start a span for each message of a stream that has a trace context. Call it before the first request.
func (s *Service) Trace(t *telemetry.Tracer) { s.tracer = t }

// Version returns the active model's version.
func (s *Service) Version() string { return s.active.Load().Manifest.Version }

// Active returns the active model.
func (s *Service) Active() Loaded {
	return s.active.Load().Loaded
}

// Activate makes next active and returns the previous model. Requests in flight finish with the model that they began with.
func (s *Service) Activate(next Loaded) (previous Loaded) {
	return s.active.Swap(&snapshot{Loaded: next, metrics: s.metrics.of(next.Artifact)}).Loaded
}

// EndStreams ends open streams once they have answered what they have read, and new ones immediately, so that a graceful stop
// need not wait for them. It must be called only once.
func (s *Service) EndStreams() { close(s.stopping) }

// Refused counts a call or a message that gRPC or the HTTP facade refused before it reached its handler. It counts only calls to
// prediction methods.
func (s *Service) Refused(method string, code codes.Code) {
	m := s.active.Load().metrics
	switch method {
	case mlenginev1.ScoringService_Predict_FullMethodName, mlenginev1.ScoringService_BatchPredict_FullMethodName,
		mlenginev1.ScoringService_StreamPredict_FullMethodName, inference.GRPCInferenceService_ModelInfer_FullMethodName:
	default:
		return
	}
	if code == codes.ResourceExhausted {
		m.exhausted.Inc()
		return
	}
	m.invalid.Inc() // whatever the code: gRPC answers undecodable bytes with INTERNAL, but they are the caller's error
}

// Predict implements ScoringService.
func (s *Service) Predict(ctx context.Context, req *mlenginev1.PredictRequest) (*mlenginev1.PredictResponse, error) {
	start := time.Now()
	m := s.active.Load()
	defer func() { telemetry.ObserveMS(m.metrics.latency, time.Since(start), s.tracer.Sampled(ctx)) }()

	x, err := vectorOf(m.Schema, req)
	var watched watchedInputs
	if err == nil {
		err = watched.of(req)
	}
	if err != nil {
		m.metrics.invalid.Inc()
		return nil, err
	}
	score := m.Scorer.Score(x)
	if !valid(score) {
		m.metrics.internal.Inc()
		return nil, rpc.EngineError(codes.Internal, mlenginev1.ErrorReason_ERROR_REASON_SCORE_INVALID,
			"model %s scored %v: want a number in [0,1]; activate another model", m.Manifest.Version, score)
	}
	m.metrics.ok.Inc()
	m.metrics.score.Observe(score)
	m.Watch.Observe(start, monitor.Rows{
		X: x, Scores: []float64{score}, Inputs: watched.names[:watched.n], Values: watched.values[:watched.n],
		EventMS: []int64{eventMS(req)}, Sources: []mlenginev1.Source{req.GetSource()},
	})
	return &mlenginev1.PredictResponse{
		RequestId: req.GetRequestId(), Score: score,
		ModelVersion: m.Manifest.Version, ModelDigest: m.Manifest.Digest,
	}, nil
}

// BatchPredict implements ScoringService.
func (s *Service) BatchPredict(ctx context.Context, req *mlenginev1.BatchPredictRequest) (*mlenginev1.BatchPredictResponse, error) {
	start := time.Now()
	m := s.active.Load()
	defer func() { telemetry.ObserveMS(m.metrics.latency, time.Since(start), s.tracer.Sampled(ctx)) }()

	rows, err := shapeOf(m.Schema, req)
	if err != nil {
		m.metrics.invalid.Inc()
		return nil, err
	}
	resp := &mlenginev1.BatchPredictResponse{
		Scores: make([]float64, rows), ModelVersion: m.Manifest.Version, ModelDigest: m.Manifest.Digest,
	}
	resp.Errors = m.score(start, monitor.Rows{
		X: req.GetValues(), Scores: resp.GetScores(),
		Inputs: req.GetWatched(), Values: req.GetWatchedValues(), EventMS: req.GetEventTimesMs(), Sources: req.GetSources(),
	})
	return resp, nil
}

// score sets the scores of the rows that arrived at start, and counts the rows. It returns the errors of rows without a score, in
// ascending order; their scores are NaN.
func (m *snapshot) score(start time.Time, rows monitor.Rows) (errs []*mlenginev1.RowError) {
	k := m.Schema.Len()
	m.Scorer.Scores(rows.Scores, rows.X) // even for invalid rows: their scores are replaced
	var failed [2]int                    // invalid rows, invalid scores
	for i, score := range rows.Scores {
		x := rows.X[i*k : (i+1)*k]
		if bad := firstInvalid(m.Schema, x); bad >= 0 {
			rows.Scores[i] = math.NaN()
			errs = append(errs, &mlenginev1.RowError{
				Row: uint32(i), Reason: mlenginev1.ErrorReason_ERROR_REASON_FEATURE_INVALID,
				Message: fmt.Sprintf("row %d: %s", i, invalidValue(m.Schema, bad, x[bad])),
			})
			failed[0]++
			continue
		}
		if !valid(score) {
			rows.Scores[i] = math.NaN()
			errs = append(errs, &mlenginev1.RowError{
				Row: uint32(i), Reason: mlenginev1.ErrorReason_ERROR_REASON_SCORE_INVALID,
				Message: fmt.Sprintf("row %d: model %s scored %v: want a number in [0,1]", i, m.Manifest.Version, score),
			})
			failed[1]++
			continue
		}
		m.metrics.score.Observe(score)
	}
	m.metrics.invalid.Add(float64(failed[0]))
	m.metrics.internal.Add(float64(failed[1]))
	m.metrics.ok.Add(float64(len(rows.Scores) - failed[0] - failed[1]))
	m.Watch.Observe(start, rows)
	return errs
}

// StreamPredict implements ScoringService: a BatchPredict for each message.
func (s *Service) StreamPredict(stream batches.Stream) error {
	err := batches.Answer(stream, s.stopping, s.message)
	// Only gRPC ends a stream with these codes: if a message is too large or does not decode.
	if code := status.Code(err); code == codes.ResourceExhausted || code == codes.Internal {
		s.Refused(mlenginev1.ScoringService_StreamPredict_FullMethodName, code)
	}
	return err
}

// message answers a message of StreamPredict. The sender decides whether it is traced.
func (s *Service) message(ctx context.Context, req *mlenginev1.BatchPredictRequest) (*mlenginev1.BatchPredictResponse, error) {
	if s.tracer == nil || req.GetTraceparent() == "" {
		return s.BatchPredict(ctx, req)
	}
	ctx, span := s.tracer.Serve(ctx, mlenginev1.ScoringService_StreamPredict_FullMethodName[1:], req.GetTraceparent())
	resp, err := s.BatchPredict(ctx, req)
	telemetry.EndSpan(span, err)
	return resp, err
}

// GetModelInfo implements ScoringService.
func (s *Service) GetModelInfo(context.Context, *mlenginev1.GetModelInfoRequest) (*mlenginev1.GetModelInfoResponse, error) {
	m := s.active.Load()
	features, ranges := make([]*mlenginev1.FeatureInfo, 0, m.Schema.Len()), m.Ranges()
	for i, f := range m.Schema.Features {
		info := &mlenginev1.FeatureInfo{Name: f.Name, Unit: f.Unit, Description: f.Description}
		if d := f.Domain; d != nil {
			info.DomainLow, info.DomainHigh = &d[0], &d[1]
		}
		if ranges != nil {
			info.ProfileLow, info.ProfileHigh = &ranges[i].Low, &ranges[i].High
		}
		features = append(features, info)
	}
	return &mlenginev1.GetModelInfoResponse{
		ScoreMeaning: m.Schema.Score, Label: labelOf(m.Spec.Label),
		Name: m.Manifest.Name, Version: m.Manifest.Version, Digest: m.Manifest.Digest, Family: m.Spec.Family,
		Schema: m.Spec.Schema, SchemaHash: m.Spec.SchemaHash, Features: features,
		TrainStartTime: timestamppb.New(m.Manifest.Training.Start),
		TrainEndTime:   timestamppb.New(m.Manifest.Training.End),
		LoadTime:       timestamppb.New(m.At),
		Auc:            m.Manifest.Evaluation.AUC,
		PrecisionAt_20: m.Manifest.Evaluation.PrecisionAt20,
	}, nil
}

// labelOf returns the label as a message, or nil for an unknown label.
func labelOf(l model.Label) *mlenginev1.Label {
	if l == (model.Label{}) {
		return nil
	}
	info := &mlenginev1.Label{Kind: l.Kind(), Threshold: l.Threshold, Column: l.Column}
	if l.HorizonMinutes > 0 {
		info.Horizon = durationpb.New(l.Horizon())
	}
	return info
}

// valid reports whether a score is a number in [0,1]; NaN is not.
func valid(score float64) bool { return score >= 0 && score <= 1 }
