package rpc_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/greenlight-ml/greenlight/pkg/rpc"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

// open is a server with misbehaving clients and a well-behaved one.
type open struct {
	server *rpc.Server
	t      *testing.T
	l      *bufconn.Listener
	reg    *prometheus.Registry
	polite mlenginev1.ScoringServiceClient
	answer string // the model version of each
}

// newOpen returns a server with a message limit; 0 for the default. It must run in a synctest bubble.
func newOpen(t *testing.T, maxMessage int) *open {
	t.Helper()
	o := &open{t: t, l: bufconn.Listen(4 << 10), reg: prometheus.NewRegistry()}
	server := rpc.NewServer(rpc.ServerOptions{
		Logger: slog.New(slog.DiscardHandler), Registerer: o.reg, MaxMessage: maxMessage, Throttled: []string{mlenginev1.ScoringService_ServiceDesc.ServiceName},
	})
	o.server = server
	mlenginev1.RegisterScoringServiceServer(server, &stub{predict: func(context.Context, *mlenginev1.PredictRequest) (*mlenginev1.PredictResponse, error) {
		return &mlenginev1.PredictResponse{ModelVersion: o.answer}, nil
	}})
	server.Ready()
	served := make(chan error, 1)
	go func() { served <- server.Serve(o.l) }()
	conn, err := rpc.Dial("passthrough:///bufnet", nil, grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return o.l.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	o.polite = mlenginev1.NewScoringServiceClient(conn)
	t.Cleanup(func() {
		_ = conn.Close()
		server.Stop()
		<-served
	})
	return o
}

// value returns the value of a server metric.
func (o *open) value(name string) float64 {
	o.t.Helper()
	families, err := o.reg.Gather()
	if err != nil {
		o.t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				sum += m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

// ask makes a call of the well-behaved client and returns how long it took.
func (o *open) ask() time.Duration {
	o.t.Helper()
	start := time.Now()
	if _, err := o.polite.Predict(o.t.Context(), &mlenginev1.PredictRequest{}); err != nil {
		o.t.Errorf("the polite client: %v", err)
	}
	return time.Since(start)
}

// rude is a client that sends arbitrary frames.
type rude struct {
	net.Conn
	*http2.Framer

	answers chan string // the grpc-status of each ended call, then "cut off"
	done    chan struct{}
	block   bytes.Buffer
	enc     *hpack.Encoder
}

func (o *open) rude() *rude {
	o.t.Helper()
	c, err := o.l.DialContext(o.t.Context())
	if err != nil {
		o.t.Fatal(err)
	}
	r := &rude{Conn: c, Framer: http2.NewFramer(c, c), answers: make(chan string, 10000), done: make(chan struct{})}
	r.enc = hpack.NewEncoder(&r.block)
	r.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	_, _ = io.WriteString(c, http2.ClientPreface)
	_ = r.WriteSettings()
	go func() {
		defer close(r.done)
		for {
			f, err := r.ReadFrame()
			if err != nil {
				r.answers <- "cut off"
				return
			}
			if h, ok := f.(*http2.MetaHeadersFrame); ok && h.StreamEnded() {
				for _, field := range h.Fields {
					if field.Name == "grpc-status" {
						r.answers <- field.Value
					}
				}
			}
		}
	}()
	o.t.Cleanup(func() {
		_ = c.Close()
		<-r.done
	})
	return r
}

// call sends the headers of a call.
func (r *rude) call(stream uint32) error {
	r.block.Reset()
	for _, field := range [][2]string{
		{":method", "POST"},
		{":scheme", "http"},
		{":path", mlenginev1.ScoringService_Predict_FullMethodName},
		{":authority", "x"},
		{"content-type", "application/grpc"},
		{"te", "trailers"},
	} {
		_ = r.enc.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
	}
	return r.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: r.block.Bytes(), EndHeaders: true})
}

// part sends bytes of a message of that size, in frames of step bytes.
func (r *rude) part(stream uint32, size, n, step int) error {
	raw := make([]byte, 5+n)
	binary.BigEndian.PutUint32(raw[1:], uint32(size))
	raw[5] = 0xfa // a field that is not in the contract
	for len(raw) > 0 {
		k := min(step, len(raw))
		if err := r.WriteData(stream, false, raw[:k]); err != nil {
			return err
		}
		raw = raw[k:]
	}
	return nil
}

// Half-sent messages take bounded memory for a bounded time, and do not keep other calls from being answered.
func TestHalfSentMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOpen(t, rpc.SmallMessage)
		var clients []*rude
		for range 8 {
			r := o.rude()
			clients = append(clients, r)
			for i := range uint32(100) {
				if r.call(2*i+1) != nil || r.part(2*i+1, rpc.SmallMessage, rpc.SmallMessage-1, 16<<10) != nil {
					break // cut off
				}
			}
			synctest.Wait()
			time.Sleep(200 * time.Millisecond)
		}
		if held := o.value("grpc_server_partial_message_bytes"); held == 0 || held > 32<<20 {
			t.Errorf("%v bytes are held, want at most 32 MiB", held)
		}
		if open := o.value("grpc_server_open_calls"); open > 512+64 {
			t.Errorf("%v calls are open, want at most 512 and those of other services", open)
		}
		if took := o.ask(); took > 100*time.Millisecond {
			t.Errorf("the polite client waited %v", took)
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if held, open := o.value("grpc_server_partial_message_bytes"), o.value("grpc_server_open_calls"); held != 0 || open != 0 {
			t.Errorf("after the time limit: %v bytes are held and %v calls are open, want none", held, open)
		}
		counts := map[string]int{}
		for _, r := range clients {
			for len(r.answers) > 0 {
				counts[<-r.answers]++
			}
		}
		if counts[fmt.Sprint(int(codes.DeadlineExceeded))] == 0 {
			t.Errorf("ended with %v, want DEADLINE_EXCEEDED for those that were not cut off", counts)
		}
	})
}

