package shadow

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/greenlight-ml/greenlight/pkg/shadow/batches"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

// link is an Engine with one address, without a dispatcher.
type link struct {
	*Engine

	t      *testing.T
	engine *enginetest.Engine
	reg    *prometheus.Registry
}

// newLink starts both. spoil, which may be nil, changes what is read from the engine.
func newLink(t *testing.T, slots int, spoil *atomic.Pointer[spoiler], extra ...grpc.DialOption) *link {
	t.Helper()
	l := &link{t: t, engine: enginetest.Start(t, enginetest.Options{}), reg: prometheus.NewRegistry()}
	opts := DefaultOptions()
	opts.MaxInFlight, opts.Logger, opts.Registerer = slots, slog.New(slog.DiscardHandler), l.reg
	dial := grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
		conn, err := l.engine.Dial(ctx)
		if err != nil || spoil == nil {
			return conn, err
		}
		return &spoiled{Conn: conn, spoil: spoil, done: make(chan struct{})}, nil
	})
	var err error
	if l.Engine, err = Connect(l.engine.Target(), nil, opts, append(extra, dial)...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	synctest.Wait()
	return l
}

// request is a batch of one row.
func (l *link) request() *mlenginev1.BatchPredictRequest {
	schema := l.engine.Model().Schema
	return &mlenginev1.BatchPredictRequest{Schema: schema.Name, Values: enginetest.Vector(rand.New(rand.NewPCG(1, 2)), schema)}
}

// call sends a batch with the time that is left for it.
func (l *link) call(left time.Duration) error {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), left)
	defer cancel()
	req := l.request()
	resp, err := l.BatchPredict(ctx, req)
	if err == nil && resp.GetScores()[0] != l.engine.Model().Scorer.Score(req.GetValues()) {
		l.t.Errorf("score: got %v, want that of the model", resp.GetScores())
	}
	return err
}

// want checks how a call with the full timeout ends.
func (l *link) want(outcome Outcome) {
	l.t.Helper()
	err := l.call(timeout)
	if got := outcomeOf(err); got != outcome {
		l.t.Errorf("got %v (%v), want %v", got, err, outcome)
	}
	synctest.Wait()
}

func outcomeOf(err error) Outcome {
	if err == nil {
		return Match
	}
	return OutcomeOf(err)
}

// wantSeries checks some series.
func (l *link) wantSeries(want map[string]float64) {
	l.t.Helper()
	synctest.Wait()
	got := (&trial{t: l.t, reg: l.reg}).scrape()
	for name, v := range want {
		if got[name] != v {
			l.t.Errorf("%s: got %v, want %v", name, got[name], v)
		}
	}
}

// An answer that comes late is counted and dropped. The stream lives on, and later answers find their callers.
func TestLateAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLink(t, 1, nil)
		l.engine.Break(enginetest.Delay(50 * time.Millisecond))
		start := time.Now()
		if err := l.call(40 * time.Millisecond); OutcomeOf(err) != Deadline || time.Since(start) != 40*time.Millisecond {
			t.Errorf("got %v after %v, want a deadline after 40ms", err, time.Since(start))
		}
		l.engine.Heal()
		l.want(Match) // waits for the late answer, since it is the only slot
		if got := time.Since(start); got != 50*time.Millisecond {
			t.Errorf("the next call was answered after %v, want 50ms", got)
		}
		l.wantSeries(map[string]float64{
			"ml_shadow_late_answers_total": 1, "ml_shadow_streams_reopened_total": 0,
			"ml_shadow_engine_streams ready": 1, "ml_shadow_engine_addresses ready": 1,
		})
	})
}

// There is one stream per slot, however many calls were made.
func TestOneStreamPerSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLink(t, 3, nil)
		l.engine.Break(enginetest.Delay(10 * time.Millisecond))
		var calls sync.WaitGroup
		for range 9 {
			calls.Go(func() {
				if err := l.call(timeout); err != nil {
					t.Error(err)
				}
			})
		}
		calls.Wait()
		if got := l.engine.Peak(); got != 3 {
			t.Errorf("%d calls were under way at once, want 3", got)
		}
		l.wantSeries(map[string]float64{"ml_shadow_engine_streams ready": 3, "ml_shadow_streams_reopened_total": 0})
	})
}

