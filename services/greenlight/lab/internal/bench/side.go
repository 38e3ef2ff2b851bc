package bench

import (
	"context"
	"fmt"
	"math"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/greenlight-ml/greenlight/pkg/model"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	live "github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/process"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
	"github.com/greenlight-ml/greenlight/services/greenlight/lab/internal/rig"
)

// side is one server as the client sees it: one connection, and a call that checks its answer.
type side struct {
	name    string
	process *process.Process
	conn    *grpc.ClientConn
	call    Call
	// loop is the closed loop, unless that uses call.
	loop func(ctx context.Context, underWay int, s span) (Sample, error)
	// answerSize is the size of an answer in bytes. It must be the same on both sides of a ratio.
	answerSize int
}

// Sides of the ratios, by their names in the result.
const (
	echoScoring  = "echo, ml-engine's messages"
	engineSide   = "ml-engine"
	echoDecision = "echo, executor's messages"
	shadowOff    = "executor, shadow off"
	shadowOn     = "executor, 100 % shadow"
	tracedOff    = "executor, traces on, not sampled" // and shadow off
	batchSide    = "ml-engine, batches"
	noGroup      = "executor, no group"
	inGroup      = "executor in a group over NATS"
	shadowFresh  = "executor, shadow off, just started" // the reference for a failing ml-engine, also just started

	// Over streams: one decision in flight on each, or all on one.
	decideOff    = "Decide, shadow off"
	decideOn     = "Decide, 100 % shadow"
	decideOneOff = "Decide over one stream, shadow off"
	echoStreams  = "echo over streams"
	echoOne      = "echo over one stream"
	decideFresh  = "Decide, shadow off, just started"
	decideFull   = "Decide, 100 % shadow, 8 full streams"
	pingPong     = "Unix socket"
)

// scoreOf and baselineOf return the answers that ml-engine and executor must give.
func scoreOf(s traffic.State) float64    { return s.Score }
func baselineOf(s traffic.State) float64 { return s.Baseline }

// scoring makes the side call ScoringService.Predict with the states as vectors. want returns the expected score of a state.
func (s *side) scoring(ctx context.Context, a *model.Artifact, states []traffic.State, want func(traffic.State) float64) error {
	return calling(ctx, s, states, want, mlenginev1.NewScoringServiceClient(s.conn).Predict, func(st traffic.State) *mlenginev1.PredictRequest {
		return &mlenginev1.PredictRequest{
			RequestId: st.ID, Symbol: st.Symbol, EventTime: st.Time, Vector: &mlenginev1.FeatureVector{Schema: a.Schema.Name, Values: st.Vector},
		}
	})
}

// decision is like scoring for DecisionService.Predict, or for decisions over a given number of streams, or one per decision
// in flight.
func (s *side) decision(ctx context.Context, a *model.Artifact, states []traffic.State, want func(traffic.State) float64, streams int) error {
	client := executorv1.NewDecisionServiceClient(s.conn)
	request := func(st traffic.State) *executorv1.PredictRequest { return st.VectorRequest(a.Schema.Name) }
	err := calling(ctx, s, states, want, client.Predict, request) // waits until the server answers
	if err != nil || streams == 0 {
		return err
	}
	d := newDecider([]executorv1.DecisionServiceClient{client}, a.Schema.Name, states, want)
	s.loop = func(ctx context.Context, underWay int, t span) (Sample, error) {
		n := min(underWay, streams)
		return d.closed(ctx, n, underWay/n, t)
	}
	over := traffic.NewStreams(client, streams) // they end with the connection
	s.call = func(ctx context.Context, i int) error {
		k := i % len(states)
		resp, err := over.Decide(ctx, d.requests[k])
		if err != nil {
			return err
		}
		return s.check(resp, d.want[k], states[k].ID)
	}
	return nil
}

