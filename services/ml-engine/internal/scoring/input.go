package scoring

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/rpc"
	"github.com/greenlight-ml/greenlight/pkg/text"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/ml-engine/internal/monitor"
)

// vectorOf checks the request's input and returns it in the schema's order.
func vectorOf(schema *feature.Schema, req *mlenginev1.PredictRequest) ([]float64, error) {
	if n := len(req.GetRequestId()); n > rpc.MaxRequestID {
		return nil, rpc.EngineError(codes.InvalidArgument, mlenginev1.ErrorReason_ERROR_REASON_FIELD_TOO_LONG, "request_id has %d bytes: at most %d", n, rpc.MaxRequestID)
	}
	if n := len(req.GetSymbol()); n > rpc.MaxSymbol {
		return nil, rpc.EngineError(codes.InvalidArgument, mlenginev1.ErrorReason_ERROR_REASON_FIELD_TOO_LONG, "symbol has %d bytes: at most %d", n, rpc.MaxSymbol)
	}
	named, packed := req.GetFeatures(), req.GetVector()
	switch {
	case len(named) > 0 && packed != nil:
		return nil, rpc.EngineError(codes.InvalidArgument, mlenginev1.ErrorReason_ERROR_REASON_INPUT_AMBIGUOUS, "features and vector are both set: send one of them")
	case packed != nil:
		return packedVector(schema, packed)
	case len(named) > 0:
		return namedVector(schema, named)
	}
	return nil, rpc.EngineError(codes.InvalidArgument, mlenginev1.ErrorReason_ERROR_REASON_INPUT_MISSING, "no input: send features (%s) or a vector", rpc.Names(schema.Names())).About(schema.Names())
}

func packedVector(schema *feature.Schema, v *mlenginev1.FeatureVector) ([]float64, error) {
	if err := checkSchema(schema, v.GetSchema()); err != nil {
		return nil, err
	}
	x := v.GetValues()
	if len(x) != schema.Len() {
		return nil, rpc.EngineError(codes.InvalidArgument, mlenginev1.ErrorReason_ERROR_REASON_VECTOR_LENGTH,
			"the vector has %d values: schema %s has %d (%s)", len(x), schema.Name, schema.Len(), rpc.Names(schema.Names()))
	}
	return x, checkValues(schema, x)
}

func namedVector(schema *feature.Schema, named map[string]float64) ([]float64, error) {
	x := make([]float64, schema.Len())
	var missing []string
	found := 0
	for i, f := range schema.Features {
		v, ok := named[f.Name]
		switch {
		case ok:
			found++
		case i == schema.BiasIndex():
			v = 1
		default:
			missing = append(missing, f.Name)
		}
		x[i] = v
	}
	if found < len(named) {
		var unknown []string
		for name := range named {
			if schema.Index(name) < 0 {
				unknown = append(unknown, name)
			}
		}
		slices.Sort(unknown)
		return nil, rpc.EngineError(codes.InvalidArgument, mlenginev1.ErrorReason_ERROR_REASON_FEATURE_UNKNOWN,
			"unknown features: %s; schema %s has %s", rpc.Names(unknown), schema.Name, rpc.Names(schema.Names())).About(unknown)
	}
	if len(missing) > 0 {
		return nil, rpc.EngineError(codes.InvalidArgument, mlenginev1.ErrorReason_ERROR_REASON_FEATURE_MISSING,
			"schema %s needs %s", schema.Name, rpc.Names(missing)).About(missing)
	}
	return x, checkValues(schema, x)
}