// A hung engine gets few streams, and rows again soon after it has recovered.
func TestAStalledStreamIsReopenedWithBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLink(t, 1, nil)
		l.engine.Break(enginetest.Hang())
		start := time.Now()
		for time.Since(start) < 10*time.Second {
			before := time.Now()
			l.want(Deadline)
			if took := time.Since(before); took != timeout {
				t.Fatalf("a call took %v, want %v", took, timeout)
			}
		}
		// 0, 50, 100, 200, 400, 800 and then 1000 ms, each minus up to a quarter, and 60 ms until the stall.
		if n := len(l.engine.Calls()); n < 10 || n > 20 {
			t.Errorf("a hung engine got %d messages in 10 s, want 10 to 20", n)
		}
		time.Sleep(timeout) // the last stream may have been opened in the middle of its call
		synctest.Wait()
		l.wantSeries(map[string]float64{"ml_shadow_engine_streams ready": 0, "ml_shadow_late_answers_total": 0})
		l.engine.Heal()
		time.Sleep(reopenAtMost)
		l.want(Match)
		l.engine.Break(enginetest.Hang())
		l.want(Deadline)
		l.engine.Heal()
		l.want(Match) // the first failure delays nothing
	})
}

// streamFaults are ways in which only a stream can fail, each with the outcome of a shadow.
var streamFaults = map[string]struct {
	send func(batches.Stream, *mlenginev1.BatchPredictResponse) error
	want Outcome
}{
	"another sequence": {func(s batches.Stream, r *mlenginev1.BatchPredictResponse) error {
		r.Sequence++
		return s.Send(r)
	}, Internal},
	"no sequence": {func(s batches.Stream, r *mlenginev1.BatchPredictResponse) error {
		r.Sequence = 0
		return s.Send(r)
	}, Internal},
	"answers twice": {func(s batches.Stream, r *mlenginev1.BatchPredictResponse) error {
		return errors.Join(s.Send(r), s.Send(r))
	}, Match},
	"an error of no code": {func(s batches.Stream, r *mlenginev1.BatchPredictResponse) error {
		return s.Send(&mlenginev1.BatchPredictResponse{Sequence: r.GetSequence(), Error: &mlenginev1.BatchError{Message: "no"}})
	}, Internal},
	"an error of a code that gRPC has not": {func(s batches.Stream, r *mlenginev1.BatchPredictResponse) error {
		return s.Send(&mlenginev1.BatchPredictResponse{Sequence: r.GetSequence(), Error: &mlenginev1.BatchError{Code: -4}})
	}, Internal},
	"ends": {func(batches.Stream, *mlenginev1.BatchPredictResponse) error { return io.EOF }, Unavailable},
	"ends as unavailable": {func(batches.Stream, *mlenginev1.BatchPredictResponse) error {
		return status.Error(codes.Unavailable, "")
	}, Unavailable},
	"ends as canceled": {func(batches.Stream, *mlenginev1.BatchPredictResponse) error { return status.Error(codes.Canceled, "") }, Unavailable},
	"ends as internal": {func(batches.Stream, *mlenginev1.BatchPredictResponse) error { return status.Error(codes.Internal, "") }, Internal},
	"panics": {func(batches.Stream, *mlenginev1.BatchPredictResponse) error {
		return status.Error(codes.Internal, "panic")
	}, Internal},
	"says deadline": {func(batches.Stream, *mlenginev1.BatchPredictResponse) error {
		return status.Error(codes.DeadlineExceeded, "")
	}, Deadline},
	"does not send": {func(s batches.Stream, _ *mlenginev1.BatchPredictResponse) error {
		<-s.Context().Done()
		return s.Context().Err()
	}, Deadline},
}

// Whatever a stream does, every request has one outcome, the right one, and the next stream is used after the fault.
func TestOutcomeOfEveryStreamFault(t *testing.T) {
	for name, tt := range streamFaults {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr := newTrial(t, enginetest.Options{}, nil)
				tr.engine.Break(enginetest.Fault{Send: tt.send})
				for range 3 {
					if r := tr.wait(t.Context()); r.Outcome != tt.want {
						t.Errorf("got %v (%v), want %v", r.Outcome, r.Err, tt.want)
					}
					synctest.Wait()
				}
				tr.engine.Heal()
				time.Sleep(reopenAtMost)
				for range 8 { // on every slot
					if r := tr.wait(t.Context()); r.Outcome != Match {
						t.Errorf("after the fault: got %v (%v), want a match", r.Outcome, r.Err)
					}
				}
				tr.wantTotals(sum(map[Outcome]uint64{tt.want: 3}, map[Outcome]uint64{Match: 8}))
				tr.wantConserved(0)
				tr.engine.Break(enginetest.Fault{Send: tt.send})
				chaos(tr, 300)
			})
		})
	}
}

