// Package oiptest provides fake in-memory model servers of the Open Inference Protocol, for tests. Each behaves like a known
// server where servers differ; comments name the sources.
package oiptest

import (
	"context"
	"errors"
	"math"
	"net"
	"slices"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/greenlight-ml/greenlight/pkg/oip"
	"github.com/greenlight-ml/greenlight/pkg/oip/gen/inference"
)

// Kind is how a server behaves.
type Kind struct {
	// Metadata describes the model; inputs are completed with the width of the rows.
	Metadata *inference.ModelMetadataResponse
	// Inputs are the datatypes that the model takes.
	Inputs []oip.Datatype
	// Outputs returns the outputs for the scores of the positive class. requested are the output names in the request.
	Outputs func(scores []float64, requested []string) ([]Output, error)
	// Raw reports whether the outputs are raw, given whether the request is raw.
	Raw func(request bool) bool
	// Version is the model's version in answers.
	Version string
	// Missing is the error of a model that is not loaded.
	Missing error
	// Health reports whether the server has grpc.health.v1.
	Health bool
	// Alter, if set, changes an answer before it is sent.
	Alter func(*inference.ModelInferResponse)
}

// Output is an output of a model.
type Output struct {
	Name     string
	Datatype string
	Shape    []int64
	// Values are the elements; whole numbers for INT64.
	Values []float64
}

// Triton is NVIDIA's server with a forest of its FIL backend.
func Triton() Kind {
	return Kind{
		// With max_batch_size the shape has a variable batch dimension before the configured dims. FIL takes and returns only
		// TYPE_FP32, as input__0 and output__0; a classifier with predict_proba has a column per class.
		// https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/fil_backend/docs/model_config.html
		Metadata: metadata("fil", []string{"1"}, tensor("input__0", "FP32", -1, 0), tensor("output__0", "FP32", -1, 2)),
		Inputs:   []oip.Datatype{oip.FP32},
		Outputs: func(scores []float64, _ []string) ([]Output, error) {
			return []Output{both("output__0", "FP32", scores)}, nil
		},
		// "The return by raw output contents is by design", whether or not the request is raw.
		// https://github.com/triton-inference-server/server/issues/2937
		Raw:     func(bool) bool { return true },
		Version: "1",
		// https://github.com/triton-inference-server/server/issues/2419
		Missing: status.Error(codes.Unavailable, "Request for unknown model: 'm' is not found"),
		// https://github.com/triton-inference-server/server/pull/5267
		Health: true,
	}
}

// MLServer is Seldon's server with its scikit-learn runtime.
func MLServer() Kind {
	return Kind{
		// Without a signature in model-settings.json there are no inputs, outputs, versions or platform.
		// https://github.com/SeldonIO/MLServer/issues/145
		Metadata: metadata("", nil, nil),
		Inputs:   []oip.Datatype{oip.FP32, oip.FP64},
		// Only the labels (predict) are returned, unless predict_proba is requested.
		// https://github.com/SeldonIO/MLServer/blob/master/runtimes/sklearn/mlserver_sklearn/sklearn.py
		Outputs: func(scores []float64, requested []string) ([]Output, error) {
			if len(requested) == 0 {
				requested = []string{"predict"}
			}
			var all []Output
			for _, name := range requested {
				switch name {
				case "predict":
					all = append(all, labels("predict", scores, 1))
				case "predict_proba":
					all = append(all, both("predict_proba", "FP64", scores))
				default:
					return nil, status.Errorf(codes.InvalidArgument, "SKLearnModel only supports 'predict' and 'predict_proba' as outputs (%s was received)", name)
				}
			}
			return all, nil
		},
		// Raw for raw, typed for typed: https://github.com/SeldonIO/MLServer/pull/770
		Raw: func(request bool) bool { return request },
		// https://github.com/SeldonIO/MLServer/blob/master/mlserver/grpc/servicers.py
		Missing: status.Error(codes.InvalidArgument, "Model m not found"),
	}
}

// KServe is the server of the kserve Python package with a custom model.
func KServe() Kind {
	return Kind{
		// The answer has no versions, and a model that declares no types has no inputs or outputs.
		// https://github.com/kserve/kserve/blob/master/python/kserve/kserve/protocol/grpc/servicer.py
		Metadata: metadata("", nil, nil),
		Inputs:   []oip.Datatype{oip.FP32, oip.FP64},
		Outputs: func(scores []float64, _ []string) ([]Output, error) {
			return []Output{{"output-0", "FP64", []int64{int64(len(scores))}, scores}}, nil
		},
		// Contents are typed, unless one of them is FP16: https://github.com/kserve/kserve/pull/3695
		Raw:     func(bool) bool { return false },
		Missing: status.Error(codes.NotFound, "Model with name m does not exist."),
	}
}

