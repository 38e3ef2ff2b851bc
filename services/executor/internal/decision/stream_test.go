package decision_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	pb "google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/market"
	"github.com/greenlight-ml/greenlight/pkg/rpc"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/executor/internal/decision"
)

type decideStream = grpc.BidiStreamingClient[executorv1.DecideRequest, executorv1.DecideResponse]

// decides opens a stream.
func (e *executor) decides(ctx context.Context) decideStream {
	e.t.Helper()
	stream, err := e.Decide(ctx)
	if err != nil {
		e.t.Fatal(err)
	}
	return stream
}

// ask sends a message and returns its answer.
func ask(t testing.TB, stream decideStream, m *executorv1.DecideRequest) *executorv1.DecideResponse {
	t.Helper()
	if err := stream.Send(m); err != nil {
		t.Fatal(err)
	}
	got, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if got.GetSequence() != m.GetSequence() || got.GetResult() == nil {
		t.Fatalf("got %v for message %d", got, m.GetSequence())
	}
	return got
}

// request returns a valid request with the id.
func (e *executor) request(id string) *executorv1.PredictRequest {
	s := schema(e.t, "v1.8.1")
	return &executorv1.PredictRequest{RequestId: id, Symbol: "S", Vector: &executorv1.FeatureVector{Schema: s.Name, Values: enginetest.Vector(e.rng, s)}}
}

// failureOf is the failure of a call as a stream should report it, taken from the status that travels in trailers.
func failureOf(err error) *executorv1.DecideError {
	s := status.Convert(err)
	f := &executorv1.DecideError{Code: int32(s.Code()), Message: s.Message()}
	for _, d := range s.Details() {
		info := d.(*errdetails.ErrorInfo)
		f.Reason, f.Metadata = info.GetReason(), info.GetMetadata()
	}
	return f
}

// A message gets the same answer as a Predict call with the same request, bit for bit, and an invalid one does not end the stream.
func TestDecideAnswersAsPredict(t *testing.T) {
	minutes, _ := simulated(t)
	synctest.Test(t, func(t *testing.T) {
		e := start(t, enginetest.Options{}, 50, func(s *setup) { s.book = newBook(t, feature.BuildersOptions{MaxSymbols: 2}) })
		e.observeMinutes("WARM", minutes[:warm])
		e.wantNotReady("COLD", market.Quote{Time: 1_736_121_600_000, Bid: 1, Ask: 2}, "vol1m_log_rel,spread_bp_rel,rsi14_z,zscore_mid_24h")
		s := schema(t, "v1.8.1")
		vector := func(values ...float64) *executorv1.FeatureVector {
			return &executorv1.FeatureVector{Schema: "v1.8.1", Values: values}
		}
		requests := []*executorv1.PredictRequest{
			{RequestId: "named", Features: named(s, enginetest.Vector(e.rng, s)), Source: executorv1.Source_SOURCE_REPLAY, EventTime: timestamppb.Now()},
			{RequestId: "quote", Symbol: "WARM", Quote: proto(minutes[warm][0])},
			{},
			{Features: map[string]float64{"rsi14_z": 1}, Vector: vector()},
			{Vector: &executorv1.FeatureVector{Schema: "v0"}},
			{Vector: vector(1, 2)},
			{Vector: vector(1, 2, math.NaN(), 4, math.Inf(1), 6, 7)},
			{Features: map[string]float64{"rsi14_z": 1}},
			{Features: map[string]float64{"no_such": 1, "nor_this\n": 2}},
			{RequestId: strings.Repeat("x", 257), Vector: vector(1, 2, 3, 4, 5, 6, 7)},
			{Symbol: strings.Repeat("x", 65)},
			{Quote: proto(minutes[0][0])},
			{Symbol: "WARM", Quote: &executorv1.Quote{Bid: -1, Ask: 1}},
			{Symbol: "COLD", Quote: proto(market.Quote{Time: 1_736_121_600_001, Bid: 1, Ask: 2})},
			{Symbol: "THIRD", Quote: proto(market.Quote{Time: 1_736_121_600_001, Bid: 1, Ask: 2})},
		}
		for i := range 50 {
			requests = append(requests, e.request(fmt.Sprint("valid-", i)))
		}
		stream := e.decides(t.Context())
		reasons := map[string]bool{}
		for i, r := range requests {
			want, err := e.Predict(t.Context(), r)
			got := ask(t, stream, &executorv1.DecideRequest{Sequence: uint64(i), Request: r})
			if err != nil {
				if f := failureOf(err); !pb.Equal(got.GetError(), f) {
					t.Errorf("%v: got %v, want the failure of a call, %v", r, got, f)
				}
				reasons[got.GetError().GetReason()] = true
				continue
			}
			if !pb.Equal(got.GetResponse(), want) || got.GetResponse().GetRequestId() != r.GetRequestId() {
				t.Errorf("%v: got %v, want %v as from a call", r, got, want)
			}
		}
		if len(reasons) != 12 { // all reasons of invalid requests, NOT_READY and TOO_MANY_SYMBOLS
			t.Errorf("the requests fail for the reasons %v", reasons)
		}
		if f := ask(t, stream, &executorv1.DecideRequest{Sequence: 1}).GetError(); f.GetReason() != "INPUT_MISSING" || f.GetCode() != int32(codes.InvalidArgument) {
			t.Errorf("without a request: got %v", f)
		}
		if got := ask(t, stream, &executorv1.DecideRequest{Request: &executorv1.PredictRequest{Features: named(s, enginetest.Vector(e.rng, s))}}); got.GetResponse().GetRequestId() == "" {
			t.Errorf("without an id: got %v", got)
		}
		time.Sleep(timeout)
		synctest.Wait()
		if r, _ := e.report(); r.GetRequestsTotal() != 2*52+1 || r.GetInFlight() != 0 {
			t.Errorf("%d requests are counted, want those of %d calls and %d messages", r.GetRequestsTotal(), 52, 53)
		}
		e.wantMessages(t, map[codes.Code]float64{codes.OK: 53, codes.InvalidArgument: 12, codes.FailedPrecondition: 1, codes.ResourceExhausted: 1})
	})
}

