package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

const (
	// window is the flow-control window of a stream and of the connection, in bytes, as in the sidecar.
	window = 64 << 10
	// maxUnanswered limits the unanswered messages of a stream; further ones would wait in the sidecar.
	maxUnanswered = 64
	// minBackoff and maxBackoff bound the time between two streams. It doubles until a stream has answered a message.
	minBackoff, maxBackoff = 50 * time.Millisecond, time.Second
)

// errAway is the error of a decision while there is no stream.
var errAway = status.Error(codes.Unavailable, "there is no stream to the sidecar now: it is opened again")

// decider asks for decisions over one stream, each at a fraction of the cost of a call. It is safe for concurrent use.
//
// When the stream ends, it opens another one. Decisions without an answer fail with the reason. They are not sent again: it may
// be too late for them, and only the caller knows. While there is no stream, decisions fail at once.
type decider struct {
	client executorv1.DecisionServiceClient
	// unanswered holds a value for each message without an answer, even if its caller no longer waits.
	unanswered chan struct{}
	end        context.CancelFunc
	done       chan struct{}

	mu       sync.Mutex
	stream   executorv1.DecisionService_DecideClient // nil while there is none
	sequence uint64
	waiting  map[uint64]chan answer
}

type answer struct {
	decision *executorv1.PredictResponse
	err      error
}

// newDecider opens the stream. Do it before trading starts. The stream ends with ctx, or when the decider is closed.
func newDecider(ctx context.Context, client executorv1.DecisionServiceClient) (*decider, error) {
	ctx, end := context.WithCancel(ctx)
	stream, err := client.Decide(ctx)
	if err != nil {
		end()
		return nil, err
	}
	d := &decider{
		client: client, unanswered: make(chan struct{}, maxUnanswered), end: end, done: make(chan struct{}),
		stream: stream, waiting: map[uint64]chan answer{},
	}
	go func() {
		defer close(d.done)
		d.run(ctx)
	}()
	return d, nil
}

// close ends the stream. Decisions that wait for their answer fail.
func (d *decider) close() {
	d.end()
	<-d.done
}

// decide returns a decision. Give ctx a deadline: the sidecar does not begin a message whose deadline has passed.
func (d *decider) decide(ctx context.Context, req *executorv1.PredictRequest) (*executorv1.PredictResponse, error) {
	select {
	case d.unanswered <- struct{}{}:
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	m := &executorv1.DecideRequest{Request: req}
	if t, ok := ctx.Deadline(); ok {
		m.Deadline = timestamppb.New(t)
	}
	answered, err := d.send(m)
	if err != nil {
		<-d.unanswered
		return nil, err
	}
	select {
	case a := <-answered:
		return a.decision, a.err
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
}

// send sends the message and returns the channel of its answer.
func (d *decider) send(m *executorv1.DecideRequest) (<-chan answer, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stream == nil {
		return nil, errAway
	}
	d.sequence++
	m.Sequence = d.sequence
	answered := make(chan answer, 1)
	d.waiting[m.GetSequence()] = answered
	// This does not block: maxUnanswered messages of a few hundred bytes fit into the windows. If the stream has ended, receive
	// has the reason, and answers.
	_ = d.stream.Send(m)
	return answered, nil
}

// run receives answers, and opens the stream again when it ends.
func (d *decider) run(ctx context.Context) {
	backoff := minBackoff
	for {
		answers, err := d.receive()
		d.lose(err)
		if answers > 0 {
			backoff = minBackoff
		}
		for {
			// With jitter, so that the clients of a restarted sidecar do not all reconnect at once.
			select {
			case <-time.After(backoff/2 + rand.N(backoff/2)):
			case <-ctx.Done():
				return
			}
			backoff = min(2*backoff, maxBackoff)
			if stream, err := d.client.Decide(ctx); err == nil {
				d.mu.Lock()
				d.stream = stream
				d.mu.Unlock()
				break
			}
		}
	}
}

// receive delivers answers until the stream ends. It returns their number, and the reason for the end.
func (d *decider) receive() (answers int, err error) {
	for {
		resp, err := d.stream.Recv()
		if err != nil {
			return answers, err
		}
		answers++
		a := answer{decision: resp.GetResponse()}
		if e := resp.GetError(); e != nil {
			a.err = status.Errorf(codes.Code(e.GetCode()), "%s %s", e.GetReason(), e.GetMessage())
		}
		d.answer(resp.GetSequence(), a)
	}
}

func (d *decider) answer(sequence uint64, a answer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if answered, ok := d.waiting[sequence]; ok {
		answered <- a
		delete(d.waiting, sequence)
		<-d.unanswered
	}
}

// lose fails the decisions that the ended stream has not answered.
func (d *decider) lose(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stream = nil
	for sequence, answered := range d.waiting {
		answered <- answer{err: fmt.Errorf("no answer: %w", err)}
		delete(d.waiting, sequence)
		<-d.unanswered
	}
}
