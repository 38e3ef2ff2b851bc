package scoring_test

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/oip/gen/inference"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/ml-engine/internal/scoring"
)

// request is a request of the model of startTest for rows of 7 values: typed, or raw if raw is set.
func request(datatype string, raw bool, values []float64) *inference.ModelInferRequest {
	in := &inference.ModelInferRequest_InferInputTensor{Name: "input", Datatype: datatype, Shape: []int64{int64(len(values) / 7), 7}}
	req := &inference.ModelInferRequest{ModelName: "test", Id: "r-1", Inputs: []*inference.ModelInferRequest_InferInputTensor{in}}
	single := make([]float32, len(values))
	for i, v := range values {
		single[i] = float32(v)
	}
	switch {
	case raw:
		var b bytes.Buffer
		var err error
		if datatype == "FP32" {
			err = binary.Write(&b, binary.LittleEndian, single)
		} else {
			err = binary.Write(&b, binary.LittleEndian, values)
		}
		if err != nil {
			panic(err)
		}
		req.RawInputContents = [][]byte{b.Bytes()}
	case datatype == "FP32":
		in.Contents = &inference.InferTensorContents{Fp32Contents: single}
	default:
		in.Contents = &inference.InferTensorContents{Fp64Contents: values}
	}
	return req
}

// scoresOf reads the scores of a response, which must have the requested form.
func scoresOf(t *testing.T, resp *inference.ModelInferResponse, datatype string, raw bool, rows int) []float64 {
	t.Helper()
	if len(resp.GetOutputs()) != 1 || raw != (len(resp.GetRawOutputContents()) == 1) || raw == (resp.GetOutputs()[0].GetContents() != nil) {
		t.Fatalf("got %v: want one output, raw: %t", resp, raw)
	}
	out := resp.GetOutputs()[0]
	if out.GetName() != "score" || out.GetDatatype() != datatype || !slices.Equal(out.GetShape(), []int64{int64(rows)}) {
		t.Fatalf("got output %v, want score, %s, [%d]", out, datatype, rows)
	}
	scores, single := make([]float64, rows), make([]float32, rows)
	var err error
	switch {
	case raw && datatype == "FP32":
		err = binary.Read(bytes.NewReader(resp.GetRawOutputContents()[0]), binary.LittleEndian, single)
	case raw:
		err = binary.Read(bytes.NewReader(resp.GetRawOutputContents()[0]), binary.LittleEndian, scores)
	case datatype == "FP32":
		single = out.GetContents().GetFp32Contents()
	default:
		scores = out.GetContents().GetFp64Contents()
	}
	if err != nil || len(scores) != rows || len(single) != rows {
		t.Fatalf("got %d and %d scores, %v", len(scores), len(single), err)
	}
	if datatype == "FP32" {
		for i, v := range single {
			scores[i] = float64(v)
		}
	}
	return scores
}

// Scores equal BatchPredict's bit for bit in FP64, and are near the golden scores in FP32, in the requested form.
func TestInfer(t *testing.T) {
	e := startTest(t)
	var golden []float64
	for _, g := range e.model.Golden.Vectors {
		golden = append(golden, g.X...)
	}
	rows := len(e.model.Golden.Vectors)
	batch, err := e.client.BatchPredict(t.Context(), &mlenginev1.BatchPredictRequest{Schema: "v1.8.1", Values: golden})
	if err != nil {
		t.Fatal(err)
	}
	calls := 0
	for _, datatype := range []string{"FP64", "FP32"} {
		for _, raw := range []bool{false, true} {
			for _, version := range []string{"", version} {
				req := request(datatype, raw, golden)
				req.ModelVersion = version
				req.Outputs = []*inference.ModelInferRequest_InferRequestedOutputTensor{{Name: "score"}}[:calls%2]
				calls++
				resp, err := e.oip.ModelInfer(t.Context(), req)
				if err != nil {
					t.Fatal(err)
				}
				if resp.GetModelName() != "test" || resp.GetModelVersion() != e.model.Manifest.Version || resp.GetId() != "r-1" {
					t.Errorf("got %v", resp)
				}
				for i, got := range scoresOf(t, resp, datatype, raw, rows) {
					want := e.model.Golden.Vectors[i].Score
					if datatype == "FP64" && math.Float64bits(got) != math.Float64bits(batch.GetScores()[i]) || math.Abs(got-want) > 1e-6 {
						t.Errorf("%s, row %d: got %v, want %v", datatype, i, got, want)
					}
				}
			}
		}
	}
	// The rows count like BatchPredict's.
	all := uint64((calls + 1) * rows)
	seen, err := e.drift.GetDrift(t.Context(), &mlenginev1.GetDriftRequest{})
	if err != nil || seen.GetRows() != all {
		t.Errorf("drift has %d rows, %v; want %d", seen.GetRows(), err, all)
	}
	e.wantCounts(t, map[string]float64{"ok": float64(all)})
}