// wantMessages checks the counts of answers to messages.
func (e *executor) wantMessages(t *testing.T, want map[codes.Code]float64) {
	t.Helper()
	families, err := e.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	series := 0
	for _, f := range families {
		if f.GetName() != "ml_decide_messages_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			series++
			name := m.GetLabel()[0].GetValue()
			for code := codes.OK; code <= codes.Unauthenticated; code++ {
				if code.String() == name && m.GetCounter().GetValue() != want[code] {
					t.Errorf("%s: got %v messages, want %v", name, m.GetCounter().GetValue(), want[code])
				}
			}
		}
	}
	if series != 17 {
		t.Errorf("%d codes are counted, want all 17", series)
	}
}

// A message that is read after its deadline is answered but neither scored nor observed. So is one with an invalid
// deadline.
func TestDecideDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := start(t, enginetest.Options{}, 100)
		stream := e.decides(t.Context())
		now := time.Now()
		for _, tt := range []struct {
			name     string
			deadline *timestamppb.Timestamp
			code     codes.Code
			reason   string
		}{
			{"none", nil, codes.OK, ""},
			{"now", timestamppb.New(now), codes.OK, ""},
			{"in time", timestamppb.New(now.Add(time.Nanosecond)), codes.OK, ""},
			{"late", timestamppb.New(now.Add(-time.Nanosecond)), codes.DeadlineExceeded, "EXPIRED"},
			{"year 1", &timestamppb.Timestamp{Seconds: -62135596800}, codes.DeadlineExceeded, "EXPIRED"},
			{"year 9999", &timestamppb.Timestamp{Seconds: 253402300799}, codes.OK, ""},
			{"before year 1", &timestamppb.Timestamp{Seconds: -62135596801}, codes.InvalidArgument, "DEADLINE_INVALID"},
			{"after year 9999", &timestamppb.Timestamp{Seconds: math.MaxInt64}, codes.InvalidArgument, "DEADLINE_INVALID"},
			{"nanoseconds", &timestamppb.Timestamp{Seconds: now.Unix() + 60, Nanos: 1e9}, codes.InvalidArgument, "DEADLINE_INVALID"},
			{"negative nanoseconds", &timestamppb.Timestamp{Seconds: now.Unix() + 60, Nanos: -1}, codes.InvalidArgument, "DEADLINE_INVALID"},
		} {
			before, _ := e.report()
			got := ask(t, stream, &executorv1.DecideRequest{Sequence: math.MaxUint64, Deadline: tt.deadline, Request: e.request("r")})
			f := got.GetError()
			if codes.Code(f.GetCode()) != tt.code || f.GetReason() != tt.reason || (f.GetMessage() == "") != (tt.code == codes.OK) {
				t.Errorf("%s: got %v, want %v %s", tt.name, got, tt.code, tt.reason)
			}
			want := uint64(0)
			if tt.code == codes.OK {
				want = 1
			}
			if after, _ := e.report(); after.GetRequestsTotal()-before.GetRequestsTotal() != want {
				t.Errorf("%s: %d requests are counted, want %d", tt.name, after.GetRequestsTotal()-before.GetRequestsTotal(), want)
			}
		}
		e.wantMessages(t, map[codes.Code]float64{codes.OK: 4, codes.DeadlineExceeded: 2, codes.InvalidArgument: 4})
	})
}

