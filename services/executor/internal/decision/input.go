package decision

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/rpc"
	"github.com/greenlight-ml/greenlight/pkg/shadow"
	"github.com/greenlight-ml/greenlight/pkg/text"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// The reasons of refused requests. They are documented in the contract of DecisionService.
const (
	reasonDeadlineInvalid = "DEADLINE_INVALID"
	reasonExpired         = "EXPIRED"
	reasonInputMissing    = "INPUT_MISSING"
	reasonInputAmbiguous  = "INPUT_AMBIGUOUS"
	reasonSchemaUnknown   = "SCHEMA_UNKNOWN"
	reasonVectorLength    = "VECTOR_LENGTH"
	reasonFeatureMissing  = "FEATURE_MISSING"
	reasonFeatureUnknown  = "FEATURE_UNKNOWN"
	reasonFeatureInvalid  = "FEATURE_INVALID"
	reasonFieldTooLong    = "FIELD_TOO_LONG"
	reasonSymbolMissing   = "SYMBOL_MISSING"
	reasonQuoteInvalid    = "QUOTE_INVALID"
	reasonNotReady        = "NOT_READY"
	reasonTooManySymbols  = "TOO_MANY_SYMBOLS"
	reasonStopping        = "STOPPING"

	reasonBaselineMissing    = "BASELINE_SCORE_MISSING"
	reasonBaselineInvalid    = "BASELINE_SCORE_INVALID"
	reasonBaselineUnexpected = "BASELINE_SCORE_UNEXPECTED"
)

// request has the fields common to PredictRequest and PredictWithShadowRequest.
type request interface {
	GetRequestId() string
	GetSymbol() string
	GetFeatures() map[string]float64
	GetVector() *executorv1.FeatureVector
	GetQuote() *executorv1.Quote
	GetEventTime() *timestamppb.Timestamp
	GetSource() executorv1.Source
}

// input is the market state of a request.
type input struct {
	shadow.State

	// asOf is the end of the minute of the features, in Unix milliseconds UTC; 0 if the caller computed them.
	asOf int64
}

// checkNames returns an error if the id or the symbol of the request is too long.
func checkNames(req request) error {
	if n := len(req.GetRequestId()); n > rpc.MaxRequestID {
		return rpc.ExecutorError(codes.InvalidArgument, reasonFieldTooLong, "request_id has %d bytes: at most %d", n, rpc.MaxRequestID)
	}
	return checkLength(req.GetSymbol())
}

// callerScore returns the score that comes with the request; nil if the baseline computes it.
func (s *Service) callerScore(req request) (*float64, error) {
	var score *float64
	switch r := req.(type) {
	case *executorv1.PredictRequest:
		score = r.BaselineScore
	case *executorv1.PredictWithShadowRequest:
		score = r.BaselineScore
	}
	decides := s.baseline.score == nil
	switch {
	case score == nil && decides:
		return nil, rpc.ExecutorError(codes.InvalidArgument, reasonBaselineMissing, "no baseline_score: the baseline is the caller's score %s, so send it with every request", s.baseline.Version)
	case score != nil && !decides:
		return nil, rpc.ExecutorError(codes.InvalidArgument, reasonBaselineUnexpected,
			"baseline_score is set, but the baseline is %s: omit it, or start executor with --baseline caller=<name>@<version>", s.baseline.Version)
	case score != nil && !(*score >= 0 && *score <= 1): // NaN too
		return nil, rpc.ExecutorError(codes.InvalidArgument, reasonBaselineInvalid, "baseline_score is %v: want a number in [0,1]", *score)
	}
	return score, nil
}

// inputOf checks the market state of the request and returns it. If the request has a quote, it observes the quote.
func (s *Service) inputOf(req request) (input, error) {
	named, packed, quote := req.GetFeatures(), req.GetVector(), req.GetQuote()
	var in input
	var err error
	switch {
	case packed != nil && (len(named) > 0 || quote != nil):
		err = rpc.ExecutorError(codes.InvalidArgument, reasonInputAmbiguous, "more than one of features, vector and quote is set: send one of them")
	case packed != nil:
		in.State, err = s.packedState(packed)
	case quote != nil:
		in, err = s.quoteInput(req.GetSymbol(), quote, named)
	case len(named) > 0:
		in.State, err = s.namedState(named)
	default:
		err = rpc.ExecutorError(codes.InvalidArgument, reasonInputMissing, "no input: send features by name, a vector of a schema, or a quote")
	}
	return in, err
}

func checkLength(symbol string) error {
	if n := len(symbol); n > rpc.MaxSymbol {
		return rpc.ExecutorError(codes.InvalidArgument, reasonFieldTooLong, "symbol has %d bytes: at most %d", n, rpc.MaxSymbol)
	}
	return nil
}

