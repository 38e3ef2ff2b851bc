package link

import (
	"context"
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
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/greenlight-ml/greenlight/pkg/shadow"
	"github.com/greenlight-ml/greenlight/pkg/shadow/batches"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	"github.com/greenlight-ml/greenlight/pkg/testkit/telemetrytest"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const timeout = 60 * time.Millisecond

// options returns options like executor's.
func options(reg prometheus.Registerer) Options {
	return Options{Timeout: timeout, MaxInFlight: 4, MaxBatch: 64, Logger: slog.New(slog.DiscardHandler), Registerer: reg}
}

// link is an Engine with one address.
type link struct {
	*Engine

	t      *testing.T
	engine *enginetest.Engine
	reg    *prometheus.Registry
}

// newLink starts both. spoil, which may be nil, changes bytes read from the engine.
func newLink(t *testing.T, slots int, spoil *atomic.Pointer[spoiler], extra ...grpc.DialOption) *link {
	t.Helper()
	l := &link{t: t, engine: enginetest.Start(t, enginetest.Options{}), reg: prometheus.NewRegistry()}
	opts := options(l.reg)
	opts.MaxInFlight = slots
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

// call sends a batch with the given time left.
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
func (l *link) want(outcome shadow.Outcome) {
	l.t.Helper()
	err := l.call(timeout)
	if got := outcomeOf(err); got != outcome {
		l.t.Errorf("got %v (%v), want %v", got, err, outcome)
	}
	synctest.Wait()
}

func outcomeOf(err error) shadow.Outcome {
	if err == nil {
		return shadow.Match
	}
	return shadow.OutcomeOf(err)
}

// wantSeries checks some series.
func (l *link) wantSeries(want map[string]float64) {
	l.t.Helper()
	synctest.Wait()
	families, err := l.reg.Gather()
	if err != nil {
		l.t.Fatal(err)
	}
	byName := map[string]*dto.MetricFamily{}
	for _, f := range families {
		byName[f.GetName()] = f
	}
	got := telemetrytest.Values(byName, "ml_shadow_")
	for name, v := range want {
		if got[name] != v {
			l.t.Errorf("%s: got %v, want %v", name, got[name], v)
		}
	}
}

// A late answer is counted and dropped. The stream stays open, and later answers reach their callers.
func TestLateAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLink(t, 1, nil)
		l.engine.Break(enginetest.Delay(50 * time.Millisecond))
		start := time.Now()
		if err := l.call(40 * time.Millisecond); shadow.OutcomeOf(err) != shadow.Deadline || time.Since(start) != 40*time.Millisecond {
			t.Errorf("got %v after %v, want a deadline after 40ms", err, time.Since(start))
		}
		l.engine.Heal()
		l.want(shadow.Match) // waits for the late answer, since it is the only slot
		if got := time.Since(start); got != 50*time.Millisecond {
			t.Errorf("the next call was answered after %v, want 50ms", got)
		}
		l.wantSeries(map[string]float64{
			"ml_shadow_late_answers_total": 1, "ml_shadow_streams_reopened_total": 0,
			"ml_shadow_engine_streams ready": 1, "ml_shadow_engine_addresses ready": 1,
		})
	})
}

// There is one stream per slot, however many calls are made.
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
			l.want(shadow.Deadline)
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
		l.want(shadow.Match)
		l.engine.Break(enginetest.Hang())
		l.want(shadow.Deadline)
		l.engine.Heal()
		l.want(shadow.Match) // the first failure causes no delay
	})
}

// The text of an error over a stream is bounded like a call's.
func TestErrorsOverAStreamAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLink(t, 1, nil)
		l.engine.Break(enginetest.Fault{Send: func(s batches.Stream, r *mlenginev1.BatchPredictResponse) error {
			return s.Send(&mlenginev1.BatchPredictResponse{
				Sequence: r.GetSequence(), Error: &mlenginev1.BatchError{Code: int32(codes.Internal), Message: strings.Repeat("\x1b[2Jv", 6<<10)},
			})
		}})
		wantClean(t, status.Convert(l.call(timeout)).Message(), MaxText)
	})
}

// An engine that stops answers what it has read. Rows that it has not read go over the next connection.
func TestAnEngineThatStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLink(t, 2, nil)
		l.want(shadow.Match)
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
		l.want(shadow.Unavailable)
		l.engine.Restart()
		time.Sleep(2 * time.Second)
		l.want(shadow.Match)
	})
}