// When the client closes its side, every message is answered before the stream ends.
func TestDecideDrainsAHalfClosedStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := start(t, enginetest.Options{}, 100)
		stream := e.decides(t.Context())
		open := map[uint64]int{}
		for i := range 500 {
			sequence := uint64(i % 100) // executor does not interpret it
			open[sequence]++
			if err := stream.Send(&executorv1.DecideRequest{Sequence: sequence, Request: e.request(fmt.Sprint(i))}); err != nil {
				t.Fatal(err)
			}
		}
		if err := stream.CloseSend(); err != nil {
			t.Fatal(err)
		}
		for {
			got, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if open[got.GetSequence()]--; open[got.GetSequence()] < 0 || got.GetResponse() == nil {
				t.Fatalf("got %v", got)
			}
		}
		for sequence, n := range open {
			if n != 0 {
				t.Errorf("%d messages %d are not answered", n, sequence)
			}
		}
	})
}

// A stop ends streams immediately, answers every message that was decided on, and refuses new streams.
func TestDecideEndsWithTheService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := start(t, enginetest.Options{}, 100)
		idle, busy := e.decides(t.Context()), e.decides(t.Context())
		ask(t, idle, &executorv1.DecideRequest{Request: e.request("idle")})
		answered := make(chan uint64)
		go func() {
			n := uint64(0)
			for {
				if _, err := busy.Recv(); err != nil {
					wantReason(t, err, codes.Unavailable, "STOPPING")
					break
				}
				n++
			}
			answered <- n
		}()
		begin := time.Now()
		for i := range 2000 {
			if i == 1000 {
				go e.service.EndStreams()
			}
			if busy.Send(&executorv1.DecideRequest{Request: e.request(fmt.Sprint(i))}) != nil {
				break // the stream has ended
			}
		}
		n := <-answered
		_, err := idle.Recv()
		wantReason(t, err, codes.Unavailable, "STOPPING")
		if took := time.Since(begin); took != 0 {
			t.Errorf("the stop took %v", took)
		}
		synctest.Wait()
		if r, _ := e.report(); r.GetRequestsTotal() != n+1 {
			t.Errorf("%d messages were decided on and %d answered", r.GetRequestsTotal()-1, n)
		}
		_, err = e.decides(t.Context()).Recv()
		wantReason(t, err, codes.Unavailable, "STOPPING")
	})
}

// fill sends messages until flow control blocks the sender, and returns how many were sent.
func (e *executor) fill(stream decideStream, m *executorv1.DecideRequest) (sent int) {
	tokens := make(chan struct{})
	go func() {
		defer close(tokens)
		for stream.Send(m) == nil {
			tokens <- struct{}{}
		}
	}()
	for {
		synctest.Wait()
		select {
		case _, ok := <-tokens:
			if !ok {
				return sent
			}
			sent++
		default:
			return sent
		}
	}
}

