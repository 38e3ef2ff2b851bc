// Package oipengine gets shadow scores from a model server over the Open Inference Protocol (KServe v2), as if it were ml-engine.
package oipengine

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/oip"
	"github.com/greenlight-ml/greenlight/pkg/oip/gen/inference"
	"github.com/greenlight-ml/greenlight/pkg/text"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

// Client implements the ScoringServiceClient with a model on a model server. GetModelInfo asks the server for the model's
// tensors; BatchPredict sends one ModelInfer. It is safe for concurrent use.
type Client struct {
	server inference.GRPCInferenceServiceClient
	target Target
	schema *feature.Schema
	logger *slog.Logger
	model  atomic.Pointer[served]
}

// New returns a client of the target's model, whose vectors have the schema. conn connects to the target's address.
func New(conn grpc.ClientConnInterface, target Target, schema *feature.Schema, logger *slog.Logger) *Client {
	return &Client{server: inference.NewGRPCInferenceServiceClient(conn), target: target, schema: schema, logger: logger}
}

// DialOptions returns the options of connections to model servers. They send no pings while there are no calls: servers built on
// gRPC's own library close a connection that pings more than once in five minutes. The dispatcher asks for the model every few
// seconds, which finds a dead connection sooner.
func DialOptions() []grpc.DialOption {
	return []grpc.DialOption{grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second})}
}

// GetModelInfo asks for the model's description. An answer that contradicts the target or the schema is not an error, but then
// every batch is refused with the reason.
func (c *Client) GetModelInfo(ctx context.Context, _ *mlenginev1.GetModelInfoRequest, opts ...grpc.CallOption) (*mlenginev1.GetModelInfoResponse, error) {
	meta, err := c.server.ModelMetadata(ctx, &inference.ModelMetadataRequest{Name: c.target.Model, Version: c.target.Version}, opts...)
	if err != nil {
		return nil, err
	}
	m := c.learn(meta)
	if before := c.model.Swap(m); before == nil || *before != *m {
		attrs := []any{"model", m.version, "platform", meta.GetPlatform(), "input", m.input, "datatype", string(m.datatype), "output", m.output}
		if m.problem != "" {
			c.logger.Error("the model of the model server cannot be used: every shadow will be rejected", append(attrs, "error", m.problem)...)
		} else {
			c.logger.Info("the model server describes its model", attrs...)
		}
	}
	return &mlenginev1.GetModelInfoResponse{
		Name: c.target.Model, Version: m.version, Digest: m.digest, Family: meta.GetPlatform(), Schema: c.schema.Name, SchemaHash: c.schema.Hash(),
	}, nil
}

// BatchPredict scores the rows of a batch. It does not send raw inputs, event times and sources: the protocol has no fields for them.
func (c *Client) BatchPredict(ctx context.Context, req *mlenginev1.BatchPredictRequest, opts ...grpc.CallOption) (*mlenginev1.BatchPredictResponse, error) {
	m := c.model.Load()
	switch {
	case m == nil:
		return nil, status.Error(codes.Unavailable, "the model server has not described its model yet")
	case m.problem != "":
		return nil, refused("%s", m.problem)
	case req.GetSchema() != c.schema.Name || len(req.GetValues())%c.schema.Len() != 0:
		return nil, refused("a batch of schema %q with %d values: the model server's model takes schema %s, %d values a row", req.GetSchema(), len(req.GetValues()), c.schema.Name, c.schema.Len())
	}
	rows := len(req.GetValues()) / c.schema.Len()
	if m.batch >= 0 && m.batch != int64(rows) {
		return nil, refused("the model takes exactly %s, but the batch has %d: serve it with a variable batch size (-1), or start executor with --shadow-batch %d",
			text.Count(m.batch, "row"), rows, max(m.batch, 1))
	}
	values, errs := c.fit(req.GetValues(), m.datatype)
	asked := &inference.ModelInferRequest{
		ModelName: c.target.Model, ModelVersion: c.target.Version,
		Inputs: []*inference.ModelInferRequest_InferInputTensor{
			{Name: m.input, Datatype: string(m.datatype), Shape: []int64{int64(rows), int64(c.schema.Len())}},
		},
		RawInputContents: [][]byte{m.datatype.Raw(values)},
	}
	if m.output != "" {
		asked.Outputs = []*inference.ModelInferRequest_InferRequestedOutputTensor{{Name: m.output}}
	}
	answer, err := c.server.ModelInfer(ctx, asked, opts...)
	if status.Code(err) == codes.NotFound { // the model was unloaded: treat it like an absent server
		err = status.Error(codes.Unavailable, status.Convert(err).Message())
	}
	if err != nil {
		return nil, err
	}
	scores, err := m.scores(answer, rows)
	if err != nil {
		return nil, refused("%v", err)
	}
	resp := &mlenginev1.BatchPredictResponse{Scores: scores, Errors: errs, ModelVersion: m.version, ModelDigest: m.digest}
	if v := answer.GetModelVersion(); v != "" && v != m.number {
		resp.ModelVersion, resp.ModelDigest = oip.Identity(c.target.Model, v)
	}
	return resp, nil
}

