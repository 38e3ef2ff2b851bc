package decision

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/rpc"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// lastAnswer is how long a stop waits for a client to read the answer that is being sent to it.
const lastAnswer = time.Second

// Decide implements DecisionService. It answers one message after the other: a decision takes about a microsecond, so there
// is nothing to gain from several at once, and a message that waits its turn waits in the stream's window, where it holds
// back its sender. So at most one message of a stream is under way here, and its client alone can count the unanswered ones.
func (s *Service) Decide(stream grpc.BidiStreamingServer[executorv1.DecideRequest, executorv1.DecideResponse]) error {
	select {
	case <-s.stopping:
		return errStopping
	default:
	}
	// A stream may last as long as the market is open, and a stop does not wait for it. Only the return of this handler ends
	// RecvMsg, so a goroutine answers. It ends when the handler has returned.
	d := &decider{service: s, stream: stream, turn: make(chan struct{}, 1)}
	ended := make(chan ending, 1)
	go func() { ended <- d.run() }()
	select {
	case e := <-ended:
		return e.result()
	case <-s.stopping:
	}
	t := time.NewTimer(lastAnswer)
	defer t.Stop()
	select {
	case d.turn <- struct{}{}: // no other message is begun
	case e := <-ended:
		return e.result()
	case <-t.C:
	}
	return errStopping
}

// decider answers the messages of a stream. The messages it sends and receives are reused.
type decider struct {
	service *Service
	stream  grpc.ServerStream
	// turn is taken while a message is answered, and for good when the stream ends.
	turn chan struct{}
	// paid is set once the stream has had a message: the limit of the request rate counted the first when the stream was opened.
	paid bool

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

// result returns the error of the handler. It panics if the goroutine did, so that the server counts and logs the panic.
func (e ending) result() error {
	if e.panic != nil {
		panic(e.panic) //nolint:forbidigo // the panic of another goroutine
	}
	return e.err
}

// run answers messages until the client closes its side or the stream ends.
func (d *decider) run() (end ending) {
	defer func() {
		if p := recover(); p != nil {
			end.panic = fmt.Sprintf("%v\n%s", p, debug.Stack())
		}
	}()
	d.decision.Response = &executorv1.PredictResponse{}
	ctx := d.stream.Context()
	for {
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
		d.answer(ctx)
		d.request.Reset() // 64 KiB can decode to ten times as much, and the stream may be idle for hours
		if err := d.stream.SendMsg(&d.response); err != nil {
			return ending{err: err}
		}
		<-d.turn
	}
}

// answer answers the message, whatever is wrong with it.
func (d *decider) answer(ctx context.Context) {
	d.response.Sequence = d.request.GetSequence()
	code := codes.OK
	if err := d.decide(ctx); err != nil {
		d.failure.Error = decideError(err)
		d.response.Result = &d.failure
		code = codes.Code(d.failure.Error.GetCode())
	} else {
		d.response.Result = &d.decision
	}
	d.service.metrics.messages[code].Inc()
}

func (d *decider) decide(ctx context.Context) error {
	if limit := d.service.limit; limit != nil && d.paid {
		if err := limit(ctx); err != nil {
			return err
		}
	}
	d.paid = true
	if t := d.request.GetDeadline(); t != nil {
		if err := checkDeadline(t, time.Now()); err != nil {
			return err
		}
	}
	req := d.request.GetRequest()
	if req == nil {
		return rpc.ExecutorError(codes.InvalidArgument, reasonInputMissing, "no request: send one in each message")
	}
	return d.service.predict(req, d.decision.Response)
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

// decideError returns the error of a message: the same code, reason, text and metadata as that of a call.
func decideError(err error) *executorv1.DecideError {
	var e *rpc.Error
	if !errors.As(err, &e) {
		s := status.Convert(err)
		return &executorv1.DecideError{Code: int32(s.Code()), Message: s.Message()}
	}
	info := e.Info()
	return &executorv1.DecideError{Code: int32(e.Code), Reason: info.GetReason(), Message: e.Error(), Metadata: info.GetMetadata()}
}