// There is memory for twelve large half-sent messages. Beyond that, the connection that holds most is closed.
func TestHalfSentLargeMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOpen(t, 0)
		for range 5 {
			r := o.rude()
			for i := range uint32(4) {
				if r.call(2*i+1) != nil || r.part(2*i+1, rpc.MaxMessage, rpc.MaxMessage-1, 16<<10) != nil {
					break
				}
			}
			synctest.Wait()
			if held := o.value("grpc_server_partial_message_bytes"); held > 50<<20 {
				t.Errorf("%v bytes are held, want at most 50 MiB", held)
			}
			o.ask()
		}
		if n := o.value("grpc_server_connections_closed_total"); n == 0 {
			t.Error("no connection was closed for the memory that it held")
		}
	})
}

// Unread answers take a bounded amount of memory: the connection that holds most is closed. Answers that were read, or whose
// client has given up, no longer count.
func TestUnreadAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOpen(t, 0)
		o.answer = strings.Repeat("x", 100_000)
		for range 8 {
			r := o.rude()
			_ = r.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
			for i := range uint32(100) {
				if r.call(2*i+1) != nil || r.WriteData(2*i+1, true, make([]byte, 5)) != nil {
					break // cut off
				}
			}
			synctest.Wait()
			if held := o.value("grpc_server_partial_message_bytes"); held > 51<<20 {
				t.Errorf("%v bytes are held, want at most 50 MiB", held)
			}
			o.ask()
		}
		if n := o.value("grpc_server_connections_closed_total"); n < 4 {
			t.Errorf("%v connections were closed for answers that they do not read", n)
		}
		given := o.rude()
		_ = given.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
		before := o.value("grpc_server_partial_message_bytes")
		for i := range uint32(3) {
			_ = given.call(2*i + 1)
			_ = given.WriteData(2*i+1, true, make([]byte, 5))
			synctest.Wait()
			_ = given.WriteRSTStream(2*i+1, http2.ErrCodeCancel)
		}
		synctest.Wait()
		if held := o.value("grpc_server_partial_message_bytes"); held > before {
			t.Errorf("%v bytes of calls that were given up are held", held-before)
		}
	})
}

// A call without a message is ended, and so is a call without an end of stream.
func TestCallsThatSendNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOpen(t, 0)
		r := o.rude()
		_ = r.call(1)
		_ = r.call(3)
		_ = r.WriteData(3, false, make([]byte, 5)) // complete except for the end of stream
		time.Sleep(4 * time.Second)
		synctest.Wait()
		if len(r.answers) > 0 {
			t.Errorf("answered early: %s", <-r.answers)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		for range 2 {
			if got, want := <-r.answers, fmt.Sprint(int(codes.DeadlineExceeded)); got != want {
				t.Errorf("ended with %s, want %s", got, want)
			}
		}
		o.ask()
	})
}

// Calls whose messages do not arrive do not block calls whose messages do.
func TestHalfSentCallsKeepOutNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOpen(t, 0)
		for range 6 {
			r := o.rude()
			for i := range uint32(128) {
				_ = r.call(2*i + 1)
			}
		}
		synctest.Wait()
		for range 100 {
			o.ask()
		}
	})
}

