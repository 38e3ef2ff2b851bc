package decision

import (
	"context"
	"crypto/rand"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/rpc"
	"github.com/greenlight-ml/greenlight/pkg/shadow"
	"github.com/greenlight-ml/greenlight/pkg/telemetry"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/executor/internal/live"
)

// Rollout says which requests get a shadow, and changes while they come in.
type Rollout interface {
	// Sampled says whether the request that arrived then gets a shadow. Requests call it: it waits for nobody.
	Sampled(requestID string, arrival time.Time) bool
	// Percent is the share of the requests that get a shadow now, in [0,100].
	Percent() float64
	// Instance is a random id of this process.
	Instance() string
}

// Service answers with the baseline and hands sampled requests to the shadow.
type Service struct {
	executorv1.UnimplementedDecisionServiceServer

	baseline *Baseline
	rollout  Rollout
	shadow   *shadow.Dispatcher
	book     *live.Book
	metrics  *Metrics
	// ahead is by how much an event_time may be ahead of the clock; 0 is no limit.
	ahead time.Duration
	// stopping is closed when streams are to end.
	stopping chan struct{}
}

// New returns a service.
func New(b *Baseline, r Rollout, d *shadow.Dispatcher, book *live.Book, m *Metrics) *Service {
	return &Service{baseline: b, rollout: r, shadow: d, book: book, metrics: m, stopping: make(chan struct{})}
}

// LimitEventTimes ignores an event_time that is ahead of the clock by more than ahead; 0 is no limit. It is called before
// the first request.
func (s *Service) LimitEventTimes(ahead time.Duration) { s.ahead = ahead }

// answer is the decision: the baseline's score, and what the shadow needs to know of how it came about.
type answer struct {
	id, symbol string
	source     shadow.Source
	event      time.Time
	input      input
	score      float64
	arrival    time.Time
	took       time.Duration
}

// answer forms the decision. Nothing in here can see a shadow: the answer is complete before one is begun.
func (s *Service) answer(req request) (answer, error) {
	a := answer{arrival: time.Now(), id: req.GetRequestId(), symbol: req.GetSymbol(), source: shadow.SourceOf(req.GetSource())}
	var err error
	if a.input, err = s.inputOf(req); err != nil {
		return a, err
	}
	var buffer [16]float64
	x, err := s.baseline.inputsOf(a.input.State, buffer[:0])
	if err != nil {
		return a, err
	}
	a.score = s.baseline.score.Score(x)
	if a.id == "" {
		a.id = rand.Text()
	}
	if t := req.GetEventTime(); a.input.asOf > 0 {
		a.event = time.UnixMilli(a.input.asOf)
	} else if t != nil {
		var ok bool
		if a.event, ok = rpc.EventTime(t, a.arrival, s.ahead); !ok {
			s.metrics.eventIgnored.Inc()
		}
	}
	a.took = time.Since(a.arrival)
	s.metrics.latency.Observe(telemetry.Milliseconds(a.took))
	return a, nil
}

func (a *answer) shadowRequest() shadow.Request {
	return shadow.Request{
		ID: a.id, Symbol: a.symbol, Source: a.source, EventTime: a.event, Arrival: a.arrival,
		Baseline: a.score, BaselineLatency: a.took, State: a.input.State,
	}
}

// featureTime is when the features are of, nil when the caller computed them.
func (a *answer) featureTime() *timestamppb.Timestamp {
	if a.input.asOf == 0 {
		return nil
	}
	return timestamppb.New(time.UnixMilli(a.input.asOf))
}

// Predict implements DecisionService.
func (s *Service) Predict(_ context.Context, req *executorv1.PredictRequest) (*executorv1.PredictResponse, error) {
	a, err := s.answer(req)
	if err != nil {
		return nil, err
	}
	sampled := s.rollout.Sampled(a.id, a.arrival)
	if sampled {
		s.shadow.Detach(a.shadowRequest())
	} else {
		s.shadow.Skip(a.shadowRequest())
	}
	return &executorv1.PredictResponse{
		RequestId: a.id, Score: a.score, ShadowSampled: sampled,
		ModelVersion: s.baseline.Version, ModelDigest: s.baseline.Digest, FeatureTime: a.featureTime(),
	}, nil
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
