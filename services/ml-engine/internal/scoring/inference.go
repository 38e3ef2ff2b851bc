package scoring

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/oip"
	"github.com/greenlight-ml/greenlight/pkg/oip/gen/inference"
	"github.com/greenlight-ml/greenlight/pkg/rpc"
	"github.com/greenlight-ml/greenlight/pkg/telemetry"
	"github.com/greenlight-ml/greenlight/pkg/text"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/ml-engine/internal/monitor"
)

// The tensors of every model.
const (
	inputName  = "input"
	outputName = "score"
)

// Reasons of errors, in addition to the contract's.
const (
	reasonModelNotFound = "MODEL_NOT_FOUND"
	reasonTensorInvalid = "TENSOR_INVALID"
)

// inferenceServer serves the active model over the Open Inference Protocol. It scores and counts rows like BatchPredict.
type inferenceServer struct {
	inference.UnimplementedGRPCInferenceServiceServer

	scoring *Service
	models  *model.Registry
}

// RegisterInference serves the models of s over the Open Inference Protocol. models distinguishes an inactive model from one
// that does not exist.
func RegisterInference(r grpc.ServiceRegistrar, s *Service, models *model.Registry) {
	desc := inference.GRPCInferenceService_ServiceDesc
	desc.Methods = append([]grpc.MethodDesc(nil), desc.Methods...)
	for i, m := range desc.Methods {
		if m.MethodName != "ModelInfer" {
			continue
		}
		desc.Methods[i].Handler = func(server any, ctx context.Context, read func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
			return m.Handler(server, ctx, func(message any) error { return s.readBounded(read, message) }, interceptor)
		}
	}
	r.RegisterService(&desc, &inferenceServer{scoring: s, models: models})
}

// readBounded reads a ModelInferRequest unless it would take far more memory than its bytes: an empty input has two bytes, but
// takes more than a hundred.
func (s *Service) readBounded(read func(any) error, message any) error {
	request, ok := message.(proto.Message)
	if !ok {
		return read(message)
	}
	var undecoded emptypb.Empty // keeps every field undecoded
	if err := read(&undecoded); err != nil {
		return err
	}
	raw := undecoded.ProtoReflect().GetUnknown()
	if countParts(raw, 0) > maxParts {
		s.active.Load().metrics.invalid.Inc()
		return rpc.EngineError(codes.InvalidArgument, reasonTensorInvalid, "the request has more than %d parts: send one input, %q, and at most the output %q", maxParts, inputName, outputName)
	}
	if err := proto.Unmarshal(raw, request); err != nil {
		s.active.Load().metrics.invalid.Inc()
		return rpc.EngineError(codes.InvalidArgument, reasonTensorInvalid, "the request is not a ModelInferRequest: %v", err)
	}
	return nil
}

// maxParts limits the fields of a request. A request to this service has about ten.
const maxParts = 256

// countParts counts the fields of a message, including the fields within its fields 4 to 6 (parameters, inputs and outputs, and in an
// input the contents). It stops above maxParts.
func countParts(raw []byte, depth int) (parts int) {
	for len(raw) > 0 && parts <= maxParts {
		number, kind, n := protowire.ConsumeTag(raw)
		if n < 0 {
			return parts // it does not decode
		}
		raw = raw[n:]
		if n = protowire.ConsumeFieldValue(number, kind, raw); n < 0 {
			return parts
		}
		parts++
		if kind == protowire.BytesType && number >= 4 && number <= 6 && depth < 2 {
			field, _ := protowire.ConsumeBytes(raw)
			parts += countParts(field, depth+1)
		}
		raw = raw[n:]
	}
	return parts
}

// ServerLive implements GRPCInferenceService.
func (*inferenceServer) ServerLive(context.Context, *inference.ServerLiveRequest) (*inference.ServerLiveResponse, error) {
	return &inference.ServerLiveResponse{Live: true}, nil
}

// ServerReady implements GRPCInferenceService. A model is active from the start.
func (*inferenceServer) ServerReady(context.Context, *inference.ServerReadyRequest) (*inference.ServerReadyResponse, error) {
	return &inference.ServerReadyResponse{Ready: true}, nil
}