// A client that never reads blocks only itself: executor decides no more than fits into its windows, answers other clients
// meanwhile, and stops within a second.
func TestDecideSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := start(t, enginetest.Options{}, 0)
		ctx, cancel := context.WithCancel(t.Context())
		slow := e.decides(ctx)
		sent := e.fill(slow, &executorv1.DecideRequest{Request: e.request("slow")})
		if sent < 100 || sent > 5000 {
			t.Errorf("%d messages were sent before flow control stopped the sender", sent)
		}
		r, _ := e.report()
		decided := r.GetRequestsTotal()
		if decided == 0 || decided >= uint64(sent) {
			t.Errorf("%d messages of %d were decided on", decided, sent)
		}
		other := e.decides(t.Context())
		for i := range 100 {
			ask(t, other, &executorv1.DecideRequest{Sequence: uint64(i), Request: e.request("other")})
		}
		begin := time.Now()
		e.service.EndStreams()
		_, err := other.Recv()
		wantReason(t, err, codes.Unavailable, "STOPPING")
		if took := time.Since(begin); took != 0 {
			t.Errorf("another stream ended after %v", took)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if r, _ := e.report(); r.GetRequestsTotal() != decided+100 {
			t.Errorf("%d messages were decided on after the stop", r.GetRequestsTotal()-decided-100)
		}
		read := uint64(0)
		for ; ; read++ {
			if _, err = slow.Recv(); err != nil {
				break
			}
		}
		wantReason(t, err, codes.Unavailable, "STOPPING")
		if decided-read > 1 { // the one that could not be sent
			t.Errorf("%d messages were decided on and %d answered", decided, read)
		}
		cancel()
	})
}

// Streams that are canceled at any moment leave no goroutine, and every decision is counted once.
func TestDecideCanceled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := start(t, enginetest.Options{}, 100)
		for range 200 {
			ctx, cancel := context.WithCancel(t.Context())
			stream := e.decides(ctx)
			messages, halfClosed, reads := e.rng.IntN(20), e.rng.IntN(3) == 0, e.rng.IntN(20)
			for i := range messages {
				if err := stream.Send(&executorv1.DecideRequest{Sequence: uint64(i), Request: e.request("r")}); err != nil {
					t.Fatal(err)
				}
			}
			if halfClosed {
				_ = stream.CloseSend()
			}
			for range min(messages, reads) {
				if _, err := stream.Recv(); err != nil {
					t.Fatal(err)
				}
			}
			cancel()
			if _, err := stream.Recv(); err == nil && reads >= messages {
				t.Fatal("an answer without a message")
			}
		}
		time.Sleep(timeout)
		synctest.Wait() // a goroutine that is left over fails the bubble
		e.report()
	})
}

// garbageCodec sends its bytes instead of every message.
type garbageCodec struct {
	encoding.CodecV2

	bytes string
}

func (c garbageCodec) Marshal(any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(c.bytes)}, nil
}

// sendBytes opens a stream and sends the bytes as its first message.
func (e *executor) sendBytes(b string) decideStream {
	e.t.Helper()
	stream, err := e.Decide(e.t.Context(), grpc.ForceCodecV2(garbageCodec{encoding.GetCodecV2("proto"), b}))
	if err != nil {
		e.t.Fatal(err)
	}
	if err := stream.Send(&executorv1.DecideRequest{}); err != nil {
		e.t.Fatal(err)
	}
	return stream
}

// An undecodable message, or one over 64 KiB, ends its stream and no other.
func TestDecideGarbage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := start(t, enginetest.Options{}, 100, func(s *setup) { s.maxMessage = rpc.SmallMessage })
		healthy := e.decides(t.Context())
		for name, tt := range map[string]struct {
			bytes string
			code  codes.Code
		}{
			"too large":  {strings.Repeat("x", rpc.SmallMessage+1), codes.ResourceExhausted},
			"no message": {"\xff\xff\xff garbage", codes.Internal},
			"cut off":    {"\x1a\x7f\x0a", codes.Internal},
		} {
			if _, err := e.sendBytes(tt.bytes).Recv(); status.Code(err) != tt.code {
				t.Errorf("%s: got %v, want %v", name, err, tt.code)
			}
			ask(t, healthy, &executorv1.DecideRequest{Sequence: 7, Request: e.request("r")})
		}
		// Random bytes end the stream, or decode to a message with an answer.
		rng := rand.New(rand.NewPCG(1, 2))
		for range 300 {
			b := make([]byte, rng.IntN(40))
			for i := range b {
				b[i] = byte(rng.IntN(256))
			}
			stream := e.sendBytes(string(b))
			got, err := stream.Recv()
			parses := pb.Unmarshal(b, &executorv1.DecideRequest{}) == nil
			if parses != (err == nil) || err != nil && status.Code(err) != codes.Internal {
				t.Fatalf("%q: got %v, %v", b, got, err)
			}
			_ = stream.CloseSend()
			if _, err := stream.Recv(); err == nil {
				t.Fatal("a second answer")
			}
		}
		ask(t, healthy, &executorv1.DecideRequest{Sequence: 8, Request: e.request("r")})
	})
}