func sum(all ...map[Outcome]uint64) map[Outcome]uint64 {
	total := map[Outcome]uint64{}
	for _, m := range all {
		for o, n := range m {
			total[o] += n
		}
	}
	return total
}

// The text of an error over a stream is bounded, as that of a call.
func TestErrorsOverAStreamAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLink(t, 1, nil)
		l.engine.Break(enginetest.Fault{Send: func(s batches.Stream, r *mlenginev1.BatchPredictResponse) error {
			return s.Send(&mlenginev1.BatchPredictResponse{
				Sequence: r.GetSequence(), Error: &mlenginev1.BatchError{Code: int32(codes.Internal), Message: strings.Repeat("\x1b[2Jv", 6<<10)},
			})
		}})
		wantClean(t, status.Convert(l.call(timeout)).Message(), maxEngineText)
	})
}

// An engine that stops answers what it has read. Rows that it has not read go over the next connection.
func TestAnEngineThatStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLink(t, 2, nil)
		l.want(Match)
		held, release := enginetest.Gate()
		l.engine.Break(held)
		last := make(chan error, 1)
		go func() { last <- l.call(timeout) }()
		synctest.Wait()
		stopped := make(chan struct{})
		go func() {
			l.engine.Shutdown()
			close(stopped)
		}()
		synctest.Wait()
		release()
		if err := <-last; err != nil {
			t.Errorf("the call in flight: %v, want its answer", err)
		}
		<-stopped
		l.engine.Heal()
		l.want(Unavailable)
		l.engine.Restart()
		time.Sleep(2 * time.Second)
		l.want(Match)
	})
}

// An engine that dies takes its calls with it, and those that follow fail at once until it is back.
func TestAnEngineThatDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLink(t, 2, nil)
		l.engine.Break(enginetest.Hang())
		last := make(chan error, 1)
		go func() { last <- l.call(timeout) }()
		synctest.Wait()
		start := time.Now()
		l.engine.Stop()
		if err := <-last; OutcomeOf(err) != Unavailable {
			t.Errorf("the call in flight: %v, want unavailable", err)
		}
		l.want(Unavailable)
		if took := time.Since(start); took != 0 {
			t.Errorf("it took %v until both calls had failed, want 0", took)
		}
		l.wantSeries(map[string]float64{"ml_shadow_engine_addresses unreachable": 1, "ml_shadow_engine_addresses ready": 0})
		l.engine.Heal()
		l.engine.Restart()
		time.Sleep(2 * time.Second)
		l.want(Match)
	})
}

// An engine of an older version gets a call for each batch. When it is replaced by a newer one, batches go over streams.
func TestAnEngineWithoutStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLink(t, 2, nil)
		l.engine.Stop()
		l.engine.SetUnary(true)
		l.engine.Restart()
		time.Sleep(2 * time.Second)
		for range 5 {
			l.want(Match)
		}
		if calls := l.engine.Calls(); len(calls) != 5 || calls[0].Timeout != timeout {
			t.Errorf("calls: got %+v, want 5 with a deadline", calls)
		}
		l.wantSeries(map[string]float64{"ml_shadow_engine_addresses unary": 1, "ml_shadow_engine_streams unary": 0})
		l.engine.Stop()
		l.engine.SetUnary(false)
		l.engine.Restart()
		time.Sleep(2 * time.Second)
		l.want(Match)
		l.wantSeries(map[string]float64{"ml_shadow_engine_addresses ready": 1, "ml_shadow_engine_streams ready": 1})
	})
}

// A full engine, which refuses streams, is called without them for a while.
func TestAnEngineWithTooManyStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLink(t, 2, nil)
		l.engine.Break(enginetest.Fault{Send: func(batches.Stream, *mlenginev1.BatchPredictResponse) error {
			return status.Error(codes.ResourceExhausted, "too many streams")
		}})
		l.want(Match)
		l.wantSeries(map[string]float64{"ml_shadow_engine_addresses unary": 1})
		l.engine.Heal()
		time.Sleep(fullRetry + time.Millisecond)
		l.want(Match)
		l.wantSeries(map[string]float64{"ml_shadow_engine_addresses ready": 1, "ml_shadow_engine_streams ready": 1})
	})
}