// ServerMetadata implements GRPCInferenceService.
func (*inferenceServer) ServerMetadata(context.Context, *inference.ServerMetadataRequest) (*inference.ServerMetadataResponse, error) {
	return &inference.ServerMetadataResponse{Name: "greenlight ml-engine", Version: telemetry.BuildOf().Version}, nil
}

// ModelReady implements GRPCInferenceService. Only the active model is ready.
func (s *inferenceServer) ModelReady(_ context.Context, req *inference.ModelReadyRequest) (*inference.ModelReadyResponse, error) {
	_, err := s.model(req.GetName(), req.GetVersion())
	if err != nil && !s.registered(req.GetName(), req.GetVersion()) {
		return nil, err
	}
	return &inference.ModelReadyResponse{Ready: err == nil}, nil
}

// registered reports whether the registry has the model. Without a version, any version of the name counts.
func (s *inferenceServer) registered(name, version string) bool {
	if version != "" {
		e, err := s.models.Find(name + "/" + version)
		return err == nil && e.Name == name && e.Version == version
	}
	entries, err := s.models.List()
	if err != nil {
		return false
	}
	for _, e := range entries {
		if e.Name == name {
			return true
		}
	}
	return false
}

// model returns the active model if it has the name and, unless that is empty, the version.
func (s *inferenceServer) model(name, version string) (*snapshot, error) {
	m := s.scoring.active.Load()
	if name != m.Manifest.Name || version != "" && version != m.Manifest.Version {
		return nil, rpc.EngineError(codes.NotFound, reasonModelNotFound, "model %q, version %q, is not active: ask for model %q, version %q",
			text.Cut(name, maxQuoted), text.Cut(version, maxQuoted), m.Manifest.Name, m.Manifest.Version)
	}
	return m, nil
}

// ModelMetadata implements GRPCInferenceService.
func (s *inferenceServer) ModelMetadata(_ context.Context, req *inference.ModelMetadataRequest) (*inference.ModelMetadataResponse, error) {
	m, err := s.model(req.GetName(), req.GetVersion())
	if err != nil {
		return nil, err
	}
	return &inference.ModelMetadataResponse{
		Name: m.Manifest.Name, Versions: []string{m.Manifest.Version}, Platform: "greenlight_" + m.Spec.Family,
		Inputs: []*inference.ModelMetadataResponse_TensorMetadata{
			{Name: inputName, Datatype: string(oip.FP64), Shape: []int64{-1, int64(m.Schema.Len())}},
		},
		Outputs: []*inference.ModelMetadataResponse_TensorMetadata{
			{Name: outputName, Datatype: string(oip.FP64), Shape: []int64{-1}},
		},
	}, nil
}

// ModelInfer implements GRPCInferenceService. The protocol has no errors for single rows, so one invalid value refuses the whole
// request.
func (s *inferenceServer) ModelInfer(ctx context.Context, req *inference.ModelInferRequest) (*inference.ModelInferResponse, error) {
	start := time.Now()
	active := s.scoring.active.Load()
	defer func() { telemetry.ObserveMS(active.metrics.latency, time.Since(start), s.scoring.tracer.Sampled(ctx)) }()
	m, err := s.model(req.GetModelName(), req.GetModelVersion())
	if err != nil {
		active.metrics.invalid.Inc()
		return nil, err
	}
	in, err := m.tensorOf(req)
	if err != nil {
		m.metrics.invalid.Inc()
		return nil, err
	}
	scores := make([]float64, len(in.values)/m.Schema.Len())
	if failed := m.score(start, monitor.Rows{X: in.values, Scores: scores}); len(failed) > 0 {
		return nil, rpc.EngineError(codes.Internal, failed[0].GetReason(), "%s", failed[0].GetMessage())
	}
	out := &inference.ModelInferResponse_InferOutputTensor{Name: outputName, Datatype: string(in.datatype), Shape: []int64{int64(len(scores))}}
	resp := &inference.ModelInferResponse{
		ModelName: m.Manifest.Name, ModelVersion: m.Manifest.Version, Id: req.GetId(),
		Outputs: []*inference.ModelInferResponse_InferOutputTensor{out},
	}
	if in.raw {
		resp.RawOutputContents = [][]byte{in.datatype.Raw(scores)}
	} else {
		out.Contents = in.datatype.Contents(scores)
	}
	return resp, nil
}

