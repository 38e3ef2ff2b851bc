package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
)

const (
	// MaxUnanswered is how many messages of a stream of decisions may be unanswered: a client that keeps more only waits longer.
	MaxUnanswered = 64
	// GoodWithin is how long an answer is useful to a client.
	GoodWithin = 100 * time.Millisecond
)

// decider requests decisions over streams, which take the connections in turn, and checks the answers.
type decider struct {
	clients  []executorv1.DecisionServiceClient
	requests []*executorv1.PredictRequest
	want     []float64
}

func newDecider(clients []executorv1.DecisionServiceClient, schema string, states []traffic.State, want func(traffic.State) float64) *decider {
	d := &decider{clients: clients}
	for _, s := range states {
		d.requests, d.want = append(d.requests, s.VectorRequest(schema)), append(d.want, want(s))
	}
	return d
}

// A sequence holds the number of the decision, which selects its request, and its place among the unanswered ones.
func sequence(number uint64, place int) uint64 { return number*MaxUnanswered + uint64(place) }
func placeOf(m *executorv1.DecideResponse) int { return int(m.GetSequence() % MaxUnanswered) }

// message is the message of a decision.
func (d *decider) message(number uint64, place int) *executorv1.DecideRequest {
	return &executorv1.DecideRequest{Sequence: sequence(number, place), Request: d.requests[number%uint64(len(d.requests))]}
}

// right reports whether the answer is the right one.
func (d *decider) right(m *executorv1.DecideResponse) bool {
	k := m.GetSequence() / MaxUnanswered % uint64(len(d.requests))
	r := m.GetResponse()
	return r != nil && math.Float64bits(r.GetScore()) == math.Float64bits(d.want[k]) && r.GetRequestId() == d.requests[k].GetRequestId()
}

// closed runs a closed loop on n streams with underWay decisions in flight on each: each answer is followed by the next message.
func (d *decider) closed(ctx context.Context, n, underWay int, s span) (sample, error) {
	begin := time.Now().Add(s.warm)
	parts := make([]sample, n)
	err := together(ctx, s, n, func(ctx context.Context, i int) (err error) {
		parts[i], err = d.loop(ctx, d.clients[i%len(d.clients)], underWay, begin, begin.Add(s.length))
		return err
	})
	sum := sample{took: time.Since(begin), latency: newHistogram()}
	for _, p := range parts {
		if err == nil {
			sum.add(p)
		}
	}
	return sum, err
}

// together runs n functions until all have ended. The first error ends the others.
func together(ctx context.Context, s span, n int, fn func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer time.AfterFunc(s.warm+s.length+maxLatency, func() { cancel(errLost) }).Stop()
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() {
			if err := fn(ctx, i); err != nil {
				cancel(err)
			}
		})
	}
	group.Wait()
	return context.Cause(ctx)
}

// loop is the closed loop of one stream. Its sample has no duration.
func (d *decider) loop(ctx context.Context, client executorv1.DecisionServiceClient, underWay int, begin, end time.Time) (sample, error) {
	result := sample{latency: newHistogram()}
	stream, err := client.Decide(ctx)
	if err != nil {
		return result, err
	}
	number, unanswered := uint64(0), 0
	var since [MaxUnanswered]time.Time
	send := func(place int, now time.Time) error {
		since[place] = now
		err := stream.Send(d.message(number, place))
		number, unanswered = number+1, unanswered+1
		return err
	}
	now := time.Now()
	for err == nil && unanswered < underWay {
		err = send(unanswered, now)
	}
	for err == nil && unanswered > 0 {
		var m *executorv1.DecideResponse
		if m, err = stream.Recv(); err != nil {
			break
		}
		unanswered--
		if !d.right(m) {
			return result, fmt.Errorf("a stream answered %v", m)
		}
		now = time.Now()
		result.all++
		if asked := since[placeOf(m)]; !asked.Before(begin) {
			result.calls++
			record(result.latency, now.Sub(asked))
		}
		if now.Before(end) || result.calls == 0 {
			err = send(placeOf(m), now)
		}
	}
	return result, errors.Join(err, ending(stream))
}

// ending closes a stream whose messages are all answered.
func ending(stream executorv1.DecisionService_DecideClient) error {
	if err := stream.CloseSend(); err != nil {
		return err
	}
	if m, err := stream.Recv(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("a stream whose messages were answered: got %v, %w, want its end", m, err)
	}
	return nil
}

// Flood counts the decisions of an open loop over streams by result.
type Flood struct {
	// Due is the number of decisions that were due. NotSent of them were older than [GoodWithin] before a place was free.
	Due, NotSent int64
	// Good were answered correctly within [GoodWithin] of the time at which they were due. Late were correct but later, or had
	// expired. Wrong had another answer than expected. Refused were refused by a limit, and Failed had another error.
	Good, Late, Wrong, Failed, Refused int64
	Took                               time.Duration
}

