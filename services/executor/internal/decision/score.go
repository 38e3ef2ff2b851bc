package decision

import (
	"context"
	"crypto/rand"
	"fmt"
	"math"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/rpc"
	"github.com/greenlight-ml/greenlight/pkg/shadow"
	"github.com/greenlight-ml/greenlight/pkg/telemetry"
	"github.com/greenlight-ml/greenlight/services/executor/internal/gate"
)

// answer is a decision: the baseline's score, and the data that the shadow needs.
type answer struct {
	id, symbol string
	source     shadow.Source
	event      time.Time
	// undated is set if the event_time was ignored, so that the state's age is unknown.
	undated bool
	input   input
	// fault is why the state cannot be scored; nil if it can. It is set only if the caller's score decides: otherwise such a
	// request fails.
	fault   error
	score   float64
	arrival time.Time
	took    time.Duration
}

// answer scores the request with the baseline, or takes the caller's score. No shadow is involved: the decision is complete
// before a shadow begins. span is nil unless the request's trace is sampled.
func (s *Service) answer(req request, span trace.Span) (answer, error) {
	a := answer{arrival: time.Now(), id: req.GetRequestId(), symbol: req.GetSymbol(), source: shadow.SourceOf(req.GetSource())}
	if err := checkNames(req); err != nil {
		return a, err
	}
	own, err := s.callerScore(req)
	if err != nil {
		return a, err
	}
	a.input, err = s.inputOf(req)
	switch {
	case own != nil: // the decision does not depend on the state
		a.score = *own
		if err != nil {
			a.fault = fmt.Errorf("the market state cannot be scored: %w", err)
		}
	case err != nil:
		return a, err
	default:
		var buffer [16]float64
		x, err := s.baseline.inputsOf(a.input.State, buffer[:0])
		if err != nil {
			return a, err
		}
		a.score = s.baseline.score.Score(x)
	}
	if a.id == "" {
		a.id = rand.Text()
	}
	if t := req.GetEventTime(); a.input.asOf > 0 {
		a.event = time.UnixMilli(a.input.asOf)
	} else if t != nil {
		var ok bool
		if a.event, ok = rpc.EventTime(t, a.arrival, s.ahead); !ok {
			s.metrics.eventIgnored.Inc()
			a.undated = true
		}
	}
	a.took = time.Since(a.arrival)
	telemetry.ObserveMS(s.metrics.latency, a.took, span)
	return a, nil
}

func (a *answer) shadowRequest() shadow.Request {
	return shadow.Request{
		ID: a.id, Symbol: a.symbol, Source: a.source, EventTime: a.event, Arrival: a.arrival,
		Baseline: a.score, BaselineLatency: a.took, State: a.input.State, Fault: a.fault,
	}
}

// consider gives the request to the gate and returns it; nil unless a gate is set. deadline is a message's deadline, zero if there
// is none. The baseline always decides a request that only compares.
func (s *Service) consider(ctx context.Context, a *answer, deadline time.Time, compares bool) *gate.Pending {
	if !s.gate.Allowed() {
		s.gate.Pass()
		return nil
	}
	c := gate.Case{
		ID: a.id, Symbol: a.symbol, Arrival: a.arrival, Baseline: a.score, State: a.input.State, Fault: a.fault, Compares: compares, Deadline: deadline,
	}
	switch {
	case a.undated:
		c.Age = math.MaxInt64
	case !a.event.IsZero():
		c.Age = a.arrival.Sub(a.event)
	}
	return s.gate.Begin(ctx, &c)
}

// featureTime returns the time of the features, nil if the caller computed them.
func (a *answer) featureTime() *timestamppb.Timestamp {
	if a.input.asOf == 0 {
		return nil
	}
	return timestamppb.New(time.UnixMilli(a.input.asOf))
}

// inputsOf appends the baseline's inputs of the state to dst.
func (b *Baseline) inputsOf(s shadow.State, dst []float64) ([]float64, error) {
	if columns, ok := b.columns[s.Schema]; ok {
		for _, c := range columns {
			dst = append(dst, s.Vector[c])
		}
		return dst, nil
	}
	var missing []string
	for _, f := range b.inputs.Features {
		name := f.Name
		x, ok := s.Value(name)
		if !ok {
			missing = append(missing, name)
		}
		dst = append(dst, x)
	}
	if len(missing) > 0 {
		return nil, rpc.ExecutorError(codes.InvalidArgument, reasonFeatureMissing, "the baseline %s needs %s", b.Version, rpc.Names(missing)).About(missing)
	}
	return dst, nil
}
