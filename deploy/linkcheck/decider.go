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
	// maxUnanswered is the number of unanswered messages allowed on a stream; more would only wait longer in the sidecar.
	maxUnanswered = 64
	// minBackoff and maxBackoff bound the pause before a stream is reopened. It doubles until a stream answers something.
	minBackoff, maxBackoff = 50 * time.Millisecond, time.Second
)

// errAway is the error of a decision while there is no stream.
var errAway = status.Error(codes.Unavailable, "no stream to the sidecar: reconnecting")

// decider requests decisions over one stream, which costs a fraction of a call for each. It is safe for concurrent use.
//
// A stream that ends is reopened. Unanswered messages then fail with the reason and are not sent again: it may be too late for
// them, and only the caller knows. While there is no stream, decisions fail immediately.
type decider struct {
	client executorv1.DecisionServiceClient
	// unanswered holds a value for each message without an answer, even if nobody waits for it any more.
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

// newDecider opens the stream. Call it before trading starts. The stream ends with ctx, or when the decider is closed.
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

// close ends the stream. Pending decisions fail.
func (d *decider) close() {
	d.end()
	<-d.done
}

// decide returns a decision. Give ctx a deadline: the sidecar skips a message whose deadline has passed.
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
	// Send does not block: maxUnanswered messages of a few hundred bytes fit into the windows. If the stream has ended,
	// receive gets the reason and answers the caller.
	_ = d.stream.Send(m)
	return answered, nil
}

// run receives answers, and reopens the stream when it ends.
func (d *decider) run(ctx context.Context) {
	backoff := minBackoff
	for {
		answers, err := d.receive()
		d.lose(err)
		if answers > 0 {
			backoff = minBackoff
		}
		for {
			// Jitter, so that the clients of a restarted sidecar do not all reconnect at the same moment.
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

// receive delivers answers until the stream ends. It returns the number of answers, and why the stream ended.
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

// lose fails all unanswered messages of the ended stream.
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