// calling makes the side call predict with the states. It waits until the server answers the first.
func calling[Req any, Resp answer](ctx context.Context, s *side, states []traffic.State, want func(traffic.State) float64,
	predict func(context.Context, Req, ...grpc.CallOption) (Resp, error), request func(traffic.State) Req,
) error {
	requests := make([]Req, len(states))
	for i, st := range states {
		requests[i] = request(st)
	}
	s.call = func(ctx context.Context, i int) error {
		k := i % len(states)
		resp, err := predict(ctx, requests[k])
		if err != nil {
			return err
		}
		return s.check(resp, want(states[k]), states[k].ID)
	}
	resp, err := predict(ctx, requests[0], grpc.WaitForReady(true))
	s.answerSize = proto.Size(resp)
	return err
}

// batch makes the side call BatchPredict repeatedly with the same rows.
func (s *side) batch(a *model.Artifact, states []traffic.State, rows int) {
	request := &mlenginev1.BatchPredictRequest{Schema: a.Schema.Name}
	for i := range rows {
		request.Values = append(request.Values, states[i%len(states)].Vector...)
	}
	client := mlenginev1.NewScoringServiceClient(s.conn)
	s.call = func(ctx context.Context, _ int) error {
		resp, err := client.BatchPredict(ctx, request)
		if err != nil {
			return err
		}
		if got := len(resp.GetScores()); got != rows {
			return fmt.Errorf("%s answered %d scores for %d rows", s.name, got, rows)
		}
		for i, score := range resp.GetScores() {
			if want := states[i%len(states)].Score; math.Float64bits(score) != math.Float64bits(want) {
				return fmt.Errorf("%s scored row %d of a batch %v: want %v", s.name, i, score, want)
			}
		}
		return nil
	}
}

// answer is the common part of both services' answers.
type answer interface {
	proto.Message
	GetRequestId() string
	GetScore() float64
}

func (s *side) check(got answer, want float64, id string) error {
	if math.Float64bits(got.GetScore()) != math.Float64bits(want) || got.GetRequestId() != id {
		return fmt.Errorf("%s answered %v to %q with %v: want %v", s.name, got.GetRequestId(), id, got.GetScore(), want)
	}
	return nil
}

// closed measures a closed loop.
func (s *side) closed(ctx context.Context, underWay int, t span) (Sample, error) {
	return s.timed(func() (Sample, error) {
		if s.loop != nil {
			return s.loop(ctx, underWay, t)
		}
		return closedLoop(ctx, underWay, t, s.call)
	})
}

// open measures an open loop. It counts calls that are refused because the queue is full, as after a pause of this machine;
// their latency is the time until the refusal.
func (s *side) open(ctx context.Context, rate float64, seed uint64, t span) (Sample, error) {
	sleep, done := rig.PreciseSleep()
	defer done()
	var refused atomic.Int64
	call := func(ctx context.Context, i int) error {
		err := s.call(ctx, i)
		if status.Code(err) == codes.ResourceExhausted {
			refused.Add(1)
			return nil
		}
		return err
	}
	result, err := s.timed(func() (Sample, error) { return openLoop(ctx, rate, seed, t, sleep, call) })
	result.refused = refused.Load()
	return result, err
}

func (s *side) timed(measure func() (Sample, error)) (Sample, error) {
	before, _ := rig.CPU(s.process.PID())
	result, err := measure()
	if err != nil {
		if ended := s.process.Err(); ended != nil {
			err = ended
		}
		return result, fmt.Errorf("%s: %w", s.name, err)
	}
	if after, ok := rig.CPU(s.process.PID()); ok {
		result.cpu = after - before
	}
	return result, nil
}

// settle waits until the executor has no shadow in flight, and returns its counters. It returns an error unless every request
// has had exactly one outcome.
func (s *side) settle(ctx context.Context) (live.Counters, error) {
	c, err := live.NewExecutor(s.name, s.conn).Settle(ctx)
	if err == nil && c.Ended() != c.Requests {
		err = fmt.Errorf("%s: %d requests have %d outcomes", s.name, c.Requests, c.Ended())
	}
	return c, err
}