func TestInferDescribes(t *testing.T) {
	e := startTest(t)
	live, err := e.oip.ServerLive(t.Context(), &inference.ServerLiveRequest{})
	if err != nil || !live.GetLive() {
		t.Errorf("live: %v, %v", live, err)
	}
	ready, err := e.oip.ServerReady(t.Context(), &inference.ServerReadyRequest{})
	if err != nil || !ready.GetReady() {
		t.Errorf("ready: %v, %v", ready, err)
	}
	server, err := e.oip.ServerMetadata(t.Context(), &inference.ServerMetadataRequest{})
	if err != nil || server.GetName() != "greenlight ml-engine" || server.GetVersion() == "" {
		t.Errorf("server: %v, %v", server, err)
	}
	for _, tt := range []struct {
		name, version string
		ready         bool
		code          codes.Code
	}{
		{"test", "", true, codes.OK},
		{"test", version, true, codes.OK},
		{"test", "v1.8.1-other", false, codes.OK}, // registered, and not active
		{"test", "v9", false, codes.NotFound},
		{"nobody", "", false, codes.NotFound},
		{"nobody", version, false, codes.NotFound},
		{"", "", false, codes.NotFound},
		{"test", "../test/v1.8.1-other", false, codes.NotFound},
		{"test/v1.8.1-other", "", false, codes.NotFound},
	} {
		got, err := e.oip.ModelReady(t.Context(), &inference.ModelReadyRequest{Name: tt.name, Version: tt.version})
		if status.Code(err) != tt.code || got.GetReady() != tt.ready {
			t.Errorf("ModelReady %q %q: got %v, %v; want %t, %v", tt.name, tt.version, got, err, tt.ready, tt.code)
		}
		meta, err := e.oip.ModelMetadata(t.Context(), &inference.ModelMetadataRequest{Name: tt.name, Version: tt.version})
		if !tt.ready {
			wantError(t, err, codes.NotFound, "MODEL_NOT_FOUND", "")
			continue
		}
		if err != nil || len(meta.GetInputs()) != 1 || len(meta.GetOutputs()) != 1 {
			t.Fatalf("ModelMetadata: got %v, %v", meta, err)
		}
		in, out := meta.GetInputs()[0], meta.GetOutputs()[0]
		if meta.GetName() != "test" || !slices.Equal(meta.GetVersions(), []string{version}) || meta.GetPlatform() != "greenlight_logistic" ||
			in.GetName() != "input" || in.GetDatatype() != "FP64" || !slices.Equal(in.GetShape(), []int64{-1, 7}) ||
			out.GetName() != "score" || out.GetDatatype() != "FP64" || !slices.Equal(out.GetShape(), []int64{-1}) {
			t.Errorf("ModelMetadata: got %v", meta)
		}
	}
}