// StreamPredict is not part of the protocol.
func (*Client) StreamPredict(context.Context, ...grpc.CallOption) (grpc.BidiStreamingClient[mlenginev1.BatchPredictRequest, mlenginev1.BatchPredictResponse], error) {
	return nil, status.Error(codes.Unimplemented, "a model server of the Open Inference Protocol has no streams of batches")
}

// Predict is not used for shadows.
func (*Client) Predict(context.Context, *mlenginev1.PredictRequest, ...grpc.CallOption) (*mlenginev1.PredictResponse, error) {
	return nil, status.Error(codes.Unimplemented, "a model server is asked for batches only")
}

// refused returns the error for a batch that does not fit the model. It counts as rejected, not as a failure of the server.
func refused(format string, args ...any) error {
	return status.Errorf(codes.FailedPrecondition, format, args...)
}

// fit returns the values as the datatype can represent them. For rows with a value that it cannot represent, it returns errors and
// sends 0.
func (c *Client) fit(values []float64, d oip.Datatype) ([]float64, []*mlenginev1.RowError) {
	var errs []*mlenginev1.RowError
	if d != oip.FP32 {
		return values, nil
	}
	k := c.schema.Len()
	fitting := values
	for i, v := range values {
		if math.Abs(v) <= math.MaxFloat32 {
			continue
		}
		if len(errs) == 0 {
			fitting = append([]float64(nil), values...)
		}
		fitting[i] = 0
		if row := uint32(i / k); len(errs) == 0 || errs[len(errs)-1].GetRow() != row {
			errs = append(errs, &mlenginev1.RowError{
				Row: row, Reason: mlenginev1.ErrorReason_ERROR_REASON_FEATURE_INVALID,
				Message: fmt.Sprintf("%s is %v: the model takes FP32, at most %.3g", c.schema.Features[i%k].Name, v, math.MaxFloat32),
			})
		}
	}
	return fitting, errs
}

// served is the server's description of the model. It is comparable.
type served struct {
	// version and digest name the model in reports; number is its version on the server, empty if the server has no versions.
	version, digest, number string
	// input and output are the tensor names; output is empty if only the answer shows it.
	input, output string
	datatype      oip.Datatype
	// batch is the number of rows that the model takes, -1 for any.
	batch int64
	// column is the output column with the score, -1 if the output must have one column.
	column int
	// problem is why the model cannot be used; empty if it can.
	problem string
}

// defaultInput is the input's name if the server does not describe it. Such servers ignore the name.
const defaultInput = "input-0"

// learn reads the server's description of the model.
func (c *Client) learn(meta *inference.ModelMetadataResponse) *served {
	m := &served{number: c.target.Version, output: c.target.Output, datatype: oip.FP64, batch: -1, column: c.target.Column}
	if m.number == "" {
		m.number = newest(meta.GetVersions())
	}
	m.version, m.digest = oip.Identity(c.target.Model, m.number)
	for _, learn := range []func(*served, *inference.ModelMetadataResponse) error{c.learnInput, c.learnOutput} {
		if err := learn(m, meta); err != nil {
			m.problem = err.Error()
			break
		}
	}
	return m
}

// learnInput reads the input. Servers list none for models without a signature: then the input is FP64, and the server's answers
// show whether it fits.
func (c *Client) learnInput(m *served, meta *inference.ModelMetadataResponse) error {
	m.input = c.target.Input
	if len(meta.GetInputs()) == 0 {
		if m.input == "" {
			m.input = defaultInput
		}
		return nil
	}
	in, err := choose("input", m.input, meta.GetInputs())
	if err != nil {
		return err
	}
	m.input, m.datatype = in.GetName(), oip.Datatype(in.GetDatatype())
	if m.datatype.Size() == 0 {
		return fmt.Errorf("input %q has the datatype %s: want FP64 or FP32", m.input, in.GetDatatype())
	}
	switch shape := in.GetShape(); {
	case len(shape) == 0: // not known
	case len(shape) != 2 || shape[1] != -1 && shape[1] != int64(c.schema.Len()):
		return fmt.Errorf("input %q has the shape %v: schema %s needs [-1, %d]", m.input, shape, c.schema.Name, c.schema.Len())
	default:
		m.batch = max(shape[0], -1)
	}
	return nil
}

