package link

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

// stream is the stream of one call slot of an address, opened when needed. It has at most one unanswered message, so a slow
// answer delays no other message. A call takes the stream from address.free and sends one message on it. The stream returns to
// address.free once that is answered, even if the call has ended before.
type stream struct {
	address *address

	mu       sync.Mutex
	call     mlenginev1.ScoringService_StreamPredictClient // nil while it is closed
	cancel   context.CancelFunc
	opened   time.Time
	answered bool // since it was opened
	stalled  bool
	reopens  bool // it was open before
	sequence uint64
	sent     *message // the unanswered message; nil if there is none
	sending  *message // the message that Send is still sending; nil if there is none
	timer    *time.Timer
}

// message is one message of a stream.
type message struct {
	sequence uint64
	at       time.Time
	load     int64
	late     bool       // its caller has given up
	reply    chan reply // has room for the answer
}

type reply struct {
	response *mlenginev1.BatchPredictResponse
	err      error
}

// errStalled ends a stream that ml-engine has not answered in time. To its caller it is a deadline.
var errStalled = fmt.Errorf("ml-engine has not answered a stream within the timeout: %w", context.DeadlineExceeded)

func newStream(a *address) *stream {
	s := &stream{address: a}
	s.timer = time.AfterFunc(a.engine.opts.Timeout, s.stall)
	s.timer.Stop()
	return s
}

// predict sends the batch and waits for its answer until the end of ctx. It returns the stream.
func (s *stream) predict(ctx context.Context, req *mlenginev1.BatchPredictRequest, load int64) (*mlenginev1.BatchPredictResponse, error) {
	m := &message{load: load, reply: make(chan reply, 1)}
	call, err := s.begin(ctx, m)
	if err != nil {
		s.address.done(s, load)
		return nil, err
	}
	req.Sequence = m.sequence
	// An error aborts the stream, and its receiver reports it. Send does not block, since the previous message has been sent.
	// If ml-engine answers messages without reading them, Send can block until the stream stalls.
	_ = call.Send(req)
	s.taken(m)
	select {
	case r := <-m.reply:
		return r.response, r.err
	case <-ctx.Done():
		s.mu.Lock()
		m.late = true
		s.mu.Unlock()
		return nil, ctx.Err()
	}
}

// taken records that Send has returned, and returns the stream if the message is answered.
func (s *stream) taken(m *message) {
	s.mu.Lock()
	s.sending = nil
	answered := s.sent == nil
	if answered {
		s.timer.Stop()
	}
	s.mu.Unlock()
	if answered {
		s.address.done(s, m.load)
	}
}

// begin opens the stream if it is closed, and makes m its message.
func (s *stream) begin(ctx context.Context, m *message) (mlenginev1.ScoringService_StreamPredictClient, error) {
	for {
		s.mu.Lock()
		if call := s.call; call != nil {
			s.sequence++
			m.sequence, m.at = s.sequence, time.Now()
			s.sent, s.sending, s.stalled = m, m, false
			s.timer.Reset(s.address.engine.opts.Timeout)
			s.mu.Unlock()
			return call, nil
		}
		s.mu.Unlock()
		if err := s.open(ctx); err != nil {
			return nil, err
		}
	}
}

func (s *stream) open(ctx context.Context) error {
	a := s.address
	if err := a.backoff(ctx); err != nil {
		return err
	}
	streamCtx, cancel := context.WithCancel(a.ctx) // the stream outlives its first message
	leave := context.AfterFunc(ctx, cancel)
	call, err := a.client.StreamPredict(streamCtx) //nolint:contextcheck // see streamCtx
	if !leave() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return err
	}
	s.mu.Lock()
	s.call, s.cancel, s.opened, s.answered = call, cancel, time.Now(), false
	reopened := s.reopens
	s.reopens = true
	s.mu.Unlock()
	a.open.Add(1)
	if reopened {
		a.engine.metrics.reopened.Inc()
	}
	a.receivers.Go(func() { s.receive(call) })
	return nil
}

// receive delivers the answers until the stream ends.
func (s *stream) receive(call mlenginev1.ScoringService_StreamPredictClient) {
	for {
		response, err := call.Recv()
		if err == nil {
			err = s.answer(response)
		}
		if err != nil {
			s.end(err)
			return
		}
	}
}

// answer delivers the response to the waiting caller. It returns an error if no message has that sequence number: then no
// answer on this stream can be trusted.
func (s *stream) answer(response *mlenginev1.BatchPredictResponse) error {
	s.mu.Lock()
	m := s.sent
	if m == nil || m.sequence != response.GetSequence() {
		s.mu.Unlock()
		return status.Errorf(codes.Internal, "ml-engine answered message %d of a stream, which is not waiting for an answer", response.GetSequence())
	}
	s.sent, s.answered = nil, true
	late, taken := m.late, s.sending == nil
	if taken {
		s.timer.Stop()
	}
	s.mu.Unlock()
	s.address.answered()
	result := reply{response: response}
	if e := response.GetError(); e != nil {
		code := codes.Code(e.GetCode())
		if code == codes.OK {
			code = codes.Unknown
		}
		result = reply{err: cleanError(status.Error(code, e.GetMessage()))}
	}
	if late {
		s.address.engine.metrics.late.Inc()
	}
	m.reply <- result
	if taken {
		s.address.done(s, m.load)
	}
	return nil
}

// stall is the timer's callback: it ends the stream if a message has waited for the timeout to be answered or sent.
func (s *stream) stall() {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := cmp.Or(s.sent, s.sending)
	if m != nil && time.Since(m.at) >= s.address.engine.opts.Timeout {
		s.stalled = true
		s.cancel()
	}
}

// end closes the stream after its receiver failed with the error.
func (s *stream) end(err error) {
	a := s.address
	s.mu.Lock()
	m, began, answered, taken := s.sent, s.opened, s.answered, s.sending == nil
	s.sent, s.call = nil, nil
	if s.stalled {
		err = errStalled
	}
	s.timer.Stop()
	s.cancel()
	s.mu.Unlock()
	a.open.Add(-1)
	clean := errors.Is(err, io.EOF)
	refused := !answered && a.refuses(err)
	if m != nil {
		began = m.at
	}
	if !refused && (!answered || errors.Is(err, errStalled)) {
		reason := err
		if clean {
			reason = errUnread
		}
		a.fail(began, reason)
	}
	if m == nil {
		return
	}
	if clean || refused {
		err = errElsewhere
	}
	m.reply <- reply{err: err}
	if taken {
		a.done(s, m.load)
	}
}

// close ends an open stream that is not waiting for an answer.
func (s *stream) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.call != nil {
		_ = s.call.CloseSend() // it fails only if the stream has ended
	}
}
