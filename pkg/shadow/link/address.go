package link

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"

	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

const (
	// The second failure in a row of an address's streams delays the next stream by reopenAfter. Each further one doubles
	// the delay, up to reopenAtMost, minus up to a quarter. The first causes no delay: most failures are isolated.
	reopenAfter, reopenAtMost = 50 * time.Millisecond, time.Second
	// fullRetry is how long an address that refuses more streams is called without them.
	fullRetry = 10 * time.Second
)

// address is one address of ml-engine: a connection, and one stream for each call slot.
type address struct {
	engine *Engine
	name   string
	conn   *grpc.ClientConn
	client mlenginev1.ScoringServiceClient
	// free holds the streams, open or closed, that wait for no answer.
	free chan *stream
	// inFlight is how many values were sent but not answered: rows times features per row.
	inFlight atomic.Int64
	// picked is the number of the last call that picked this address.
	picked atomic.Uint64
	// open is how many streams are open.
	open atomic.Int32
	// unaryUntil is when streams may be used again, in nanoseconds since start. A new connection resets it.
	unaryUntil atomic.Int64
	start      time.Time

	ctx       context.Context //nolint:containedctx // it ends the streams and the watch
	stop      context.CancelFunc
	watching  sync.WaitGroup
	receivers sync.WaitGroup // of the open streams
	removed   chan struct{}  // closed when the address is drained

	mu        sync.Mutex
	failures  int       // of streams, consecutive
	failed    time.Time // the last one
	notBefore time.Time // when the next stream may be opened
	reason    error     // of the last failure
}

func newAddress(e *Engine, name string, conn *grpc.ClientConn) *address {
	a := &address{
		engine: e, name: name, conn: conn, client: mlenginev1.NewScoringServiceClient(conn),
		free: make(chan *stream, e.opts.MaxInFlight), start: time.Now(), removed: make(chan struct{}),
	}
	a.ctx, a.stop = context.WithCancel(context.Background())
	for range cap(a.free) {
		a.free <- newStream(a)
	}
	a.watching.Go(a.watch)
	return a
}

// watch keeps the connection from going idle, and allows streams again after a reconnect.
func (a *address) watch() {
	for {
		state := a.conn.GetState()
		a.unaryUntil.Store(0)
		if state == connectivity.Idle {
			a.conn.Connect()
		}
		if !a.conn.WaitForStateChange(a.ctx, state) {
			return
		}
	}
}

// drain waits until the address has answered all calls, which takes at most twice the timeout, and closes its connection.
func (a *address) drain() {
	close(a.removed)
	defer time.AfterFunc(2*a.engine.opts.Timeout, a.stop).Stop()
	for range cap(a.free) {
		(<-a.free).close()
	}
	a.receivers.Wait()
	a.stop()
	a.watching.Wait()
	_ = a.conn.Close()
}

// rank orders addresses for a new call; a lower one is better.
func (a *address) rank() int {
	switch a.conn.GetState() {
	case connectivity.Ready:
		if a.delayed() {
			return 1
		}
		return 0
	case connectivity.TransientFailure, connectivity.Shutdown:
		return 3
	default:
		return 2
	}
}

// state returns the state of the address in metrics.
func (a *address) state() string {
	select {
	case <-a.removed:
		return addressDraining
	default:
	}
	switch {
	case a.conn.GetState() != connectivity.Ready:
		return addressUnreachable
	case a.isUnary():
		return addressUnary
	}
	return addressReady
}

func (a *address) isUnary() bool { return int64(time.Since(a.start)) < a.unaryUntil.Load() }

// predict sends the batch. It returns errElsewhere if ml-engine has not read it and the call can be made again.
func (a *address) predict(ctx context.Context, req *mlenginev1.BatchPredictRequest) (*mlenginev1.BatchPredictResponse, error) {
	var s *stream
	select {
	case s = <-a.free:
	case <-a.removed:
		return nil, errElsewhere
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	load := int64(len(req.GetValues()))
	a.inFlight.Add(load)
	if !a.isUnary() {
		return s.predict(ctx, req, load)
	}
	defer a.done(s, load)
	s.close() // it may be open, if another stream was refused
	req.Sequence = 0
	return a.client.BatchPredict(ctx, req)
}

// done returns the stream of an answered call.
func (a *address) done(s *stream, load int64) {
	a.inFlight.Add(-load)
	a.free <- s
}

// delayed reports whether no stream may be opened now.
func (a *address) delayed() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return time.Until(a.notBefore) > 0
}

// backoff waits until a stream may be opened. If there is not enough time, it returns why the last stream failed: immediately,
// except after a stall, when it waits for the end of ctx, because the answer would be late.
func (a *address) backoff(ctx context.Context) error {
	for {
		a.mu.Lock()
		until, reason := a.notBefore, a.reason
		a.mu.Unlock()
		wait := time.Until(until)
		if wait <= 0 {
			return nil
		}
		if end, ok := ctx.Deadline(); ok && end.Before(until) && !errors.Is(reason, errStalled) {
			return reason
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-a.removed:
			timer.Stop()
			return errElsewhere
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

// answered ends the backoff.
func (a *address) answered() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.failures, a.notBefore, a.reason = 0, time.Time{}, nil
}

// fail records that a stream failed. began is when it was opened or its last message was sent. Streams that fail together count
// as one failure.
func (a *address) fail(began time.Time, reason error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.reason = reason
	if began.Before(a.failed) {
		return
	}
	a.failed = time.Now()
	if a.failures++; a.failures > 1 {
		wait := reopenAtMost
		if n := a.failures - 2; n < 5 {
			wait = min(reopenAfter<<n, reopenAtMost)
		}
		a.notBefore = a.failed.Add(wait - rand.N(wait/4))
	}
}

// refuses records that ml-engine has refused a stream, and reports whether to send batches without streams now: until the next
// connection if the engine has no StreamPredict, for a while if it is full.
func (a *address) refuses(err error) bool {
	switch status.Code(err) {
	case codes.Unimplemented:
		a.unaryUntil.Store(math.MaxInt64)
	case codes.ResourceExhausted:
		a.unaryUntil.Store(int64(time.Since(a.start) + fullRetry))
	default:
		return false
	}
	return true
}
