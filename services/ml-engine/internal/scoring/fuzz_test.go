package scoring_test

import (
	"encoding/json"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/greenlight-ml/greenlight/pkg/facade"
	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/oip/gen/inference"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/ml-engine/internal/monitor"
	"github.com/greenlight-ml/greenlight/services/ml-engine/internal/scoring"
)

// handlers are the services as a server calls them, with a drift watch.
func handlers(f *testing.F) (*scoring.Service, *monitor.Monitor, *feature.Schema) {
	f.Helper()
	a := enginetest.Artifact(f, "v1.8.1", version)
	m, err := monitor.Open(monitor.Options{EventClock: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		f.Fatal(err)
	}
	watch, err := m.Watch(a)
	if err != nil {
		f.Fatal(err)
	}
	m.Activate(watch)
	f.Cleanup(func() { _ = m.Stop(f.Context()) })
	return scoring.New(scoring.Loaded{Artifact: a, Watch: watch}, scoring.NewMetrics(prometheus.NewRegistry())), m, a.Schema
}

func wire(f *testing.F, m proto.Message) []byte {
	f.Helper()
	raw, err := proto.Marshal(m)
	if err != nil {
		f.Fatal(err)
	}
	return raw
}

// refusal checks the error of a request: a code for an invalid request, and a valid text.
func refusal(t *testing.T, err error) {
	t.Helper()
	if s := status.Convert(err); s.Code() != codes.InvalidArgument || s.Message() == "" || len(s.Message()) > 4096 {
		t.Fatalf("got %v of %d bytes: %.200q", s.Code(), len(s.Message()), s.Message())
	}
}

// FuzzPredict sends arbitrary messages. Each is refused as invalid or answered with a score.
func FuzzPredict(f *testing.F) {
	service, _, schema := handlers(f)
	f.Add(wire(f, &mlenginev1.PredictRequest{RequestId: "r", Symbol: "S", Features: good(schema)}))
	f.Add(wire(f, &mlenginev1.PredictRequest{Vector: &mlenginev1.FeatureVector{Schema: schema.Name, Values: goodVector(schema)}, Watched: map[string]float64{"mid": 1}}))
	f.Add(wire(f, &mlenginev1.PredictRequest{Vector: &mlenginev1.FeatureVector{Schema: schema.Name, Values: []float64{1, math.NaN(), math.Inf(1)}}}))
	f.Add(wire(f, &mlenginev1.PredictRequest{Features: map[string]float64{strings.Repeat("x", 9000): 1, "bias": 0}}))
	f.Fuzz(func(t *testing.T, raw []byte) {
		req := &mlenginev1.PredictRequest{}
		if proto.Unmarshal(raw, req) != nil {
			return
		}
		resp, err := service.Predict(t.Context(), req)
		if err != nil {
			refusal(t, err)
			return
		}
		if s := resp.GetScore(); !(s >= 0 && s <= 1) || resp.GetRequestId() != req.GetRequestId() || resp.GetModelVersion() != version {
			t.Fatalf("got %v", resp)
		}
		if again, err := service.Predict(t.Context(), req); err != nil || again.GetScore() != resp.GetScore() {
			t.Fatalf("again: got %v, %v, want %v", again, err, resp)
		}
	})
}

// FuzzBatchPredict sends arbitrary messages. Each is refused, or every row has a score or an error.
func FuzzBatchPredict(f *testing.F) {
	service, _, schema := handlers(f)
	x := goodVector(schema)
	f.Add(wire(f, &mlenginev1.BatchPredictRequest{Schema: schema.Name, Values: append(x, x...)}))
	f.Add(wire(f, &mlenginev1.BatchPredictRequest{Schema: schema.Name, Values: x, Watched: []string{"mid", "mid"}, WatchedValues: []float64{1, 2}, EventTimesMs: []int64{math.MaxInt64}}))
	f.Add(wire(f, &mlenginev1.BatchPredictRequest{Schema: schema.Name, Values: append(make([]float64, len(x)), x...), EventTimesMs: []int64{-1, 1}}))
	f.Fuzz(func(t *testing.T, raw []byte) {
		req := &mlenginev1.BatchPredictRequest{}
		if proto.Unmarshal(raw, req) != nil {
			return
		}
		resp, err := service.BatchPredict(t.Context(), req)
		if err != nil {
			refusal(t, err)
			return
		}
		if len(resp.GetScores())*schema.Len() != len(req.GetValues()) {
			t.Fatalf("%d scores for %d values", len(resp.GetScores()), len(req.GetValues()))
		}
		failed := map[int]bool{}
		for _, e := range resp.GetErrors() {
			failed[int(e.GetRow())] = true
		}
		for i, s := range resp.GetScores() {
			if failed[i] != math.IsNaN(s) || !failed[i] && !(s >= 0 && s <= 1) {
				t.Fatalf("row %d: %v, failed %v", i, s, failed[i])
			}
		}
	})
}

// FuzzGetDrift requests arbitrary windows.
func FuzzGetDrift(f *testing.F) {
	_, m, _ := handlers(f)
	service := monitor.NewService(m)
	f.Add(wire(f, &mlenginev1.GetDriftRequest{Bins: true, Reference: true, History: true}))
	f.Add([]byte{10, 11, 8, 255, 255, 255, 255, 255, 255, 255, 255, 127})
	f.Fuzz(func(t *testing.T, raw []byte) {
		req := &mlenginev1.GetDriftRequest{}
		if proto.Unmarshal(raw, req) != nil {
			return
		}
		resp, err := service.GetDrift(t.Context(), req)
		if err != nil {
			refusal(t, err)
			return
		}
		window := resp.GetWindowEndTime().AsTime().Sub(resp.GetWindowStartTime().AsTime())
		if d := req.GetWindow(); d != nil && d.AsDuration() != window {
			t.Fatalf("asked for %v, got %v", d.AsDuration(), window)
		}
	})
}

// FuzzPredictJSON posts arbitrary bodies to the facade: the answer is JSON with a score or an error.
func FuzzPredictJSON(f *testing.F) {
	service, _, schema := handlers(f)
	handler := facade.Unary(service.Predict, facade.Route[*mlenginev1.PredictRequest]{
		Bodies: new(facade.Bodies), Prepare: func(r *mlenginev1.PredictRequest) { facade.CanonicalNames(r.GetFeatures()) },
	})
	named, err := json.Marshal(map[string]any{"features": good(schema)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(named))
	f.Add(strings.Replace(string(named), "spread_bp_rel", "spreadBpRel", 1))
	f.Add(`{"vector":{"schema":"v1.8.1","values":["NaN",1e999,"-Infinity"]}}`)
	f.Add(`{"features":{"bias":1,"bias":2}}`)
	f.Add(strings.Repeat(`{"features":`, 5000))
	f.Fuzz(func(t *testing.T, body string) {
		w := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/ml/predict", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		handler.ServeHTTP(w, r)
		var got struct {
			Score *float64 `json:"score"`
			Code  any      `json:"code"`
		}
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
			t.Fatalf("%d: %q is no JSON: %v", w.Code, w.Body, err)
		}
		switch {
		case w.Code == http.StatusOK && got.Score != nil && *got.Score >= 0 && *got.Score <= 1:
		case w.Code == http.StatusBadRequest && got.Score == nil:
		default:
			t.Fatalf("%d: %s", w.Code, w.Body)
		}
	})
}

// registrar keeps what is registered.
type registrar struct {
	desc *grpc.ServiceDesc
	impl any
}

func (r *registrar) RegisterService(desc *grpc.ServiceDesc, impl any) { r.desc, r.impl = desc, impl }

// FuzzModelInfer sends arbitrary messages of the Open Inference Protocol. Each is refused or answered with scores.
func FuzzModelInfer(f *testing.F) {
	service, _, _ := handlers(f)
	var r registrar
	scoring.RegisterInference(&r, service, model.OpenRegistry(f.TempDir()))
	method := slices.IndexFunc(r.desc.Methods, func(m grpc.MethodDesc) bool { return m.MethodName == "ModelInfer" })
	row := []float64{1, 0.5, 1, 0, 0.25, -1, 2}
	for _, datatype := range []string{"FP64", "FP32"} {
		f.Add(wire(f, request(datatype, true, row)))
		f.Add(wire(f, request(datatype, false, row)))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var read error
		answer, err := r.desc.Methods[method].Handler(r.impl, t.Context(), func(m any) error {
			read = proto.Unmarshal(raw, m.(proto.Message))
			return read
		}, nil)
		switch {
		case read != nil: // gRPC refuses it
		case status.Code(err) == codes.NotFound:
		case err != nil:
			refusal(t, err)
		default:
			resp := answer.(*inference.ModelInferResponse)
			rows := resp.GetOutputs()[0].GetShape()[0]
			for _, score := range scoresOf(t, resp, resp.GetOutputs()[0].GetDatatype(), len(resp.GetRawOutputContents()) > 0, int(rows)) {
				if !(score >= 0 && score <= 1) {
					t.Fatalf("score %v", score)
				}
			}
		}
	})
}
