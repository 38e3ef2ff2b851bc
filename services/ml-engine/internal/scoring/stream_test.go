package scoring_test

import (
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

type batches = grpc.BidiStreamingClient[mlenginev1.BatchPredictRequest, mlenginev1.BatchPredictResponse]

func (e *engine) stream(t *testing.T) batches {
	t.Helper()
	s, err := e.client.StreamPredict(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Every message gets BatchPredict's answer or error, in order and with its sequence number. After half-close the stream
// ends without an error.
func TestStreamAnswersAsBatchPredict(t *testing.T) {
	e := startTest(t)
	rng := rand.New(rand.NewPCG(1, 1))
	mixed := slices.Concat(enginetest.Vector(rng, e.model.Schema), goodVector(e.model.Schema), goodVector(e.model.Schema))
	mixed[7+3] = math.NaN()
	requests := []*mlenginev1.BatchPredictRequest{
		{Schema: "v1.8.1", Values: goodVector(e.model.Schema)},
		{Schema: "v1.8.1", Values: mixed},
		{Schema: "v1.8.1"},
		{Schema: "v1.8", Values: make([]float64, 6)},
		{Schema: "v1.8.1", Values: make([]float64, 8)},
		{Schema: "v1.8.1", Values: make([]float64, 7*10_001)},
		{Schema: "v1.8.1", Values: goodVector(e.model.Schema), Watched: []string{"mid"}},
		{Schema: strings.Repeat("é", 40_000), Values: goodVector(e.model.Schema)},
		{Schema: "v1.8.1", Values: slices.Repeat(goodVector(e.model.Schema), 10_000)},
	}
	s := e.stream(t)
	go func() {
		for i, req := range requests {
			req = proto.CloneOf(req)
			req.Sequence = uint64(7 * i)
			_ = s.Send(req)
		}
		_ = s.CloseSend()
	}()
	for i, req := range requests {
		got, err := s.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if got.GetSequence() != uint64(7*i) {
			t.Errorf("message %d: got sequence %d, want %d", i, got.GetSequence(), 7*i)
		}
		want, wantErr := e.client.BatchPredict(t.Context(), req)
		if wantErr != nil {
			w := status.Convert(wantErr)
			if g := got.GetError(); codes.Code(g.GetCode()) != w.Code() || g.GetMessage() != w.Message() ||
				g.GetReason() == mlenginev1.ErrorReason_ERROR_REASON_UNSPECIFIED || len(got.GetScores()) > 0 || got.GetModelVersion() != "" {
				t.Errorf("message %d: got %.300v, want the error %.300v alone", i, got, wantErr)
			}
			continue
		}
		got.Sequence = 0
		gotBytes, _ := proto.MarshalOptions{Deterministic: true}.Marshal(got) // not Equal, which treats NaN as different from NaN
		wantBytes, _ := proto.MarshalOptions{Deterministic: true}.Marshal(want)
		if !slices.Equal(gotBytes, wantBytes) {
			t.Errorf("message %d: got %.300v, want %.300v", i, got, want)
		}
	}
	if _, err := s.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("after half-close: got %v, want the end", err)
	}
	// Twice: over the stream and by calls.
	e.wantCounts(t, map[string]float64{"ok": 2 * (1 + 2 + 10_000), "invalid_argument": 2 * (1 + 6)})
}

// A stream counts for drift like calls.
func TestStreamCountsDrift(t *testing.T) {
	e := startTest(t)
	s := e.stream(t)
	for range 3 {
		if err := s.Send(&mlenginev1.BatchPredictRequest{Schema: "v1.8.1", Values: slices.Repeat(goodVector(e.model.Schema), 5)}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	drift, err := e.drift.GetDrift(t.Context(), &mlenginev1.GetDriftRequest{})
	if err != nil || drift.GetRows() != 15 {
		t.Errorf("got %d rows, %v; want 15", drift.GetRows(), err)
	}
}

// A message that gRPC refuses ends the stream, and is counted like a refused call.
func TestStreamMessageOverTheLimit(t *testing.T) {
	e := startTest(t)
	s := e.stream(t)
	_ = s.Send(&mlenginev1.BatchPredictRequest{Schema: "v1.8.1", Values: make([]float64, 5<<20/8)})
	_, err := s.Recv()
	wantError(t, err, codes.ResourceExhausted, "", "")
	waitFor(t, func() bool { return e.counts(t)["resource_exhausted"] == 1 })
	e.wantCounts(t, map[string]float64{"resource_exhausted": 1})
}

// fragile is a scorer that panics.
type fragile struct{}

func (fragile) Score([]float64) float64 { panic("no score") }

func (fragile) Scores(_, _ []float64) { panic("no score") }

// A panic of a model ends the stream with INTERNAL, like a call; the next stream is answered.
func TestStreamOfAModelThatPanics(t *testing.T) {
	a := enginetest.Artifact(t, "v1.8.1", version)
	a.Scorer = fragile{}
	e := start(t, a)
	for range 2 {
		s := e.stream(t)
		if err := s.Send(&mlenginev1.BatchPredictRequest{Schema: "v1.8.1", Values: goodVector(a.Schema)}); err != nil {
			t.Fatal(err)
		}
		_, err := s.Recv()
		wantError(t, err, codes.Internal, "", "")
	}
}

// A stop answers the messages already read, ends the streams, and refuses new ones. So it need not wait for callers.
func TestEndStreams(t *testing.T) {
	a := enginetest.Artifact(t, "v1.8.1", version)
	scored, goOn := make(chan struct{}), make(chan struct{})
	a.Scorer = slow{scored, goOn}
	e := start(t, a)
	idle, busy := e.stream(t), e.stream(t)
	if err := busy.Send(&mlenginev1.BatchPredictRequest{Schema: "v1.8.1", Values: goodVector(a.Schema), Sequence: 5}); err != nil {
		t.Fatal(err)
	}
	<-scored
	e.service.EndStreams()
	if _, err := idle.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("an idle stream: got %v, want its end", err)
	}
	close(goOn)
	if resp, err := busy.Recv(); err != nil || resp.GetSequence() != 5 || len(resp.GetScores()) != 1 {
		t.Errorf("the message that was read: got %v, %v; want its answer", resp, err)
	}
	if _, err := busy.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("after it: got %v, want the end", err)
	}
	if _, err := e.stream(t).Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("a new stream: got %v, want its end", err)
	}
}

// slow is a scorer that reports when it begins, and waits.
type slow struct{ began, goOn chan struct{} }

func (s slow) Score([]float64) float64 {
	s.began <- struct{}{}
	<-s.goOn
	return 0.5
}

func (s slow) Scores(scores, _ []float64) { scores[0] = s.Score(nil) }