// A misbehaving client is cut off or slowed down, while others are answered immediately.
func TestFrameFloods(t *testing.T) {
	const frames = 8_000
	for name, tt := range map[string]struct {
		send func(r *rude, i uint32) error
		// slow is the least time that the frames take; 0 for a client that is cut off.
		slow time.Duration
	}{
		"calls that are cancelled": {func(r *rude, i uint32) error {
			if err := r.call(2*i + 1); err != nil {
				return err
			}
			return r.WriteRSTStream(2*i+1, http2.ErrCodeCancel)
		}, 5 * time.Second},
		"PING":                  {func(r *rude, i uint32) error { return r.WritePing(false, [8]byte{byte(i)}) }, 0},
		"SETTINGS":              {func(r *rude, _ uint32) error { return r.WriteSettings() }, 2 * time.Second},
		"SETTINGS acknowledged": {func(r *rude, _ uint32) error { return r.WriteSettingsAck() }, 2 * time.Second},
		"WINDOW_UPDATE":         {func(r *rude, _ uint32) error { return r.WriteWindowUpdate(0, 1) }, 2 * time.Second},
		"PRIORITY":              {func(r *rude, _ uint32) error { return r.WritePriority(1, http2.PriorityParam{StreamDep: 3}) }, 2 * time.Second},
		"unknown frames":        {func(r *rude, _ uint32) error { return r.WriteRawFrame(0xee, 0, 1, nil) }, 2 * time.Second},
		"empty DATA": {func(r *rude, i uint32) error {
			if i == 0 {
				return r.call(1)
			}
			return r.WriteData(1, false, nil)
		}, 2 * time.Second},
		"a message in many parts": {func(r *rude, i uint32) error {
			if i == 0 {
				_ = r.call(1)
				return r.part(1, 1<<20, 1, 1)
			}
			return r.WriteData(1, false, []byte{1})
		}, 0},
		"headers without end": {func(r *rude, i uint32) error {
			if i == 0 {
				return r.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x40, 1, 'x', 1, 'y'}})
			}
			return r.WriteContinuation(1, false, []byte{0x40, 1, 'x', 1, 'y'})
		}, 0},
		"data of calls that are refused": {func(r *rude, i uint32) error {
			stream := 2*(i/50) + 1
			if i%50 == 0 {
				_ = r.call(stream)
				_ = r.part(stream, 64<<20, 1, 6)
				if got := <-r.answers; got == "cut off" {
					r.answers <- got
					return io.EOF
				}
			}
			return r.WriteData(stream, false, make([]byte, 1000))
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOpen(t, 0)
				o.ask()
				r := o.rude()
				start := time.Now()
				ended := make(chan time.Duration, 1)
				go func() {
					for i := range uint32(frames) {
						if err := tt.send(r, i); err != nil {
							break
						}
					}
					ended <- time.Since(start)
				}()
				for range 3 {
					time.Sleep(500 * time.Millisecond)
					if took := o.ask(); took > 10*time.Millisecond {
						t.Errorf("the polite client waited %v", took)
					}
				}
				took := <-ended
				synctest.Wait()
				cut := false
				for len(r.answers) > 0 {
					cut = <-r.answers == "cut off" || cut
				}
				if want := tt.slow == 0; cut != want || took < tt.slow {
					t.Errorf("cut off: %t, after %v; want %t, and at least %v", cut, took, want, tt.slow)
				}
			})
		})
	}
}

// Clients that send complete messages are neither slowed down nor cut off.
func TestWellBehavedClientsAreNotLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOpen(t, 0)
		start := time.Now()
		for _, size := range []int{0, 1, 100, 16 << 10, 100_000, rpc.MaxMessage - 100} {
			for range 20 {
				if _, err := o.polite.Predict(t.Context(), &mlenginev1.PredictRequest{RequestId: strings.Repeat("x", size)}); err != nil {
					t.Fatalf("%d bytes: %v", size, err)
				}
			}
		}
		for range 3000 {
			ctx, cancel := context.WithCancel(t.Context())
			_, _ = o.polite.Predict(ctx, &mlenginev1.PredictRequest{})
			cancel()
		}
		synctest.Wait()
		if took := time.Since(start); took > 0 {
			t.Errorf("it took %v of waiting", took)
		}
		if held, closed := o.value("grpc_server_partial_message_bytes"), o.value("grpc_server_connections_closed_total"); held != 0 || closed != 0 {
			t.Errorf("%v bytes are held and %v connections were closed, want none", held, closed)
		}
	})
}