func TestInferRefuses(t *testing.T) {
	row := []float64{1, 0, 0, 0, 0, 0, 0}
	for name, tt := range map[string]struct {
		change func(*inference.ModelInferRequest)
		code   codes.Code
		reason string
		text   string
	}{
		"unknown model":    {func(r *inference.ModelInferRequest) { r.ModelName = "nobody" }, codes.NotFound, "MODEL_NOT_FOUND", `ask for model "test", version "v1.8.1-test"`},
		"unknown version":  {func(r *inference.ModelInferRequest) { r.ModelVersion = "2" }, codes.NotFound, "MODEL_NOT_FOUND", `version "2", is not active`},
		"no input":         {func(r *inference.ModelInferRequest) { r.Inputs = nil }, codes.InvalidArgument, "TENSOR_INVALID", "0 inputs: want one input \"input\" of the shape [rows, 7]"},
		"two inputs":       {func(r *inference.ModelInferRequest) { r.Inputs = append(r.Inputs, r.Inputs[0]) }, codes.InvalidArgument, "TENSOR_INVALID", "2 inputs"},
		"other name":       {func(r *inference.ModelInferRequest) { r.Inputs[0].Name = "x" }, codes.InvalidArgument, "TENSOR_INVALID", `the input is called "x"`},
		"other datatype":   {func(r *inference.ModelInferRequest) { r.Inputs[0].Datatype = "INT64" }, codes.InvalidArgument, "TENSOR_INVALID", `the datatype is "INT64"`},
		"other width":      {func(r *inference.ModelInferRequest) { r.Inputs[0].Shape = []int64{7, 1} }, codes.InvalidArgument, "TENSOR_INVALID", "the shape is [7 1]"},
		"one dimension":    {func(r *inference.ModelInferRequest) { r.Inputs[0].Shape = []int64{7} }, codes.InvalidArgument, "TENSOR_INVALID", "the shape is [7]"},
		"negative rows":    {func(r *inference.ModelInferRequest) { r.Inputs[0].Shape = []int64{-1, 7} }, codes.InvalidArgument, "TENSOR_INVALID", "the shape is [-1 7]"},
		"more rows":        {func(r *inference.ModelInferRequest) { r.Inputs[0].Shape = []int64{2, 7} }, codes.InvalidArgument, "TENSOR_INVALID", "the shape needs 14"},
		"no rows":          {func(r *inference.ModelInferRequest) { r.Inputs[0].Shape = []int64{0, 7} }, codes.InvalidArgument, "BATCH_EMPTY", "1 to 10000"},
		"too many rows":    {func(r *inference.ModelInferRequest) { r.Inputs[0].Shape = []int64{math.MaxInt64, 7} }, codes.InvalidArgument, "BATCH_TOO_LARGE", "at most 10000"},
		"other output":     {func(r *inference.ModelInferRequest) { r.Outputs = outputs("label") }, codes.InvalidArgument, "TENSOR_INVALID", `no output "label": want "score"`},
		"no data":          {func(r *inference.ModelInferRequest) { r.Inputs[0].Contents = nil }, codes.InvalidArgument, "TENSOR_INVALID", "no contents of the datatype FP64"},
		"other field":      {func(r *inference.ModelInferRequest) { r.Inputs[0].Datatype = "FP32" }, codes.InvalidArgument, "TENSOR_INVALID", "no contents of the datatype FP32"},
		"raw and contents": {func(r *inference.ModelInferRequest) { r.RawInputContents = [][]byte{make([]byte, 56)} }, codes.InvalidArgument, "TENSOR_INVALID", "send the contents once"},
		"short raw": {func(r *inference.ModelInferRequest) {
			r.Inputs[0].Contents, r.RawInputContents = nil, [][]byte{make([]byte, 55)}
		}, codes.InvalidArgument, "TENSOR_INVALID", "55 bytes of raw contents"},
		"not a number":      {func(r *inference.ModelInferRequest) { r.Inputs[0].Contents.Fp64Contents[2] = math.NaN() }, codes.InvalidArgument, "FEATURE_INVALID", "row 0: mid_logret_5m_rel is NaN"},
		"long id":           {func(r *inference.ModelInferRequest) { r.Id = strings.Repeat("x", 257) }, codes.InvalidArgument, "FIELD_TOO_LONG", "257 bytes"},
		"parameters, a lot": {func(r *inference.ModelInferRequest) { r.Outputs = outputs(slices.Repeat([]string{"score"}, 300)...) }, codes.InvalidArgument, "TENSOR_INVALID", "more than 256 parts"},
	} {
		t.Run(name, func(t *testing.T) {
			e := startTest(t)
			req := request("FP64", false, slices.Clone(row))
			tt.change(req)
			_, err := e.oip.ModelInfer(t.Context(), req)
			names := ""
			if tt.reason == "FEATURE_INVALID" {
				names = "mid_logret_5m_rel"
			}
			wantError(t, err, tt.code, tt.reason, names)
			if !strings.Contains(status.Convert(err).Message(), tt.text) {
				t.Errorf("got %v, want %q", err, tt.text)
			}
			e.wantCounts(t, map[string]float64{"invalid_argument": 1})
		})
	}
}

func outputs(names ...string) []*inference.ModelInferRequest_InferRequestedOutputTensor {
	var all []*inference.ModelInferRequest_InferRequestedOutputTensor
	for _, name := range names {
		all = append(all, &inference.ModelInferRequest_InferRequestedOutputTensor{Name: name})
	}
	return all
}