// When an engine dies, its calls fail, and later calls fail immediately until it is back.
func TestAnEngineThatDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLink(t, 2, nil)
		l.engine.Break(enginetest.Hang())
		last := make(chan error, 1)
		go func() { last <- l.call(timeout) }()
		synctest.Wait()
		start := time.Now()
		l.engine.Stop()
		if err := <-last; shadow.OutcomeOf(err) != shadow.Unavailable {
			t.Errorf("the call in flight: %v, want unavailable", err)
		}
		l.want(shadow.Unavailable)
		if took := time.Since(start); took != 0 {
			t.Errorf("it took %v until both calls had failed, want 0", took)
		}
		l.wantSeries(map[string]float64{"ml_shadow_engine_addresses unreachable": 1, "ml_shadow_engine_addresses ready": 0})
		l.engine.Heal()
		l.engine.Restart()
		time.Sleep(2 * time.Second)
		l.want(shadow.Match)
	})
}

// An engine of an older version gets one call per batch. When a newer one replaces it, batches go over streams.
func TestAnEngineWithoutStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLink(t, 2, nil)
		l.engine.Stop()
		l.engine.SetUnary(true)
		l.engine.Restart()
		time.Sleep(2 * time.Second)
		for range 5 {
			l.want(shadow.Match)
		}
		if calls := l.engine.Calls(); len(calls) != 5 || calls[0].Timeout != timeout {
			t.Errorf("calls: got %+v, want 5 with a deadline", calls)
		}
		l.wantSeries(map[string]float64{"ml_shadow_engine_addresses unary": 1, "ml_shadow_engine_streams unary": 0})
		l.engine.Stop()
		l.engine.SetUnary(false)
		l.engine.Restart()
		time.Sleep(2 * time.Second)
		l.want(shadow.Match)
		l.wantSeries(map[string]float64{"ml_shadow_engine_addresses ready": 1, "ml_shadow_engine_streams ready": 1})
	})
}

// A full engine, which refuses streams, is called without streams for a while.
func TestAnEngineWithTooManyStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLink(t, 2, nil)
		l.engine.Break(enginetest.Fault{Send: func(batches.Stream, *mlenginev1.BatchPredictResponse) error {
			return status.Error(codes.ResourceExhausted, "too many streams")
		}})
		l.want(shadow.Match)
		l.wantSeries(map[string]float64{"ml_shadow_engine_addresses unary": 1})
		l.engine.Heal()
		time.Sleep(fullRetry + time.Millisecond)
		l.want(shadow.Match)
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

// Invalid HTTP/2 bytes, or half of an answer, fail the calls in flight. Later calls succeed once the fault is gone.
func TestSpoiledBytes(t *testing.T) {
	for name, tt := range map[string]struct {
		spoil spoiler
		want  shadow.Outcome
	}{
		"garbage": {func(_ *spoiled, p []byte) (int, error) {
			for i := range p {
				p[i] = 0xff
			}
			return len(p), nil
		}, shadow.Unavailable},
		"half a message": {func(c *spoiled, p []byte) (int, error) {
			if n := len(p) / 2; n > 20 {
				return n, nil
			}
			<-c.done
			return 0, io.ErrClosedPipe
		}, shadow.Deadline},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var spoil atomic.Pointer[spoiler]
				l := newLink(t, 1, &spoil)
				l.want(shadow.Match)
				spoil.Store(&tt.spoil)
				l.want(tt.want)
				spoil.Store(nil)
				time.Sleep(pingPatience)
				l.want(shadow.Match)
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
		if err := l.call(timeout); shadow.OutcomeOf(err) != shadow.Unavailable {
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

// untaken is a stream whose Send passes the message on but returns only when the stream ends, as with an ml-engine that answers
// without reading.
type untaken struct{ grpc.ClientStream }

// SendMsg implements grpc.ClientStream.
func (s untaken) SendMsg(m any) error {
	err := s.ClientStream.SendMsg(m)
	<-s.Context().Done()
	return err
}

// A stream whose Send blocks stalls like an unanswered one, even if its messages are answered. Until then it is not used for another
// message, and no worker waits for it forever.
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
		l.want(shadow.Match)
		l.wantSeries(map[string]float64{"ml_shadow_streams_reopened_total": 3, "ml_shadow_engine_streams ready": 1})
	})
}