// A client with gRPC's default options pings for every round trip of a stream, and is not slowed down for it.
func TestStreamsWithPingsAreNotLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOpen(t, 0)
		conn, err := grpc.NewClient("passthrough:///bufnet", grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return o.l.DialContext(ctx) }))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		stream, err := mlenginev1.NewScoringServiceClient(conn).StreamPredict(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		for i := range uint64(10_000) {
			if err := stream.Send(&mlenginev1.BatchPredictRequest{Sequence: i}); err != nil {
				t.Fatal(err)
			}
			if got, err := stream.Recv(); err != nil || got.GetSequence() != i {
				t.Fatalf("got %v, %v", got, err)
			}
		}
		if took := time.Since(start); took > 0 {
			t.Errorf("it took %v of waiting", took)
		}
	})
}

// A gzip request is answered, and the answer is not compressed.
func TestPackedMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOpen(t, rpc.SmallMessage)
		for size, want := range map[int]codes.Code{100: codes.OK, rpc.SmallMessage - 100: codes.OK, rpc.SmallMessage + 1: codes.ResourceExhausted, 50 << 20: codes.ResourceExhausted} {
			if size == 50<<20 {
				continue // the client's own limit
			}
			_, err := o.polite.Predict(t.Context(), &mlenginev1.PredictRequest{RequestId: strings.Repeat("x", size)}, grpc.UseCompressor(gzip.Name))
			if status.Code(err) != want {
				t.Errorf("%d bytes: got %v, want %v", size, err, want)
			}
		}
	})
}

// Few streams of compressed messages are allowed, since each may decompress 4 MiB at any time. They do not reduce the number of calls
// and other streams.
func TestPackedStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOpen(t, 0)
		ask := func(opts ...grpc.CallOption) (grpc.BidiStreamingClient[mlenginev1.BatchPredictRequest, mlenginev1.BatchPredictResponse], error) {
			s, err := o.polite.StreamPredict(t.Context(), opts...)
			if err != nil {
				t.Fatal(err)
			}
			_ = s.Send(&mlenginev1.BatchPredictRequest{}) // Recv returns the error
			_, err = s.Recv()
			return s, err
		}
		pack := grpc.UseCompressor(gzip.Name)
		var last grpc.ClientStream
		for i := range 5 {
			s, err := ask(pack)
			want := codes.OK
			if i == 4 {
				want = codes.ResourceExhausted
			} else {
				last = s
			}
			if status.Code(err) != want {
				t.Errorf("packed stream %d: got %v, want %v", i, err, want)
			}
		}
		if _, err := ask(); err != nil {
			t.Errorf("a stream without compression: %v", err)
		}
		if _, err := o.polite.Predict(t.Context(), &mlenginev1.PredictRequest{}, pack); err != nil {
			t.Errorf("a packed call: %v", err)
		}
		_ = last.CloseSend()
		synctest.Wait()
		if _, err := ask(pack); err != nil {
			t.Errorf("a packed stream after another has ended: %v", err)
		}
	})
}

// At most half of the calls may be streams: the rest is for unary calls.
func TestStreamsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOpen(t, rpc.SmallMessage)
		opened := 0
		for range 3 {
			conn, err := rpc.Dial("passthrough:///bufnet", nil, grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return o.l.DialContext(ctx) }))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = conn.Close() })
			for range 100 {
				s, err := mlenginev1.NewScoringServiceClient(conn).StreamPredict(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				_ = s.Send(&mlenginev1.BatchPredictRequest{}) // Recv returns the error
				if _, err := s.Recv(); err == nil {
					opened++
				} else if status.Code(err) != codes.ResourceExhausted {
					t.Fatal(err)
				}
			}
		}
		if opened != 256 {
			t.Errorf("%d streams are open, want 256", opened)
		}
		o.ask()
	})
}

// A client that does not read its answers holds up a stop for a second, and the stop succeeds.
func TestDrainDoesNotWaitForReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOpen(t, rpc.SmallMessage)
		s, err := o.polite.StreamPredict(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for range 6000 { // of 16 bytes: more than the client's window, less than with the buffer of the server
			if err := s.Send(&mlenginev1.BatchPredictRequest{Sequence: math.MaxUint64}); err != nil {
				t.Fatal(err)
			}
		}
		_ = s.CloseSend()
		synctest.Wait()
		if open := o.value("grpc_server_open_calls"); open != 0 {
			t.Fatalf("%v calls are open, want that only their answers are left", open)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		start := time.Now()
		if err := o.server.Drain(ctx); err != nil || time.Since(start) != time.Second {
			t.Errorf("got %v after %v, want success after a second", err, time.Since(start))
		}
	})
}
