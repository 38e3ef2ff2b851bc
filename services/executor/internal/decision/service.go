package decision

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/shadow"
	"github.com/greenlight-ml/greenlight/pkg/shadow/spans"
	"github.com/greenlight-ml/greenlight/pkg/telemetry"
	"github.com/greenlight-ml/greenlight/pkg/text"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/executor/internal/gate"
	"github.com/greenlight-ml/greenlight/services/executor/internal/live"
)

// maxSpanID limits the request id in a span, in bytes.
const maxSpanID = 128

// Rollout decides which requests get a shadow. It may change between requests.
type Rollout interface {
	// Sampled reports whether a request with that arrival time gets a shadow. It must not block.
	Sampled(requestID string, arrival time.Time) bool
	// Percent returns the current percentage of requests that get a shadow, in [0,100].
	Percent() float64
	// Instance returns a random id of this process.
	Instance() string
}

// Service answers with the baseline and hands sampled requests to the shadow. The gate may answer with the model's score.
type Service struct {
	executorv1.UnimplementedDecisionServiceServer

	baseline *Baseline
	rollout  Rollout
	gate     *gate.Keeper
	shadow   *shadow.Dispatcher
	schemas  *feature.Known
	book     *live.Book
	metrics  *Metrics
	// tracer starts the spans of messages; nil if traces are off.
	tracer *telemetry.Tracer
	// ahead is how far an event_time may be ahead of the clock; 0 is no limit.
	ahead time.Duration
	// limit limits the messages of streams; nil is no limit.
	limit func(context.Context) error
	// stopping is closed when streams must end.
	stopping chan struct{}
}

// New returns a service.
func New(b *Baseline, r Rollout, g *gate.Keeper, d *shadow.Dispatcher, book *live.Book, m *Metrics) *Service {
	return &Service{baseline: b, rollout: r, gate: g, shadow: d, schemas: d.Schemas(), book: book, metrics: m, stopping: make(chan struct{})}
}

// LimitEventTimes makes the service ignore an event_time more than ahead of the clock; 0 is no limit. Call it before the
// first request.
func (s *Service) LimitEventTimes(ahead time.Duration) { s.ahead = ahead }

// Trace makes the service start a span for each message of a stream, and describe the spans of calls. Call it before the first
// request.
func (s *Service) Trace(t *telemetry.Tracer) { s.tracer = t }

// LimitMessages makes the service call limit before each message of a stream except the first, which was counted when the stream
// was opened. If limit returns an error, that is the answer to the message. Call it before the first request.
func (s *Service) LimitMessages(limit func(context.Context) error) { s.limit = limit }

// Predict implements DecisionService.
func (s *Service) Predict(ctx context.Context, req *executorv1.PredictRequest) (*executorv1.PredictResponse, error) {
	d, err := s.predict(ctx, req, time.Time{}, s.tracer.Sampled(ctx))
	if err != nil {
		return nil, err
	}
	if d.gate != nil {
		d.gate.Wait(ctx)
	}
	resp := &executorv1.PredictResponse{}
	s.fill(resp, &d)
	return resp, nil
}

// decided is a decision, or a request that the gate has yet to decide.
type decided struct {
	id          string
	baseline    float64
	sampled     bool
	featureTime *timestamppb.Timestamp
	// gate is nil unless a gate is set.
	gate *gate.Pending
	// span is nil unless the request's trace is sampled.
	span trace.Span
}

// predict begins the decision on a request of Predict or Decide and hands it to the shadow. deadline is a message's deadline,
// zero if there is none. span is nil unless the request's trace is sampled.
func (s *Service) predict(ctx context.Context, req *executorv1.PredictRequest, deadline time.Time, span trace.Span) (decided, error) {
	a, err := s.answer(req, span)
	if err != nil {
		return decided{}, err
	}
	d := decided{id: a.id, baseline: a.score, sampled: s.rollout.Sampled(a.id, a.arrival), featureTime: a.featureTime(), span: span}
	d.gate = s.consider(ctx, &a, deadline, false)
	r := a.shadowRequest()
	r.Span = span
	if d.gate != nil {
		r.Gated = d.gate
	}
	switch {
	case !d.sampled:
		s.shadow.Skip(r)
	case d.gate != nil && d.gate.Waits():
		s.shadow.Advise(r)
	default:
		s.shadow.Detach(r)
	}
	return d, nil
}

// fill sets every field of the response. If there is a gate, it must have decided.
func (s *Service) fill(resp *executorv1.PredictResponse, d *decided) {
	resp.RequestId, resp.Score, resp.ShadowSampled, resp.FeatureTime = d.id, d.baseline, d.sampled, d.featureTime
	resp.ModelVersion, resp.ModelDigest, resp.Gate = s.baseline.Version, s.baseline.Digest, nil
	if d.gate != nil {
		s.fillGated(resp, d)
	}
	s.describe(d.span, d.id, d.sampled, d.gate)
}

func (s *Service) fillGated(resp *executorv1.PredictResponse, d *decided) {
	made, _ := d.gate.Decision()
	resp.Score, resp.Gate = made.Score, d.gate.Proto(s.baseline.Digest)
	if made.ByModel() {
		resp.ModelVersion, resp.ModelDigest = d.gate.Model()
	}
}

// describe sets the attributes of a decision's span. It does nothing without one.
func (s *Service) describe(span trace.Span, id string, sampled bool, p *gate.Pending) {
	if span == nil {
		return
	}
	span.SetAttributes(attribute.String("greenlight.request_id", text.Cut(id, maxSpanID)), attribute.Bool("greenlight.shadow.sampled", sampled),
		attribute.String("greenlight.baseline.version", s.baseline.Version))
	if p != nil {
		made, _ := p.Decision()
		spans.Gate(span, made)
	}
}