// The rate limit counts the first message with the stream, and every other one separately. Only the message over the rate is refused.
func TestDecideLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := start(t, enginetest.Options{}, 100)
		asked := 0
		e.service.LimitMessages(func(context.Context) error {
			if asked++; asked%2 == 0 {
				return status.Error(codes.ResourceExhausted, "too many")
			}
			return nil
		})
		stream := e.decides(t.Context())
		for i, want := range []codes.Code{codes.OK, codes.OK, codes.ResourceExhausted, codes.OK, codes.ResourceExhausted} {
			got := ask(t, stream, &executorv1.DecideRequest{Sequence: uint64(i), Request: e.request("r")})
			if code := codes.Code(got.GetError().GetCode()); code != want || want != codes.OK && got.GetError().GetMessage() != "too many" {
				t.Errorf("message %d: got %v, want %v", i, got, want)
			}
		}
		if asked != 4 {
			t.Errorf("asked %d times, want 4", asked)
		}
		if r, _ := e.report(); r.GetRequestsTotal() != 3 {
			t.Errorf("%d requests are counted, want 3", r.GetRequestsTotal())
		}
	})
}

// panicking is a rollout with a bug.
type panicking struct{ decision.Rollout }

func (panicking) Sampled(string, time.Time) bool { panic("a bug") }

// A panic ends the stream with INTERNAL, is counted like a call's, and executor keeps running.
func TestDecidePanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := start(t, enginetest.Options{}, 100, func(s *setup) { s.rollout = func(r decision.Rollout) decision.Rollout { return panicking{r} } })
		for range 2 {
			stream := e.decides(t.Context())
			if err := stream.Send(&executorv1.DecideRequest{Request: e.request("r")}); err != nil {
				t.Fatal(err)
			}
			if got, err := stream.Recv(); status.Code(err) != codes.Internal {
				t.Errorf("got %v, %v; want INTERNAL", got, err)
			}
		}
		if n := counter(t, e.reg, "grpc_server_panics_recovered_total"); n != 2 {
			t.Errorf("%v panics are counted, want 2", n)
		}
	})
}

// counter returns the value of a counter without labels.
func counter(t *testing.T, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

// A stream keeps no message in memory once it has answered it: 64 KiB of short names decode to ten times as much, and 256
// streams may be open.
func TestStreamsHoldNoMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := start(t, enginetest.Options{}, 0)
		streams := make([]decideStream, 32)
		for i := range streams {
			streams[i] = e.decides(t.Context())
			ask(t, streams[i], &executorv1.DecideRequest{Request: e.request("first")})
		}
		held := func() int {
			synctest.Wait()
			runtime.GC()
			runtime.GC() // pooled buffers survive the first
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return int(m.HeapAlloc)
		}
		before := held()
		var entries []byte // of PredictRequest.features, without their values
		for i := range 8100 {
			entries = append(entries, 4<<3|2, 4, 1<<3|2, 2, byte(' '+i/90), byte(' '+i%90))
		}
		many := &executorv1.PredictRequest{}
		many.ProtoReflect().SetUnknown(entries)
		for _, s := range streams {
			if got := ask(t, s, &executorv1.DecideRequest{Request: many}); got.GetError().GetReason() != "FEATURE_UNKNOWN" {
				t.Fatalf("got %v, want that the features are not known", got)
			}
		}
		if each := (held() - before) / len(streams); each > 64<<10 {
			t.Errorf("a stream holds %d bytes of an answered message, want none", each)
		}
		for _, s := range streams {
			_ = s.CloseSend()
		}
	})
}