// tensor is the input of a request: valid rows, one after the other.
type tensor struct {
	datatype oip.Datatype
	raw      bool
	values   []float64
}

// tensorOf checks the request and returns its input. An error states what was expected.
func (m *snapshot) tensorOf(req *inference.ModelInferRequest) (tensor, error) {
	k := m.Schema.Len()
	invalid := func(format string, args ...any) (tensor, error) {
		return tensor{}, rpc.EngineError(codes.InvalidArgument, reasonTensorInvalid, "%s: want one input %q of the shape [rows, %d] and the datatype FP64 or FP32",
			fmt.Sprintf(format, args...), inputName, k)
	}
	if n := len(req.GetId()); n > rpc.MaxRequestID {
		return tensor{}, rpc.EngineError(codes.InvalidArgument, mlenginev1.ErrorReason_ERROR_REASON_FIELD_TOO_LONG, "id has %d bytes: at most %d", n, rpc.MaxRequestID)
	}
	if len(req.GetInputs()) != 1 {
		return invalid("the request has %s", text.Count(len(req.GetInputs()), "input"))
	}
	in := req.GetInputs()[0]
	if in.GetName() != inputName {
		return invalid("the input is called %q", text.Cut(in.GetName(), maxQuoted))
	}
	for _, out := range req.GetOutputs() {
		if out.GetName() != outputName {
			return tensor{}, rpc.EngineError(codes.InvalidArgument, reasonTensorInvalid, "no output %q: want %q", text.Cut(out.GetName(), maxQuoted), outputName)
		}
	}
	t := tensor{datatype: oip.Datatype(in.GetDatatype()), raw: len(req.GetRawInputContents()) > 0}
	if t.datatype.Size() == 0 {
		return invalid("the datatype is %q", text.Cut(in.GetDatatype(), maxQuoted))
	}
	if t.datatype == oip.FP32 && m.NoFP32 != "" {
		return invalid("model %s is not served in single precision, send FP64: %s", m.Manifest.Version, m.NoFP32)
	}
	shape := in.GetShape()
	if len(shape) != 2 || shape[0] < 0 || shape[1] != int64(k) {
		return invalid("the shape is %v", shape[:min(len(shape), 8)])
	}
	switch n := shape[0]; {
	case n == 0:
		return tensor{}, rpc.EngineError(codes.InvalidArgument, mlenginev1.ErrorReason_ERROR_REASON_BATCH_EMPTY, "the input has no rows: send 1 to %d", MaxRows)
	case n > MaxRows:
		return tensor{}, rpc.EngineError(codes.InvalidArgument, mlenginev1.ErrorReason_ERROR_REASON_BATCH_TOO_LARGE, "the input has %d rows: send at most %d", n, MaxRows)
	}
	var raw []byte
	if t.raw {
		if n := len(req.GetRawInputContents()); n != 1 || in.GetContents() != nil {
			return invalid("the request has %d raw_input_contents: send the contents once, either there or in the input", n)
		}
		raw = req.GetRawInputContents()[0]
	}
	var err error
	if t.values, err = t.datatype.Values(in.GetContents(), raw, int(shape[0])*k); err != nil {
		return invalid("%v", err)
	}
	for i := 0; i < len(t.values); i += k {
		x := t.values[i : i+k]
		if bad := firstInvalid(m.Schema, x); bad >= 0 {
			return tensor{}, rpc.EngineError(codes.InvalidArgument, mlenginev1.ErrorReason_ERROR_REASON_FEATURE_INVALID, "row %d: %s", i/k, invalidValue(m.Schema, bad, x[bad])).
				About([]string{m.Schema.Features[bad].Name})
		}
	}
	return t, nil
}