// spoiler changes bytes that were read from a connection.
type spoiler func(*spoiled, []byte) (int, error)

// spoiled is a connection on which the engine's bytes can be spoiled.
type spoiled struct {
	net.Conn

	spoil *atomic.Pointer[spoiler]
	done  chan struct{}
	once  sync.Once
}

func (c *spoiled) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if f := c.spoil.Load(); f != nil && err == nil {
		return (*f)(c, p[:n])
	}
	return n, err
}

func (c *spoiled) Close() error {
	c.once.Do(func() { close(c.done) })
	return c.Conn.Close()
}

// Bytes that are no HTTP/2, and an answer of which half arrives, fail the calls in flight. Both are over with the fault.
func TestSpoiledBytes(t *testing.T) {
	for name, tt := range map[string]struct {
		spoil spoiler
		want  Outcome
	}{
		"garbage": {func(_ *spoiled, p []byte) (int, error) {
			for i := range p {
				p[i] = 0xff
			}
			return len(p), nil
		}, Unavailable},
		"half a message": {func(c *spoiled, p []byte) (int, error) {
			if n := len(p) / 2; n > 20 {
				return n, nil
			}
			<-c.done
			return 0, io.ErrClosedPipe
		}, Deadline},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var spoil atomic.Pointer[spoiler]
				l := newLink(t, 1, &spoil)
				l.want(Match)
				spoil.Store(&tt.spoil)
				l.want(tt.want)
				spoil.Store(nil)
				time.Sleep(pingPatience)
				l.want(Match)
			})
		})
	}
}

// pingPatience is longer than a client takes to notice that its peer does not answer pings.
const pingPatience = 20 * time.Second

// Close waits for the calls in flight, and ends the streams from this side.
func TestCloseAwaitsAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLink(t, 2, nil)
		l.engine.Break(enginetest.Delay(30 * time.Millisecond))
		last := make(chan error, 1)
		go func() { last <- l.call(timeout) }()
		synctest.Wait()
		start := time.Now()
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if err := <-last; err != nil || time.Since(start) != 30*time.Millisecond {
			t.Errorf("the call in flight: %v after %v, want its answer after 30ms", err, time.Since(start))
		}
		if err := l.call(timeout); OutcomeOf(err) != Unavailable {
			t.Errorf("a call after the end: got %v, want unavailable", err)
		}
	})
}

// Close does not wait longer for an engine that hangs.
func TestCloseOfAHungEngine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLink(t, 2, nil)
		l.engine.Break(enginetest.Hang())
		_ = l.call(10 * time.Millisecond)
		start := time.Now()
		_ = l.Close()
		if took := time.Since(start); took > 2*timeout {
			t.Errorf("close took %v, want at most %v", took, 2*timeout)
		}
	})
}

// untaken is a stream whose Send hands the message over and returns only at the end of the stream: so does one to an ml-engine
// that answers what it does not read.
type untaken struct{ grpc.ClientStream }

// SendMsg implements grpc.ClientStream.
func (s untaken) SendMsg(m any) error {
	err := s.ClientStream.SendMsg(m)
	<-s.Context().Done()
	return err
}

// A stream that takes no message although its messages are answered stalls like one that is not answered. It is not used for
// another message before, and no worker waits for it forever.
func TestAStreamThatTakesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var stuck atomic.Bool
		l := newLink(t, 1, nil, grpc.WithChainStreamInterceptor(
			func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
				s, err := open(ctx, desc, cc, method, opts...)
				if err == nil && stuck.Load() {
					s = untaken{s}
				}
				return s, err
			}))
		stuck.Store(true)
		for range 3 {
			start := time.Now()
			_ = l.call(timeout / 2)
			if got := time.Since(start); got > timeout {
				t.Errorf("a call took %v, want at most %v", got, timeout)
			}
			synctest.Wait()
		}
		stuck.Store(false)
		time.Sleep(time.Second) // the backoff
		l.want(Match)
		l.wantSeries(map[string]float64{"ml_shadow_streams_reopened_total": 3, "ml_shadow_engine_streams ready": 1})
	})
}
