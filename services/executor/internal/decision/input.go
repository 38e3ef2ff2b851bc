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

// The reasons of refused requests. The contract of DecisionService documents them.
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

// inputOf checks the request and returns its market state. If the request has a quote, it observes the quote.
func (s *Service) inputOf(req request) (input, error) {
	if n := len(req.GetRequestId()); n > rpc.MaxRequestID {
		return input{}, rpc.ExecutorError(codes.InvalidArgument, reasonFieldTooLong, "request_id has %d bytes: at most %d", n, rpc.MaxRequestID)
	}
	if err := checkLength(req.GetSymbol()); err != nil {
		return input{}, err
	}
	named, packed, quote := req.GetFeatures(), req.GetVector(), req.GetQuote()
	var in input
	var err error
	switch {
	case len(named) > 0 && (packed != nil || quote != nil) || packed != nil && quote != nil:
		err = rpc.ExecutorError(codes.InvalidArgument, reasonInputAmbiguous, "more than one of features, vector and quote is set: send one of them")
	case packed != nil:
		in.State, err = packedState(packed)
	case len(named) > 0:
		in.State, err = namedState(named)
	case quote != nil:
		in, err = s.quoteInput(req.GetSymbol(), quote)
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

func packedState(v *executorv1.FeatureVector) (shadow.State, error) {
	schema, ok := feature.Lookup(v.GetSchema())
	if !ok {
		known := make([]string, 0, 2)
		for _, s := range feature.Schemas() {
			known = append(known, s.Name)
		}
		return shadow.State{}, rpc.ExecutorError(codes.InvalidArgument, reasonSchemaUnknown, "schema %q is not known: want one of %s", v.GetSchema(), strings.Join(known, ", "))
	}
	values := v.GetValues()
	if len(values) != schema.Len() {
		return shadow.State{}, rpc.ExecutorError(codes.InvalidArgument, reasonVectorLength, "the vector has %s: schema %s has %d (%s)",
			text.Count(len(values), "value"), schema.Name, schema.Len(), strings.Join(schema.Names(), ", "))
	}
	for i, x := range values {
		if name := schema.Features[i].Name; !valid(name, x) {
			return shadow.State{}, invalidValues(schema.Names(), func(name string) float64 { return values[schema.Index(name)] })
		}
	}
	return shadow.State{Schema: schema, Vector: values}, nil
}

func namedState(named map[string]float64) (shadow.State, error) {
	var unknown []string
	bad := false
	for name, x := range named {
		if _, ok := feature.Find(name); !ok {
			unknown = append(unknown, name)
		}
		bad = bad || !valid(name, x)
	}
	if len(unknown) > 0 {
		slices.Sort(unknown)
		return shadow.State{}, rpc.ExecutorError(codes.InvalidArgument, reasonFeatureUnknown, "no such feature: %s", rpc.Names(unknown)).About(unknown)
	}
	if bad {
		return shadow.State{}, invalidValues(slices.Sorted(maps.Keys(named)), func(name string) float64 { return named[name] })
	}
	return shadow.State{Named: named}, nil
}

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
			why = append(why, fmt.Sprintf("bias is %v: it is always 1", x))
		default:
			why = append(why, fmt.Sprintf("%s is %v: want a finite number", name, x))
		}
		bad = append(bad, name)
	}
	return rpc.ExecutorError(codes.InvalidArgument, reasonFeatureInvalid, "%s", strings.Join(why, "; ")).About(bad)
}