// PerSecond is the goodput.
func (f Flood) PerSecond() float64 { return float64(f.Good) / f.Took.Seconds() }

// FloodStreams requests decisions at random times (Poisson) of the rate, in decisions per second, for the length, over a stream
// of each client. Like a trader it keeps at most [MaxUnanswered] unanswered on a stream, does not send what is older than
// [GoodWithin], and sends the newest first: the state of the market that matters is the last one. want are the scores that the
// requests must get.
func FloodStreams(ctx context.Context, clients []executorv1.DecisionServiceClient, requests []*executorv1.PredictRequest, want []float64,
	rate float64, seed uint64, length time.Duration,
) (Flood, error) {
	return (&decider{clients, requests, want}).flood(ctx, rate, seed, length)
}

func (d *decider) flood(ctx context.Context, rate float64, seed uint64, length time.Duration) (Flood, error) {
	flows := make([]*flow, len(d.clients))
	begin := time.Now()
	err := together(ctx, span{length: length}, len(flows), func(ctx context.Context, i int) error {
		flows[i] = &flow{
			decider: d, begin: begin, length: length,
			times: arrivals{rng: rand.New(rand.NewPCG(seed, uint64(i))), rate: rate / float64(len(flows))},
			free:  make(chan int, MaxUnanswered),
		}
		for place := range MaxUnanswered {
			flows[i].free <- place
		}
		return flows[i].run(ctx, d.clients[i])
	})
	sum := Flood{Took: length}
	for _, f := range flows {
		sum.Due, sum.NotSent = sum.Due+f.Due, sum.NotSent+f.NotSent
		sum.Good, sum.Late, sum.Wrong = sum.Good+f.Good, sum.Late+f.Late, sum.Wrong+f.Wrong
		sum.Failed, sum.Refused = sum.Failed+f.Failed, sum.Refused+f.Refused
	}
	return sum, err
}

// flow is the part of a flood that one stream has.
type flow struct {
	*decider
	Flood

	begin  time.Time
	length time.Duration
	times  arrivals
	// free has the places that no unanswered message takes; due are the times of those that do.
	free chan int
	due  [MaxUnanswered]time.Duration
	// pending are the times at which decisions that are not sent were due, the oldest first.
	pending []time.Duration
	next    time.Duration
}

func (f *flow) run(ctx context.Context, client executorv1.DecisionServiceClient) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := client.Decide(ctx)
	if err != nil {
		return err
	}
	received := make(chan error, 1)
	go func() {
		defer cancel() // the sender need not go on
		received <- f.receive(stream)
	}()
	sent := f.send(ctx, stream)
	if sent != nil {
		cancel()
	}
	if err := <-received; err != nil {
		return err
	}
	return sent
}

// send sends what is due until the length is over, and closes its side of the stream.
func (f *flow) send(ctx context.Context, stream executorv1.DecisionService_DecideClient) error {
	f.next = f.times.next()
	for number := uint64(0); ; number++ {
		var place int
		select {
		case place = <-f.free:
		case <-ctx.Done():
			return ctx.Err()
		}
		now := time.Since(f.begin)
		for f.advance(now); now < f.length && len(f.pending) == 0; f.advance(now) {
			if !traffic.Pause(ctx, f.next-now) {
				return ctx.Err()
			}
			now = time.Since(f.begin)
		}
		if now >= f.length {
			f.NotSent += int64(len(f.pending))
			return stream.CloseSend()
		}
		last := len(f.pending) - 1
		f.due[place], f.pending = f.pending[last], f.pending[:last]
		m := f.message(number, place)
		m.Deadline = timestamppb.New(f.begin.Add(f.due[place] + GoodWithin))
		if err := stream.Send(m); err != nil {
			return nil //nolint:nilerr // the receiver gets the reason
		}
	}
}

// advance adds the decisions that have become due, and drops those that are too old.
func (f *flow) advance(now time.Duration) {
	for ; f.next <= now && f.next < f.length; f.next = f.times.next() {
		f.pending = append(f.pending, f.next)
		f.Due++
	}
	old := 0
	for old < len(f.pending) && now-f.pending[old] > GoodWithin {
		old++
	}
	f.pending = f.pending[old:]
	f.NotSent += int64(old)
}

// receive judges the answers until the stream ends.
func (f *flow) receive(stream executorv1.DecisionService_DecideClient) error {
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		place := placeOf(m)
		age := time.Since(f.begin) - f.due[place]
		f.free <- place
		code := codes.Code(m.GetError().GetCode())
		switch {
		case code == codes.DeadlineExceeded:
			f.Late++
		case code == codes.ResourceExhausted:
			f.Refused++
		case code != codes.OK:
			f.Failed++
		case !f.right(m):
			f.Wrong++
		case age > GoodWithin:
			f.Late++
		default:
			f.Good++
		}
	}
}