// OVMS is the OpenVINO Model Server with a classifier converted by sklearn-onnx.
func OVMS() Kind {
	return Kind{
		// The labels come first, as INT64: https://github.com/onnx/sklearn-onnx/issues/754
		Metadata: metadata("OpenVINO", []string{"1"}, tensor("X", "FP32", -1, 0), tensor("label", "INT64", -1), tensor("probabilities", "FP32", -1, 2)),
		Inputs:   []oip.Datatype{oip.FP32},
		Outputs: func(scores []float64, _ []string) ([]Output, error) {
			return []Output{labels("label", scores), both("probabilities", "FP32", scores)}, nil
		},
		// https://github.com/openvinotoolkit/model_server, src/kfs_frontend: useSharedOutputContentFn
		Raw:     func(bool) bool { return true },
		Version: "1",
		// "If some of the models have not been loaded successfully, server still becomes ready": so every fake is ready even without
		// its model. https://docs.openvino.ai/latest/ovms_docs_grpc_api_kfs.html
		// There is no grpc.health service: https://github.com/openvinotoolkit/model_server/issues/724
		Missing: status.Error(codes.NotFound, "Model with requested name is not found"),
	}
}

func metadata(platform string, versions []string, input *inference.ModelMetadataResponse_TensorMetadata, outputs ...*inference.ModelMetadataResponse_TensorMetadata) *inference.ModelMetadataResponse {
	m := &inference.ModelMetadataResponse{Name: "m", Platform: platform, Versions: versions}
	if input != nil {
		m.Inputs, m.Outputs = []*inference.ModelMetadataResponse_TensorMetadata{input}, outputs
	}
	return m
}

func tensor(name, datatype string, shape ...int64) *inference.ModelMetadataResponse_TensorMetadata {
	return &inference.ModelMetadataResponse_TensorMetadata{Name: name, Datatype: datatype, Shape: shape}
}

// both is an output with a column for each of the two classes.
func both(name, datatype string, scores []float64) Output {
	out := Output{Name: name, Datatype: datatype, Shape: []int64{int64(len(scores)), 2}}
	for _, p := range scores {
		out.Values = append(out.Values, 1-p, p)
	}
	return out
}

// labels is an output with the class labels for the scores.
func labels(name string, scores []float64, width ...int64) Output {
	out := Output{Name: name, Datatype: "INT64", Shape: append([]int64{int64(len(scores))}, width...)}
	for _, p := range scores {
		out.Values = append(out.Values, math.Round(p))
	}
	return out
}

// Server is a fake server of the model "m".
type Server struct {
	inference.UnimplementedGRPCInferenceServiceServer

	t     testing.TB
	score func(x []float64) float64
	addr  string // set for a server on loopback
	opts  []grpc.ServerOption

	mu      sync.Mutex
	kind    Kind
	width   int
	missing bool
	calls   []*inference.ModelInferRequest
	dials   int

	server *grpc.Server // nil while it is stopped
	buffer *bufconn.Listener
	served chan struct{}
}

// Start returns a running server with a model that scores rows of that width. On loopback it listens on a real TCP port.
func Start(t testing.TB, kind Kind, width int, score func(x []float64) float64, loopback bool, opts ...grpc.ServerOption) *Server {
	t.Helper()
	s := &Server{t: t, kind: kind, width: width, score: score, opts: opts}
	if loopback {
		s.addr = "127.0.0.1:0"
	}
	s.Restart()
	t.Cleanup(s.Stop)
	return s
}

// Addr returns the address of a server on loopback.
func (s *Server) Addr() string { return s.addr }

// Dialer returns the option that connects to an in-memory server.
func (s *Server) Dialer() grpc.DialOption {
	return grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
		s.mu.Lock()
		buffer := s.buffer
		s.dials++
		s.mu.Unlock()
		if buffer == nil {
			return nil, errors.New("oiptest: connection refused: the server is stopped")
		}
		return buffer.DialContext(ctx)
	})
}

// Dials returns how many connections an in-memory server has had.
func (s *Server) Dials() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dials
}

// Stop kills the server. A second call does nothing.
func (s *Server) Stop() {
	s.mu.Lock()
	server, served := s.server, s.served
	s.server, s.buffer = nil, nil
	s.mu.Unlock()
	if server != nil {
		server.Stop()
		<-served
	}
}

// Restart starts a stopped server again.
func (s *Server) Restart() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	var l net.Listener
	if s.addr == "" {
		s.buffer = bufconn.Listen(1 << 20)
		l = s.buffer
	} else {
		var lc net.ListenConfig
		var err error
		if l, err = lc.Listen(s.t.Context(), "tcp", s.addr); err != nil {
			s.t.Fatal(err)
		}
		s.addr = l.Addr().String()
	}
	server, served := grpc.NewServer(append(s.opts, grpc.WaitForHandlers(true))...), make(chan struct{})
	inference.RegisterGRPCInferenceServiceServer(server, s)
	if s.kind.Health {
		healthpb.RegisterHealthServer(server, health.NewServer())
	}
	s.server, s.served = server, served
	go func() {
		defer close(served)
		if err := server.Serve(l); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			s.t.Errorf("oiptest: %v", err)
		}
	}()
}

