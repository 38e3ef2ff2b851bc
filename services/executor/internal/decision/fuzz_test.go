package decision_test

import (
	"context"
	"encoding/json"
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

	"github.com/greenlight-ml/greenlight/pkg/facade"
	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/shadow"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/executor/internal/decision"
)

// nobody is an absent ml-engine.
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
	return decision.New(baseline, fixed(f, 50), d, book, decision.NewMetrics(reg)), d
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