// shapeOf checks the shape of a batch and returns its number of rows.
func shapeOf(schema *feature.Schema, req *mlenginev1.BatchPredictRequest) (rows int, err error) {
	if err := checkSchema(schema, req.GetSchema()); err != nil {
		return 0, err
	}
	n, k := len(req.GetValues()), schema.Len()
	switch {
	case n == 0:
		return 0, rpc.EngineError(codes.InvalidArgument, mlenginev1.ErrorReason_ERROR_REASON_BATCH_EMPTY, "the batch has no rows: send 1 to %d", MaxRows)
	case n%k != 0:
		return 0, rpc.EngineError(codes.InvalidArgument, mlenginev1.ErrorReason_ERROR_REASON_VECTOR_LENGTH,
			"the batch has %d values: not a multiple of the %d of schema %s", n, k, schema.Name)
	case n/k > MaxRows:
		return 0, rpc.EngineError(codes.InvalidArgument, mlenginev1.ErrorReason_ERROR_REASON_BATCH_TOO_LARGE,
			"the batch has %d rows: send at most %d", n/k, MaxRows)
	}
	rows = n / k
	if err := checkWatched(len(req.GetWatched())); err != nil {
		return 0, err
	}
	for _, v := range []struct {
		name       string
		have, want int
	}{
		{"watched_values", len(req.GetWatchedValues()), rows * len(req.GetWatched())},
		{"event_times_ms", len(req.GetEventTimesMs()), rows},
		{"sources", len(req.GetSources()), rows},
	} {
		if v.have != v.want && (v.name == "watched_values" || v.have > 0) {
			return 0, rpc.EngineError(codes.InvalidArgument, mlenginev1.ErrorReason_ERROR_REASON_VECTOR_LENGTH,
				"%s has %d entries: want %d for %d rows", v.name, v.have, v.want, rows)
		}
	}
	return rows, nil
}

func checkWatched(n int) error {
	if n > monitor.MaxInputs {
		return rpc.EngineError(codes.InvalidArgument, mlenginev1.ErrorReason_ERROR_REASON_FIELD_TOO_LONG, "watched has %d names: at most %d", n, monitor.MaxInputs)
	}
	return nil
}

// watchedInputs are the raw inputs of one request. They need no heap allocation.
type watchedInputs struct {
	n      int
	names  [monitor.MaxInputs]string
	values [monitor.MaxInputs]float64
}

func (w *watchedInputs) of(req *mlenginev1.PredictRequest) error {
	if err := checkWatched(len(req.GetWatched())); err != nil {
		return err
	}
	for name, v := range req.GetWatched() {
		w.names[w.n], w.values[w.n] = name, v
		w.n++
	}
	return nil
}

// eventMS returns the event time in Unix milliseconds, 0 if unknown.
func eventMS(req *mlenginev1.PredictRequest) int64 {
	if t := req.GetEventTime(); t != nil && t.IsValid() {
		return t.AsTime().UnixMilli()
	}
	return 0
}

func checkSchema(schema *feature.Schema, name string) error {
	if name == schema.Name {
		return nil
	}
	return rpc.EngineError(codes.InvalidArgument, mlenginev1.ErrorReason_ERROR_REASON_SCHEMA_MISMATCH,
		"schema %q: the active model needs %q", text.Cut(name, maxQuoted), schema.Name)
}

// firstInvalid returns the index of the first value that a model cannot score, or -1.
func firstInvalid(schema *feature.Schema, x []float64) int {
	for i, v := range x {
		if !finite(v) {
			return i
		}
	}
	if i := schema.BiasIndex(); i >= 0 && x[i] != 1 {
		return i
	}
	return -1
}

// checkValues returns an error that names all values that a model cannot score.
func checkValues(schema *feature.Schema, x []float64) error {
	if firstInvalid(schema, x) < 0 {
		return nil
	}
	var names, why []string
	for i, v := range x {
		if name := schema.Features[i].Name; !finite(v) || name == feature.Bias && v != 1 {
			names, why = append(names, name), append(why, invalidValue(schema, i, v))
		}
	}
	return rpc.EngineError(codes.InvalidArgument, mlenginev1.ErrorReason_ERROR_REASON_FEATURE_INVALID, "%s", strings.Join(why, "; ")).About(names)
}

// maxQuoted limits how much of a name an error repeats, in bytes.
const maxQuoted = 64

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

func invalidValue(schema *feature.Schema, i int, v float64) string {
	if name := schema.Features[i].Name; name != feature.Bias {
		return fmt.Sprintf("%s is %v: want a finite number", name, v)
	}
	return fmt.Sprintf("bias is %v: want 1", v)
}
