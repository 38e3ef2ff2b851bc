package decision

import (
	"context"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/shadow"
	"github.com/greenlight-ml/greenlight/pkg/telemetry"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/executor/internal/live"
)

// Rollout decides which requests get a shadow. It may change between requests.
type Rollout interface {
	// Sampled reports whether a request with that arrival time gets a shadow. It must not block.
	Sampled(requestID string, arrival time.Time) bool
	// Percent returns the current percentage of requests that get a shadow, in [0,100].
	Percent() float64
	// Instance returns a random id of this process.
	Instance() string
}

// Service answers with the baseline and hands sampled requests to the shadow.
type Service struct {
	executorv1.UnimplementedDecisionServiceServer

	baseline *Baseline
	rollout  Rollout
	shadow   *shadow.Dispatcher
	schemas  *feature.Known
	book     *live.Book
	metrics  *Metrics
	// ahead is how far an event_time may be ahead of the clock; 0 is no limit.
	ahead time.Duration
	// limit limits the messages of streams; nil is no limit.
	limit func(context.Context) error
	// stopping is closed when streams must end.
	stopping chan struct{}
}

// New returns a service.
func New(b *Baseline, r Rollout, d *shadow.Dispatcher, book *live.Book, m *Metrics) *Service {
	return &Service{baseline: b, rollout: r, shadow: d, schemas: d.Schemas(), book: book, metrics: m, stopping: make(chan struct{})}
}

// LimitEventTimes makes the service ignore an event_time more than ahead of the clock; 0 is no limit. Call it before the
// first request.
func (s *Service) LimitEventTimes(ahead time.Duration) { s.ahead = ahead }

// LimitMessages makes the service ask limit before each message of a stream but the first, which was counted when the stream
// was opened. A message for which limit returns an error is answered with it. Call it before the first request.
func (s *Service) LimitMessages(limit func(context.Context) error) { s.limit = limit }

// Predict implements DecisionService.
func (s *Service) Predict(_ context.Context, req *executorv1.PredictRequest) (*executorv1.PredictResponse, error) {
	resp := &executorv1.PredictResponse{}
	if err := s.predict(req, resp); err != nil {
		return nil, err
	}
	return resp, nil
}

// predict decides on a request of Predict or Decide, hands it to the shadow and sets every field of the response.
func (s *Service) predict(req *executorv1.PredictRequest, resp *executorv1.PredictResponse) error {
	a, err := s.answer(req)
	if err != nil {
		return err
	}
	sampled := s.rollout.Sampled(a.id, a.arrival)
	if sampled {
		s.shadow.Detach(a.shadowRequest())
	} else {
		s.shadow.Skip(a.shadowRequest())
	}
	resp.RequestId, resp.Score, resp.ShadowSampled = a.id, a.score, sampled
	resp.ModelVersion, resp.ModelDigest, resp.FeatureTime = s.baseline.Version, s.baseline.Digest, a.featureTime()
	return nil
}

// PredictWithShadow implements DecisionService.
func (s *Service) PredictWithShadow(ctx context.Context, req *executorv1.PredictWithShadowRequest) (*executorv1.PredictWithShadowResponse, error) {
	a, err := s.answer(req)
	if err != nil {
		return nil, err
	}
	resp := &executorv1.PredictWithShadowResponse{
		RequestId: a.id, FeatureTime: a.featureTime(),
		Baseline: &executorv1.Score{Score: a.score, ModelVersion: s.baseline.Version, ModelDigest: s.baseline.Digest},
	}
	if !s.rollout.Sampled(a.id, a.arrival) {
		s.shadow.Skip(a.shadowRequest())
		resp.Outcome = executorv1.ShadowOutcome(shadow.NotSampled)
		return resp, nil
	}
	r := s.shadow.Wait(ctx, a.shadowRequest())
	resp.Outcome = executorv1.ShadowOutcome(r.Outcome)
	resp.ShadowLatencyMs = telemetry.Milliseconds(r.Latency)
	if r.Outcome.Compared() {
		resp.Shadow = &executorv1.Score{Score: r.Score, ModelVersion: r.Version, ModelDigest: r.Digest}
		resp.Comparison = &executorv1.Comparison{Delta: r.Delta, Match: r.Outcome == shadow.Match}
	} else if r.Err != nil {
		resp.ShadowError = r.Err.Error()
	}
	return resp, nil
}