// Change changes the kind and the width of the rows, as if another model had been loaded under the same name.
func (s *Server) Change(width int, change func(*Kind)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.width = width
	if change != nil {
		change(&s.kind)
	}
}

// SetMissing unloads the model, or loads it again. The server itself stays ready.
func (s *Server) SetMissing(missing bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.missing = missing
}

// Calls returns the scoring requests so far.
func (s *Server) Calls() []*inference.ModelInferRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

// now returns the current behaviour, or an error for a model that the server does not have.
func (s *Server) now(name string) (Kind, int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.missing || name != "m" {
		return Kind{}, 0, s.kind.Missing
	}
	return s.kind, s.width, nil
}

// ServerReady implements GRPCInferenceService.
func (*Server) ServerReady(context.Context, *inference.ServerReadyRequest) (*inference.ServerReadyResponse, error) {
	return &inference.ServerReadyResponse{Ready: true}, nil
}

// ServerMetadata implements GRPCInferenceService.
func (*Server) ServerMetadata(context.Context, *inference.ServerMetadataRequest) (*inference.ServerMetadataResponse, error) {
	return &inference.ServerMetadataResponse{Name: "fake", Version: "1.0"}, nil
}

// ModelMetadata implements GRPCInferenceService.
func (s *Server) ModelMetadata(_ context.Context, req *inference.ModelMetadataRequest) (*inference.ModelMetadataResponse, error) {
	kind, width, err := s.now(req.GetName())
	if err != nil {
		return nil, err
	}
	meta := &inference.ModelMetadataResponse{
		Name: kind.Metadata.GetName(), Versions: kind.Metadata.GetVersions(), Platform: kind.Metadata.GetPlatform(), Outputs: kind.Metadata.GetOutputs(),
	}
	for _, in := range kind.Metadata.GetInputs() {
		shape := slices.Clone(in.GetShape())
		for i, n := range shape {
			if n == 0 {
				shape[i] = int64(width)
			}
		}
		meta.Inputs = append(meta.Inputs, tensor(in.GetName(), in.GetDatatype(), shape...))
	}
	return meta, nil
}

// ModelInfer implements GRPCInferenceService.
func (s *Server) ModelInfer(_ context.Context, req *inference.ModelInferRequest) (*inference.ModelInferResponse, error) {
	s.mu.Lock()
	s.calls = append(s.calls, req)
	s.mu.Unlock()
	kind, width, err := s.now(req.GetModelName())
	if err != nil {
		return nil, err
	}
	in := req.GetInputs()[0]
	datatype := oip.Datatype(in.GetDatatype())
	if len(req.GetInputs()) != 1 || !slices.Contains(kind.Inputs, datatype) || len(in.GetShape()) != 2 || in.GetShape()[1] != int64(width) {
		return nil, status.Errorf(codes.InvalidArgument, "unexpected shape %v or datatype %s for input %q", in.GetShape(), datatype, in.GetName())
	}
	if declared := kind.Metadata.GetInputs(); len(declared) > 0 && declared[0].GetName() != in.GetName() {
		return nil, status.Errorf(codes.InvalidArgument, "unexpected input %q", in.GetName())
	}
	var raw []byte
	if len(req.GetRawInputContents()) > 0 {
		raw = req.GetRawInputContents()[0]
	}
	rows := int(in.GetShape()[0])
	values, err := datatype.Values(in.GetContents(), raw, rows*width)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	scores := make([]float64, rows)
	for i := range scores {
		scores[i] = s.score(values[i*width : (i+1)*width])
	}
	var requested []string
	for _, out := range req.GetOutputs() {
		requested = append(requested, out.GetName())
	}
	outputs, err := kind.Outputs(scores, requested)
	if err != nil {
		return nil, err
	}
	resp := &inference.ModelInferResponse{ModelName: "m", ModelVersion: kind.Version, Id: req.GetId()}
	for _, out := range outputs {
		resp.Outputs = append(resp.Outputs, &inference.ModelInferResponse_InferOutputTensor{Name: out.Name, Datatype: out.Datatype, Shape: out.Shape})
		out.put(resp, kind.Raw(len(raw) > 0))
	}
	if kind.Alter != nil {
		kind.Alter(resp)
	}
	return resp, nil
}

// put appends the output's elements to the newest output of the response.
func (o Output) put(resp *inference.ModelInferResponse, raw bool) {
	var contents *inference.InferTensorContents
	var bytes []byte
	if o.Datatype == "INT64" {
		contents = &inference.InferTensorContents{}
		for _, v := range o.Values {
			contents.Int64Contents = append(contents.Int64Contents, int64(v))
		}
		bytes = make([]byte, 8*len(o.Values)) // nobody reads them
	} else {
		contents, bytes = oip.Datatype(o.Datatype).Contents(o.Values), oip.Datatype(o.Datatype).Raw(o.Values)
	}
	if raw {
		resp.RawOutputContents = append(resp.RawOutputContents, bytes)
		return
	}
	resp.Outputs[len(resp.Outputs)-1].Contents = contents
}