// learnOutput reads the output: the one that the target names, or else the only floating-point one. Classifiers often list their
// labels first.
func (c *Client) learnOutput(m *served, meta *inference.ModelMetadataResponse) error {
	outputs := meta.GetOutputs()
	if len(outputs) == 0 {
		return nil
	}
	if m.output == "" {
		outputs = floats(outputs)
		if len(outputs) == 0 {
			return fmt.Errorf("the outputs are %s: none has the datatype FP64 or FP32", names(meta.GetOutputs()))
		}
	}
	out, err := choose("output", m.output, outputs)
	if err != nil {
		return err
	}
	m.output = out.GetName()
	if oip.Datatype(out.GetDatatype()).Size() == 0 {
		return fmt.Errorf("output %q has the datatype %s: want FP64 or FP32", m.output, out.GetDatatype())
	}
	width := int64(1)
	for _, n := range out.GetShape()[min(1, len(out.GetShape())):] {
		if n < 0 {
			return nil // the answer shows it
		}
		width *= min(n, maxColumn)
	}
	return m.checkWidth(width)
}

// checkWidth returns an error unless an output of that width has the score's column.
func (m *served) checkWidth(width int64) error {
	switch {
	case m.column < 0 && width != 1:
		return fmt.Errorf("output %q has %d columns: name the one with the score, for example column=1 for the second class", m.output, width)
	case int64(m.column) >= width:
		return fmt.Errorf("output %q has %s, numbered from 0: there is no column %d", m.output, text.Count(width, "column"), m.column)
	}
	return nil
}

// tensor is what descriptions and answers have in common about a tensor.
type tensor interface {
	GetName() string
	GetDatatype() string
	GetShape() []int64
}

// choose returns the tensor with that name, or the only one.
func choose[T tensor](what, name string, all []T) (T, error) {
	var none T
	if name == "" {
		if len(all) != 1 {
			return none, fmt.Errorf("the %ss are %s: name one with %s=", what, names(all), what)
		}
		return all[0], nil
	}
	for _, t := range all {
		if t.GetName() == name {
			return t, nil
		}
	}
	return none, fmt.Errorf("no %s is called %q: the %ss are %s", what, name, what, names(all))
}

// floats returns the tensors of a supported type.
func floats[T tensor](all []T) []T {
	var some []T
	for _, t := range all {
		if oip.Datatype(t.GetDatatype()).Size() > 0 {
			some = append(some, t)
		}
	}
	return some
}

// maxNamed limits the tensors that an error lists.
const maxNamed = 10

func names[T tensor](all []T) string {
	var list []string
	for _, t := range all[:min(len(all), maxNamed)] {
		list = append(list, fmt.Sprintf("%q (%s)", text.Cut(t.GetName(), 64), text.Cut(t.GetDatatype(), 16)))
	}
	if more := len(all) - len(list); more > 0 {
		list = append(list, fmt.Sprintf("%d more", more))
	}
	return strings.Join(list, ", ")
}

// newest returns the version that a server chooses: the largest number, or the last version if any is not a number.
func newest(versions []string) string {
	best, largest := "", int64(-1)
	for _, v := range versions {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return versions[len(versions)-1]
		}
		if n > largest {
			best, largest = v, n
		}
	}
	return best
}

// scores returns the scores of an answer.
func (m *served) scores(answer *inference.ModelInferResponse, rows int) ([]float64, error) {
	outputs := answer.GetOutputs()
	candidates := outputs
	if m.output == "" {
		candidates = floats(outputs)
	}
	out, err := choose("output", m.output, candidates)
	if err != nil {
		return nil, fmt.Errorf("the answer of the model server: %w", err)
	}
	shape := out.GetShape()
	if len(shape) == 0 || shape[0] != int64(rows) {
		return nil, fmt.Errorf("output %q has the shape %v for %s", out.GetName(), shape[:min(len(shape), 8)], text.Count(rows, "row"))
	}
	width := int64(1)
	for _, n := range shape[1:] {
		if n < 1 || n > maxColumn {
			return nil, fmt.Errorf("output %q has the shape %v: at most %d columns", out.GetName(), shape[:min(len(shape), 8)], maxColumn)
		}
		width = min(width*n, maxColumn)
	}
	if err := m.checkWidth(width); err != nil {
		return nil, err
	}
	values, err := oip.Datatype(out.GetDatatype()).Values(out.GetContents(), rawOf(answer, out), rows*int(width))
	if err != nil {
		return nil, fmt.Errorf("output %q: %w", out.GetName(), err)
	}
	if width == 1 {
		return values, nil
	}
	scores := make([]float64, rows)
	for i := range scores {
		scores[i] = values[i*int(width)+m.column]
	}
	return scores, nil
}

// rawOf returns the raw contents of an output. If a server sends only some outputs raw, the raw contents belong, in order, to the
// outputs without other contents.
func rawOf(answer *inference.ModelInferResponse, of *inference.ModelInferResponse_InferOutputTensor) []byte {
	raw := answer.GetRawOutputContents()
	each := len(raw) == len(answer.GetOutputs())
	next := 0
	for _, out := range answer.GetOutputs() {
		if next >= len(raw) {
			return nil
		}
		if out == of {
			return raw[next]
		}
		if each || out.GetContents() == nil {
			next++
		}
	}
	return nil
}
