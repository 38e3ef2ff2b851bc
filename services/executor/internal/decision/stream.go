package decision

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/rpc"
	"github.com/greenlight-ml/greenlight/pkg/telemetry"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

const (
	// lastAnswer is how long a stop waits for messages that wait for the model, and for a client to read the answer being sent
	// to it.
	lastAnswer = time.Second
	// maxWaiting is how many messages of a stream may wait for the model.
	maxWaiting = 64
)

// Decide implements DecisionService. It answers one message after the other: a decision takes about a microsecond, so answering
// several concurrently gains nothing. A message that waits its turn stays in the stream's window, where it holds back its sender.
// So at most one message of a stream is in progress here, and only the client can count the unanswered ones.
//
// Behind a gate, up to [maxWaiting] messages also wait for the model, each in a goroutine. The next ones may overtake them.
func (s *Service) Decide(stream grpc.BidiStreamingServer[executorv1.DecideRequest, executorv1.DecideResponse]) error {
	select {
	case <-s.stopping:
		return errStopping
	default:
	}
	// A stream may last as long as the market is open, and a stop does not wait for it. RecvMsg ends only when this handler returns,
	// so a goroutine answers. It ends once the handler has returned.
	d := &decider{service: s, stream: stream, turn: make(chan struct{}, 1), ended: make(chan ending, 1)}
	go func() { d.end(d.run()) }()
	select {
	case e := <-d.ended:
		return e.result()
	case <-s.stopping:
	}
	t := time.NewTimer(lastAnswer)
	defer t.Stop()
	select {
	case d.turn <- struct{}{}: // no other message is begun
	case e := <-d.ended:
		return e.result()
	case <-t.C:
		return errStopping
	}
	answered := make(chan struct{})
	go func() { // ends once the handler has returned, like the goroutines that it waits for
		d.waiting.Wait()
		close(answered)
	}()
	select {
	case <-answered:
	case e := <-d.ended:
		return e.result()
	case <-t.C:
	}
	return errStopping
}

// decider answers the messages of a stream. It reuses the messages it sends and receives, except those that wait for the model.
type decider struct {
	service *Service
	stream  grpc.ServerStream
	// turn is held while a message is answered, and forever once the stream ends.
	turn chan struct{}
	// paid is set after the stream's first message: the rate limit counted that one when the stream was opened.
	paid bool

	// waiting counts the goroutines of messages that wait for the model, and places has one element for each; nil before the first.
	waiting sync.WaitGroup
	places  chan struct{}
	// sending is held while an answer is sent.
	sending sync.Mutex
	// ended has the first ending.
	ended chan ending

	request  executorv1.DecideRequest
	response executorv1.DecideResponse
	decision executorv1.DecideResponse_Response
	failure  executorv1.DecideResponse_Error
}

// ending is how the goroutine of a stream ended: with a panic, or with an error, nil if the client has closed its side.
type ending struct {
	err   error
	panic any
}

// end ends the handler, unless it has already ended.
func (d *decider) end(e ending) {
	select {
	case d.ended <- e:
	default:
	}
}

// result returns the error of the handler. It panics if the goroutine did, so that the server counts and logs the panic.
func (e ending) result() error {
	if e.panic != nil {
		panic(e.panic) //nolint:forbidigo // the panic of another goroutine
	}
	return e.err
}

// recovered returns the ending of a goroutine that panicked with p.
func recovered(p any) (end ending) {
	end.panic = fmt.Sprintf("%v\n%s", p, debug.Stack())
	return end
}

// run answers messages until the client closes its side or the stream ends. It returns once no message waits for the model.
func (d *decider) run() (end ending) {
	defer func() {
		if p := recover(); p != nil {
			end = recovered(p)
		}
		d.waiting.Wait()
	}()
	d.decision.Response = &executorv1.PredictResponse{}
	ctx := d.stream.Context()
	for {
		if d.places != nil { // wait for a place, which holds back the sender
			d.places <- struct{}{}
			<-d.places
		}
		if err := d.stream.RecvMsg(&d.request); errors.Is(err, io.EOF) {
			return ending{}
		} else if err != nil {
			return ending{err: err}
		}
		select {
		case d.turn <- struct{}{}:
		default: // executor is stopping
			return ending{err: errStopping}
		}
		sequence := d.request.GetSequence()
		made, err := d.decide(ctx)
		d.request.Reset() // 64 KiB can decode to ten times as much, and the stream may be idle for hours
		if made.gate != nil && made.gate.Waits() {
			d.wait(ctx, sequence, made)
		} else if err := d.answer(sequence, &made, err); err != nil {
			return ending{err: err}
		}
		<-d.turn
	}
}

