package decision_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	pb "google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/facade"
	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/shadow"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/executor/internal/decision"
)

// nobody is a missing ml-engine.
type nobody struct {
	mlenginev1.ScoringServiceClient
}

var errNobody = status.Error(codes.Unavailable, "nobody is there")

func (nobody) BatchPredict(context.Context, *mlenginev1.BatchPredictRequest, ...grpc.CallOption) (*mlenginev1.BatchPredictResponse, error) {
	return nil, errNobody
}

func (nobody) GetModelInfo(context.Context, *mlenginev1.GetModelInfoRequest, ...grpc.CallOption) (*mlenginev1.GetModelInfoResponse, error) {
	return nil, errNobody
}

// handlers is the service as a server calls it. Half of the requests are sampled for a shadow that always fails.
func handlers(f *testing.F) (*decision.Service, *shadow.Dispatcher) {
	f.Helper()
	path := filepath.Join(enginetest.Registry(f, "v1.8.1", "any"), "test", "any", model.BaselineFile)
	baseline, err := decision.LoadBaseline("heuristic="+path, "", nil)
	if err != nil {
		f.Fatal(err)
	}
	reg := prometheus.NewRegistry()
	opts := shadow.DefaultOptions()
	opts.Engine, opts.Logger, opts.Registerer = nobody{}, slog.New(slog.DiscardHandler), reg
	d, err := shadow.New(opts)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = d.Stop(context.Background()) })
	book := newBook(f, feature.BuildersOptions{MaxSymbols: 100})
	return decision.New(baseline, fixed(f, 50), ungated(f), d, book, decision.NewMetrics(reg)), d
}

// accounted checks that outcomes and requests in flight add up to all requests.
func accounted(t *testing.T, d *shadow.Dispatcher, before, more uint64) {
	t.Helper()
	r := d.Report()
	sum := r.GetInFlight()
	for _, o := range r.GetOutcomesTotal() {
		sum += o.GetCount()
	}
	if r.GetRequestsTotal() != before+more || sum != before+more {
		t.Fatalf("%d requests, outcomes of %d: want %d", r.GetRequestsTotal(), sum, before+more)
	}
}

// refusal checks the error of a request: a code for an invalid request or missing features, and a valid text.
func refusal(t *testing.T, err error) {
	t.Helper()
	s := status.Convert(err)
	switch s.Code() {
	case codes.InvalidArgument, codes.FailedPrecondition, codes.ResourceExhausted:
	default:
		t.Fatalf("got %v: %v", s.Code(), s.Message())
	}
	if s.Message() == "" || len(s.Message()) > 4096 {
		t.Fatalf("a message of %d bytes: %.200q", len(s.Message()), s.Message())
	}
}