// A score that is not a probability is an error of the model, as in Predict.
func TestInferInvalidScore(t *testing.T) {
	a := enginetest.Artifact(t, "v1.8.1", version)
	a.Scorer = constant(1.5)
	e := start(t, a)
	_, err := e.oip.ModelInfer(t.Context(), request("FP64", true, []float64{1, 0, 0, 0, 0, 0, 0}))
	wantError(t, err, codes.Internal, "SCORE_INVALID", "")
	e.wantCounts(t, map[string]float64{"internal": 1})
}

// constant is a scorer that scores every state the same.
type constant float64

func (c constant) Score([]float64) float64 { return float64(c) }

func (c constant) Scores(scores, _ []float64) {
	for i := range scores {
		scores[i] = float64(c)
	}
}

// Golden vectors decide whether single precision is precise enough.
func TestInferGoldenVectorsDecideSinglePrecision(t *testing.T) {
	a := enginetest.Artifact(t, "v1.8.1", version)
	// 2^24 + 1 is not representable in FP32: it becomes 2^24, and the formula changes by its weight.
	x := []float64{1, 1<<24 + 1, 0, 0, 0, 0, 0}
	l := a.Spec.Logistic
	l.Mean[1], l.SD[1], l.Weight[1] = 1<<24, 1, 1
	a.Golden.Vectors = []model.GoldenVector{{X: x, Score: l.Score(x)}}
	registry := model.OpenRegistry(t.TempDir())
	if err := registry.Add(a); err != nil {
		t.Fatal(err)
	}
	a, err := registry.Load(version)
	if err != nil {
		t.Fatal(err)
	}
	e := start(t, a)
	if _, err := e.oip.ModelInfer(t.Context(), request("FP64", true, x)); err != nil {
		t.Error(err)
	}
	_, err = e.oip.ModelInfer(t.Context(), request("FP32", true, x))
	wantError(t, err, codes.InvalidArgument, "TENSOR_INVALID", "")
	if text := status.Convert(err).Message(); !strings.Contains(text, "send FP64: golden vector 0 scores") {
		t.Errorf("got %q", text)
	}
	// Another model accepts it.
	e.service.Activate(scoring.Loaded{Artifact: enginetest.Artifact(t, "v1.8.1", version)})
	if _, err := e.oip.ModelInfer(t.Context(), request("FP32", true, []float64{1, 0, 0, 0, 0, 0, 0})); err != nil {
		t.Error(err)
	}
}

// A request of 4 MiB of empty inputs would take 250 MB: it is refused before it is decoded.
func TestInferBoundsMemory(t *testing.T) {
	e := startTest(t)
	message := &emptypb.Empty{}
	message.ProtoReflect().SetUnknown(bytes.Repeat(protowire.AppendBytes(protowire.AppendTag(nil, 5, protowire.BytesType), nil), 2<<20-64))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err := e.conn.Invoke(t.Context(), inference.GRPCInferenceService_ModelInfer_FullMethodName, message, &emptypb.Empty{})
	runtime.ReadMemStats(&after)
	wantError(t, err, codes.InvalidArgument, "TENSOR_INVALID", "")
	if grown := (after.TotalAlloc - before.TotalAlloc) >> 20; grown > 64 {
		t.Errorf("%d MiB were allocated for a message of 4 MiB", grown)
	}
	e.wantCounts(t, map[string]float64{"invalid_argument": 1})
}

// The model's largest batch passes over the wire.
func TestInferLargeBatch(t *testing.T) {
	e := startTest(t)
	rng := rand.New(rand.NewPCG(1, 1))
	var values []float64
	for range 10_000 {
		values = append(values, enginetest.Vector(rng, e.model.Schema)...)
	}
	resp, err := e.oip.ModelInfer(t.Context(), request("FP64", true, values))
	if err != nil {
		t.Fatal(err)
	}
	scores := scoresOf(t, resp, "FP64", true, 10_000)
	for _, i := range []int{0, 1, 9_999} {
		if want := e.model.Scorer.Score(values[i*7 : i*7+7]); math.Float64bits(scores[i]) != math.Float64bits(want) {
			t.Errorf("row %d: got %v, want %v", i, scores[i], want)
		}
	}
	e.wantCounts(t, map[string]float64{"ok": 10_000})
}