// answer answers a message that does not wait, successfully or with an error.
func (d *decider) answer(sequence uint64, made *decided, err error) error {
	d.response.Sequence = sequence
	code := codes.OK
	if err != nil {
		d.failure.Error = decideError(err)
		d.response.Result = &d.failure
		code = codes.Code(d.failure.Error.GetCode())
	} else {
		d.service.fill(d.decision.Response, made)
		d.response.Result = &d.decision
	}
	telemetry.EndSpan(made.span, err)
	return d.send(&d.response, code)
}

// wait answers a message once the gate has decided on it. It returns immediately.
func (d *decider) wait(ctx context.Context, sequence uint64, made decided) {
	if d.places == nil {
		d.places = make(chan struct{}, maxWaiting)
	}
	d.places <- struct{}{}
	d.waiting.Go(func() {
		defer func() {
			if p := recover(); p != nil {
				d.end(recovered(p))
			}
			<-d.places
		}()
		made.gate.Wait(ctx)
		resp := &executorv1.PredictResponse{}
		d.service.fill(resp, &made)
		telemetry.EndSpan(made.span, nil)
		answer := &executorv1.DecideResponse{Sequence: sequence, Result: &executorv1.DecideResponse_Response{Response: resp}}
		if err := d.send(answer, codes.OK); err != nil {
			d.end(ending{err: err})
		}
	})
}

// send sends an answer and counts its code.
func (d *decider) send(answer *executorv1.DecideResponse, code codes.Code) error {
	d.service.metrics.messages[code].Inc()
	d.sending.Lock()
	defer d.sending.Unlock()
	return d.stream.SendMsg(answer)
}

// decide begins the decision on the message, and its span if the trace is sampled.
func (d *decider) decide(ctx context.Context) (decided, error) {
	_, span := d.service.tracer.Serve(ctx, executorv1.DecisionService_Decide_FullMethodName[1:], d.request.GetTraceparent())
	made, err := d.begin(ctx, span)
	made.span = span
	return made, err
}

// begin begins the decision on the message. span is nil unless its trace is sampled.
func (d *decider) begin(ctx context.Context, span trace.Span) (decided, error) {
	if limit := d.service.limit; limit != nil && d.paid {
		if err := limit(ctx); err != nil {
			return decided{}, err
		}
	}
	d.paid = true
	var deadline time.Time
	if t := d.request.GetDeadline(); t != nil {
		if err := checkDeadline(t, time.Now()); err != nil {
			return decided{}, err
		}
		deadline = t.AsTime()
	}
	req := d.request.GetRequest()
	if req == nil {
		return decided{}, rpc.ExecutorError(codes.InvalidArgument, reasonInputMissing, "no request: send one in each message")
	}
	return d.service.predict(ctx, req, deadline, span)
}

// checkDeadline returns an error if the deadline is invalid or before now.
func checkDeadline(t *timestamppb.Timestamp, now time.Time) error {
	if err := t.CheckValid(); err != nil {
		return rpc.ExecutorError(codes.InvalidArgument, reasonDeadlineInvalid, "deadline: %v", err)
	}
	if late := now.Sub(t.AsTime()); late > 0 {
		return rpc.ExecutorError(codes.DeadlineExceeded, reasonExpired, "the deadline passed %v before executor read the message", late)
	}
	return nil
}

// decideError returns the error of a message, with the same code, reason, text and metadata as a call's error.
func decideError(err error) *executorv1.DecideError {
	var e *rpc.Error
	if !errors.As(err, &e) {
		s := status.Convert(err)
		return &executorv1.DecideError{Code: int32(s.Code()), Message: s.Message()}
	}
	info := e.Info()
	return &executorv1.DecideError{Code: int32(e.Code), Reason: info.GetReason(), Message: e.Error(), Metadata: info.GetMetadata()}
}