// FuzzPredict sends arbitrary messages. Each is either refused and not counted, or answered with a reproducible score and
// one outcome.
func FuzzPredict(f *testing.F) {
	service, d := handlers(f)
	wire := func(m *executorv1.PredictRequest) {
		raw, err := pb.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	vector := []float64{1, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6}
	wire(&executorv1.PredictRequest{RequestId: "r", Symbol: "S", Vector: &executorv1.FeatureVector{Schema: "v1.8.1", Values: vector}})
	wire(&executorv1.PredictRequest{Vector: &executorv1.FeatureVector{Schema: "v1.8", Values: vector[:6]}})
	wire(&executorv1.PredictRequest{Features: map[string]float64{"vol1m_log_rel": 1, "spread_bp_rel": 2, "rsi14_z": 3, "zscore_mid_24h": 4}})
	wire(&executorv1.PredictRequest{Features: map[string]float64{strings.Repeat("x", 9000): math.NaN()}})
	wire(&executorv1.PredictRequest{Symbol: "S", Quote: &executorv1.Quote{Bid: 1, Ask: 2, Last: 1.5, Volume: 3}})
	f.Fuzz(func(t *testing.T, raw []byte) {
		req := &executorv1.PredictRequest{}
		if pb.Unmarshal(raw, req) != nil {
			return
		}
		before := d.Report().GetRequestsTotal()
		resp, err := service.Predict(t.Context(), req)
		if err != nil {
			refusal(t, err)
			accounted(t, d, before, 0)
			return
		}
		if s := resp.GetScore(); !(s >= 0 && s <= 1) || req.GetRequestId() != "" && resp.GetRequestId() != req.GetRequestId() || resp.GetRequestId() == "" {
			t.Fatalf("got %v", resp)
		}
		if req.GetQuote() == nil {
			again, err := service.Predict(t.Context(), req)
			if err != nil || again.GetScore() != resp.GetScore() || req.GetRequestId() != "" && again.GetShadowSampled() != resp.GetShadowSampled() {
				t.Fatalf("again: got %v, %v, want %v", again, err, resp)
			}
			before++
		}
		accounted(t, d, before, 1)
	})
}

// messages is a stream of the messages, which keeps their answers.
type messages struct {
	grpc.ServerStream

	ctx     context.Context
	left    [][]byte
	answers []*executorv1.DecideResponse
}

func (m *messages) Context() context.Context { return m.ctx }

func (m *messages) RecvMsg(to any) error {
	if len(m.left) == 0 {
		return io.EOF
	}
	next := m.left[0]
	m.left = m.left[1:]
	return pb.Unmarshal(next, to.(pb.Message))
}

func (m *messages) SendMsg(a any) error {
	if _, err := pb.Marshal(a.(pb.Message)); err != nil { // text that is not valid UTF-8 would end the stream
		return err
	}
	m.answers = append(m.answers, pb.Clone(a.(pb.Message)).(*executorv1.DecideResponse))
	return nil
}

// FuzzDecide sends arbitrary messages over a stream, each between two valid ones. All are answered, and the arbitrary one does not
// change the other answers.
func FuzzDecide(f *testing.F) {
	service, d := handlers(f)
	valid := &executorv1.DecideRequest{Sequence: 9, Request: &executorv1.PredictRequest{
		RequestId: "r", Symbol: "S", Vector: &executorv1.FeatureVector{Schema: "v1.8.1", Values: []float64{1, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6}},
	}}
	neighbour, err := pb.Marshal(valid)
	if err != nil {
		f.Fatal(err)
	}
	want, err := service.Predict(f.Context(), valid.GetRequest())
	if err != nil {
		f.Fatal(err)
	}
	for _, m := range []*executorv1.DecideRequest{
		valid,
		{},
		{Sequence: math.MaxUint64, Deadline: &timestamppb.Timestamp{Seconds: 1}},
		{Deadline: &timestamppb.Timestamp{Nanos: -1}},
		{Request: &executorv1.PredictRequest{Features: map[string]float64{strings.Repeat("x", 9000): math.NaN()}}},
		{Request: &executorv1.PredictRequest{Symbol: "S", Quote: &executorv1.Quote{Bid: 1, Ask: 2, Last: 1.5, Volume: 3}}},
	} {
		raw, err := pb.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		m := &executorv1.DecideRequest{}
		if pb.Unmarshal(raw, m) != nil {
			return
		}
		before := d.Report().GetRequestsTotal()
		stream := &messages{ctx: t.Context(), left: [][]byte{neighbour, raw, neighbour}}
		err := service.Decide(&grpc.GenericServerStream[executorv1.DecideRequest, executorv1.DecideResponse]{ServerStream: stream})
		if err != nil || len(stream.answers) != 3 {
			t.Fatalf("got %v and %d answers", err, len(stream.answers))
		}
		for _, a := range []*executorv1.DecideResponse{stream.answers[0], stream.answers[2]} {
			if !pb.Equal(a.GetResponse(), want) || a.GetSequence() != 9 {
				t.Fatalf("a neighbour: got %v, want %v", a, want)
			}
		}
		a, more := stream.answers[1], uint64(3)
		if f := a.GetError(); f != nil {
			more = 2
			if codes.Code(f.GetCode()) == codes.OK || codes.Code(f.GetCode()) == codes.Internal || f.GetMessage() == "" || f.GetReason() == "" || len(f.GetMessage()) > 4096 {
				t.Fatalf("got the failure %v", f)
			}
		}
		if s := a.GetResponse().GetScore(); a.GetSequence() != m.GetSequence() || a.GetResult() == nil || !(s >= 0 && s <= 1) {
			t.Fatalf("got %v for %v", a, m)
		}
		accounted(t, d, before, more)
	})
}

// FuzzPredictJSON posts arbitrary bodies to the facade: the answer is JSON with a score or an error.
func FuzzPredictJSON(f *testing.F) {
	service, _ := handlers(f)
	handler := facade.Unary(service.PredictWithShadow, facade.Route[*executorv1.PredictWithShadowRequest]{
		Bodies: new(facade.Bodies), Prepare: func(r *executorv1.PredictWithShadowRequest) { facade.CanonicalNames(r.GetFeatures()) },
	})
	f.Add(`{"requestId":"r","symbol":"S","features":{"vol1m_log_rel":1,"spreadBpRel":2,"rsi14_z":3,"zscoreMid24h":4}}`)
	f.Add(`{"symbol":"S","quote":{"bid":1,"ask":2,"time":"2026-01-01T00:00:00Z"},"event_time":"9999-12-31T23:59:59.999999999Z"}`)
	f.Add(`{"vector":{"schema":"v1.8","values":["NaN",1e999]}}`)
	f.Add(strings.Repeat(`[`, 20000))
	f.Fuzz(func(t *testing.T, body string) {
		w := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/predict-with-shadow", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		handler.ServeHTTP(w, r)
		var got struct {
			Baseline *struct {
				Score float64 `json:"score"`
			} `json:"baseline"`
		}
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
			t.Fatalf("%d: %q is no JSON: %v", w.Code, w.Body, err)
		}
		switch {
		case w.Code == http.StatusOK && got.Baseline != nil && got.Baseline.Score >= 0 && got.Baseline.Score <= 1:
		case w.Code >= 400 && w.Code < 500 && got.Baseline == nil:
		default:
			t.Fatalf("%d: %s", w.Code, w.Body)
		}
	})
}