func (s *Service) packedState(v *executorv1.FeatureVector) (shadow.State, error) {
	schema, ok := s.schemas.Lookup(v.GetSchema())
	if !ok {
		return shadow.State{}, rpc.ExecutorError(codes.InvalidArgument, reasonSchemaUnknown, "schema %q is unknown: want one of %s%s", text.Cut(v.GetSchema(), maxQuoted), rpc.Names(s.schemas.Names()), s.unreached())
	}
	want := v.GetSchemaHash()
	if want == "" && s.shadow.Learned(schema) { // a wrong order would change the decision
		return shadow.State{}, rpc.ExecutorError(codes.InvalidArgument, reasonSchemaUnknown,
			"schema %s is known only from ml-engine: send its schema_hash with the vector (greenlight schema check prints it), or start executor with --schema", schema.Name)
	}
	if want != "" && want != schema.Hash() {
		return shadow.State{}, rpc.ExecutorError(codes.InvalidArgument, reasonSchemaUnknown, "the vector's schema hash does not match schema %s, whose hash is %s here: give a changed schema a new name", schema.Name, schema.Hash())
	}
	values := v.GetValues()
	if len(values) != schema.Len() {
		return shadow.State{}, rpc.ExecutorError(codes.InvalidArgument, reasonVectorLength, "the vector has %s: schema %s has %d (%s)",
			text.Count(len(values), "value"), schema.Name, schema.Len(), rpc.Names(schema.Names()))
	}
	for i, x := range values {
		if name := schema.Features[i].Name; !valid(name, x) {
			return shadow.State{}, invalidValues(schema.Names(), func(name string) float64 { return values[schema.Index(name)] })
		}
	}
	return shadow.State{Schema: schema, Vector: values}, nil
}

func (s *Service) namedState(named map[string]float64) (shadow.State, error) {
	if err := s.checkNamed(named); err != nil {
		return shadow.State{}, err
	}
	return shadow.State{Named: named}, nil
}

// checkNamed returns an error for an unknown name or an invalid value. Until ml-engine has been reached, its model's inputs are
// unknown, so no name is refused: a decision never depends on ml-engine.
func (s *Service) checkNamed(named map[string]float64) error {
	var unknown []string
	bad := false
	for name, x := range named {
		if !s.schemas.Defines(name) && s.baseline.inputs.Index(name) < 0 {
			unknown = append(unknown, name)
		}
		bad = bad || !valid(name, x)
	}
	if len(unknown) > 0 && s.unreached() == "" {
		slices.Sort(unknown)
		return rpc.ExecutorError(codes.InvalidArgument, reasonFeatureUnknown, "no such feature: %s; the known schemas are %s", rpc.Names(unknown), rpc.Names(s.schemas.Names())).About(unknown)
	}
	if bad {
		return invalidValues(slices.Sorted(maps.Keys(named)), func(name string) float64 { return named[name] })
	}
	return nil
}

// checkOwn returns an error unless the features can come with a quote. Features of the catalogue cannot: they are computed from it.
func (s *Service) checkOwn(named map[string]float64) error {
	var computed []string
	for name := range named {
		if _, ok := feature.Find(name); ok {
			computed = append(computed, name)
		}
	}
	if len(computed) > 0 {
		slices.Sort(computed)
		return rpc.ExecutorError(codes.InvalidArgument, reasonInputAmbiguous, "features and quote are both set, but executor computes %s from quotes: send features without a quote, or only those that it does not compute",
			rpc.Names(computed)).About(computed)
	}
	return s.checkNamed(named)
}

// unreached explains that the schema of the model under trial is unknown; empty if it is known.
func (s *Service) unreached() string {
	if model, _ := s.shadow.Ready(); model != "" {
		return ""
	}
	return "; ml-engine has not been reached, so its model's schema is unknown: to know it from the start, start executor with --schema"
}

// maxQuoted limits how much of a name an error repeats, in bytes.
const maxQuoted = 64

// valid reports whether the feature can have the value.
func valid(name string, x float64) bool {
	return !math.IsNaN(x) && !math.IsInf(x, 0) && (name != feature.Bias || x == 1)
}

// invalidValues returns an error that names all invalid values of a state.
func invalidValues(names []string, value func(name string) float64) error {
	var bad, why []string
	for _, name := range names {
		x := value(name)
		switch {
		case valid(name, x):
			continue
		case name == feature.Bias:
			why = append(why, fmt.Sprintf("bias is %v: want 1", x))
		default:
			why = append(why, fmt.Sprintf("%s is %v: want a finite number", name, x))
		}
		bad = append(bad, name)
	}
	return rpc.ExecutorError(codes.InvalidArgument, reasonFeatureInvalid, "%s", strings.Join(why, "; ")).About(bad)
}
