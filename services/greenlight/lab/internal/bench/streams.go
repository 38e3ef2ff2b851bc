package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/traffic"
)

const (
	// MaxUnanswered is the number of unanswered messages allowed on a stream of decisions: more would only wait longer.
	MaxUnanswered = 64
	// GoodWithin is how long an answer is useful to a client.
	GoodWithin = 100 * time.Millisecond
)

// decider requests decisions over streams, which use the connections in turn, and checks the answers.
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

// message returns the message for a decision.
func (d *decider) message(number uint64, place int) *executorv1.DecideRequest {
	return &executorv1.DecideRequest{Sequence: sequence(number, place), Request: d.requests[number%uint64(len(d.requests))]}
}

// right reports whether the answer is correct.
func (d *decider) right(m *executorv1.DecideResponse) bool {
	k := m.GetSequence() / MaxUnanswered % uint64(len(d.requests))
	r := m.GetResponse()
	return r != nil && math.Float64bits(r.GetScore()) == math.Float64bits(d.want[k]) && r.GetRequestId() == d.requests[k].GetRequestId()
}

// closed runs a closed loop on n streams with underWay decisions in flight on each: each answer triggers the next message.
func (d *decider) closed(ctx context.Context, n, underWay int, s span) (Sample, error) {
	begin := time.Now().Add(s.warm)
	parts, err := together(ctx, n, s, func(ctx context.Context, i int) (Sample, error) {
		return d.loop(ctx, d.clients[i%len(d.clients)], underWay, begin, begin.Add(s.length))
	})
	return merged(begin, parts), err
}

// loop is the closed loop of one stream. Its sample has no duration.
func (d *decider) loop(ctx context.Context, client executorv1.DecisionServiceClient, underWay int, begin, end time.Time) (Sample, error) {
	result := Sample{Latency: newHistogram()}
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
			record(result.Latency, now.Sub(asked))
		}
		if now.Before(end) || result.calls == 0 {
			err = send(placeOf(m), now)
		}
	}
	return result, errors.Join(err, ending(stream))
}

// ending closes a stream whose messages have all been answered.
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
	// Due is the number of decisions that were due. Good of them were answered correctly within [GoodWithin] of that time,
	// Late were correct but later, or had expired.
	Due  int64 `json:"-"`
	Good int64 `json:"-"`
	Late int64 `json:"late"`
	// Refused were refused immediately by a limit on the connection's streams or the server's calls. Wrong had an unexpected
	// answer, Failed another error.
	Refused int64 `json:"refused"`
	Wrong   int64 `json:"wrong"`
	Failed  int64 `json:"failed"`
	// NotSent were due more than [GoodWithin] before a slot on their stream became free.
	NotSent int64         `json:"not_sent,omitempty"`
	Took    time.Duration `json:"-"`
}

// Add adds the counts of another client over the same time.
func (f *Flood) Add(o Flood) {
	f.Due, f.NotSent = f.Due+o.Due, f.NotSent+o.NotSent
	f.Good, f.Late, f.Wrong = f.Good+o.Good, f.Late+o.Late, f.Wrong+o.Wrong
	f.Failed, f.Refused = f.Failed+o.Failed, f.Refused+o.Refused
}

// PerSecond is the goodput.
func (f Flood) PerSecond() float64 { return float64(f.Good) / f.Took.Seconds() }

// FloodStreams requests decisions at random times (Poisson) at the rate, in decisions per second, for the given time, over one
// stream per client. Like a trader it keeps at most [MaxUnanswered] unanswered on a stream, drops requests older than
// [GoodWithin], and sends the newest first, because the latest market state is what matters. want holds the expected scores of
// the requests.
func FloodStreams(ctx context.Context, clients []executorv1.DecisionServiceClient, requests []*executorv1.PredictRequest, want []float64,
	rate float64, seed uint64, length time.Duration,
) (Flood, error) {
	return (&decider{clients, requests, want}).flood(ctx, rate, seed, length)
}

func (d *decider) flood(ctx context.Context, rate float64, seed uint64, length time.Duration) (Flood, error) {
	begin, n := time.Now(), len(d.clients)
	parts, err := together(ctx, n, span{length: length}, func(ctx context.Context, i int) (Flood, error) {
		f := &flow{
			decider: d, begin: begin, length: length,
			times: arrivals{rng: rand.New(rand.NewPCG(seed, uint64(i))), rate: rate / float64(n)}, free: make(chan int, MaxUnanswered),
		}
		for place := range MaxUnanswered {
			f.free <- place
		}
		err := f.run(ctx, d.clients[i])
		return f.Flood, err
	})
	sum := Flood{Took: length}
	for _, f := range parts {
		sum.Add(f)
	}
	return sum, err
}

// flow is the part of a flood on one stream.
type flow struct {
	*decider
	Flood

	begin  time.Time
	length time.Duration
	times  arrivals
	// free holds the slots without an unanswered message; due the due times of the others.
	free chan int
	due  [MaxUnanswered]time.Duration
	// pending holds the due times of unsent decisions, the oldest first.
	pending []time.Duration
	next    time.Duration
}

func (f *flow) run(ctx context.Context, client executorv1.DecisionServiceClient) error {
	group, ctx := errgroup.WithContext(ctx)
	stream, err := client.Decide(ctx)
	if err != nil {
		return err
	}
	group.Go(func() error { return f.receive(stream) })
	group.Go(func() error { return f.send(ctx, stream) })
	return group.Wait()
}

// send sends decisions as they become due, and closes its side of the stream at the end.
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
