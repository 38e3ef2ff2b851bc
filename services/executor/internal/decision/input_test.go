package decision_test

import (
	"context"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

func TestBadInputsAreRefused(t *testing.T) {
	type input struct {
		id, symbol string
		features   map[string]float64
		vector     *executorv1.FeatureVector
		quote      *executorv1.Quote
	}
	good := func(change func(map[string]float64)) map[string]float64 {
		m := map[string]float64{"vol1m_log_rel": 0.1, "spread_bp_rel": 0.2, "rsi14_z": 0.3, "zscore_mid_24h": 0.4}
		change(m)
		return m
	}
	packed := func(schema string, values ...float64) *executorv1.FeatureVector {
		return &executorv1.FeatureVector{Schema: schema, Values: values}
	}
	nan, inf := math.NaN(), math.Inf(1)
	at := func(ms int64, bid, ask float64) *executorv1.Quote {
		return &executorv1.Quote{Time: timestamppb.New(time.UnixMilli(ms)), Bid: bid, Ask: ask}
	}
	const now = 1_736_121_600_000
	for name, tt := range map[string]struct {
		in            input
		reason, names string
	}{
		"nothing":             {input{}, "INPUT_MISSING", ""},
		"both":                {input{features: map[string]float64{"mid": 1}, vector: packed("v1.8.1")}, "INPUT_AMBIGUOUS", ""},
		"quote and features":  {input{symbol: "S", features: map[string]float64{"mid": 1}, quote: at(now, 1, 2)}, "INPUT_AMBIGUOUS", "mid"},
		"quote and vector":    {input{symbol: "S", vector: packed("v1.8.1"), quote: at(now, 1, 2)}, "INPUT_AMBIGUOUS", ""},
		"quote of no symbol":  {input{quote: at(now, 1, 2)}, "SYMBOL_MISSING", ""},
		"long symbol, quote":  {input{symbol: strings.Repeat("s", 65), quote: at(now, 1, 2)}, "FIELD_TOO_LONG", ""},
		"empty quote":         {input{symbol: "S", quote: &executorv1.Quote{}}, "QUOTE_INVALID", ""},
		"quote without ask":   {input{symbol: "S", quote: at(now, 1, 0)}, "QUOTE_INVALID", ""},
		"negative bid":        {input{symbol: "S", quote: at(now, -1, 2)}, "QUOTE_INVALID", ""},
		"bid of NaN":          {input{symbol: "S", quote: at(now, nan, 2)}, "QUOTE_INVALID", ""},
		"infinite ask":        {input{symbol: "S", quote: at(now, 1, inf)}, "QUOTE_INVALID", ""},
		"quote without time":  {input{symbol: "S", quote: &executorv1.Quote{Bid: 1, Ask: 2}}, "QUOTE_INVALID", ""},
		"time in seconds":     {input{symbol: "S", quote: at(now/1000, 1, 2)}, "QUOTE_INVALID", ""},
		"no time at all":      {input{symbol: "S", quote: &executorv1.Quote{Time: &timestamppb.Timestamp{Seconds: math.MaxInt64}, Bid: 1, Ask: 2}}, "QUOTE_INVALID", ""},
		"unknown schema":      {input{vector: packed("v9", 1)}, "SCHEMA_UNKNOWN", ""},
		"no schema":           {input{vector: packed("", 1)}, "SCHEMA_UNKNOWN", ""},
		"short vector":        {input{vector: packed("v1.8.1", 1, 0)}, "VECTOR_LENGTH", ""},
		"long vector":         {input{vector: packed("v1.8.1", 1, 0, 0, 0, 0, 0, 0, 0)}, "VECTOR_LENGTH", ""},
		"empty vector":        {input{vector: packed("v1.8.1")}, "VECTOR_LENGTH", ""},
		"vector of NaN":       {input{vector: packed("v1.8.1", 1, nan, 0, inf, 0, 0, 0)}, "FEATURE_INVALID", "mid_logret_1m_rel,spread_bp_rel"},
		"vector without bias": {input{vector: packed("v1.8.1", 0, 0, 0, 0, 0, 0, 0)}, "FEATURE_INVALID", "bias"},
		"vector of v1.8":      {input{vector: packed("v1.8", 1, 0, 0, 0, 0, 0)}, "FEATURE_MISSING", "vol1m_log_rel,spread_bp_rel,rsi14_z,zscore_mid_24h"},
		"one missing":         {input{features: good(func(m map[string]float64) { delete(m, "rsi14_z") })}, "FEATURE_MISSING", "rsi14_z"},
		"one unknown":         {input{features: good(func(m map[string]float64) { m["rsi"] = 1 })}, "FEATURE_UNKNOWN", "rsi"},
		"two unknown":         {input{features: good(func(m map[string]float64) { m["rsi"], m["adx"] = 1, 2 })}, "FEATURE_UNKNOWN", "adx,rsi"},
		"NaN":                 {input{features: good(func(m map[string]float64) { m["rsi14_z"] = nan })}, "FEATURE_INVALID", "rsi14_z"},
		"NaN and infinity":    {input{features: good(func(m map[string]float64) { m["rsi14_z"], m["mid"] = nan, inf })}, "FEATURE_INVALID", "mid,rsi14_z"},
		"bias is not 1":       {input{features: good(func(m map[string]float64) { m["bias"] = 0.5 })}, "FEATURE_INVALID", "bias"},
		"long id":             {input{id: strings.Repeat("i", 257), features: good(func(map[string]float64) {})}, "FIELD_TOO_LONG", ""},
		"long symbol":         {input{symbol: strings.Repeat("s", 65), features: good(func(map[string]float64) {})}, "FIELD_TOO_LONG", ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := start(t, enginetest.Options{}, 100)
				for call, do := range map[string]func(context.Context) error{
					"Predict": func(ctx context.Context) error {
						_, err := e.Predict(ctx, &executorv1.PredictRequest{RequestId: tt.in.id, Symbol: tt.in.symbol, Features: tt.in.features, Vector: tt.in.vector, Quote: tt.in.quote})
						return err
					},
					"PredictWithShadow": func(ctx context.Context) error {
						_, err := e.PredictWithShadow(ctx, &executorv1.PredictWithShadowRequest{RequestId: tt.in.id, Symbol: tt.in.symbol, Features: tt.in.features, Vector: tt.in.vector, Quote: tt.in.quote})
						return err
					},
				} {
					s := status.Convert(do(t.Context()))
					if s.Code() != codes.InvalidArgument || len(s.Details()) != 1 {
						t.Fatalf("%s: got %v %q, want INVALID_ARGUMENT with one detail", call, s.Code(), s.Message())
					}
					info, ok := s.Details()[0].(*errdetails.ErrorInfo)
					if !ok || info.GetDomain() != "executor.greenlight" || info.GetReason() != tt.reason || info.GetMetadata()["features"] != tt.names {
						t.Errorf("%s: got %v, want %s with the names %q", call, s.Details()[0], tt.reason, tt.names)
					}
				}
				if r, _ := e.report(); r.GetRequestsTotal() != 0 {
					t.Errorf("%d requests counted: a request that is refused is none", r.GetRequestsTotal())
				}
			})
		})
	}
}

func TestBiasMayBeThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := start(t, enginetest.Options{}, 100)
		features := map[string]float64{"bias": 1, "vol1m_log_rel": 0.1, "spread_bp_rel": 0.2, "rsi14_z": 0.3, "zscore_mid_24h": 0.4}
		with, err := e.Predict(t.Context(), &executorv1.PredictRequest{Features: features})
		if err != nil {
			t.Fatal(err)
		}
		delete(features, "bias")
		without, err := e.Predict(t.Context(), &executorv1.PredictRequest{Features: features})
		if err != nil || with.GetScore() != without.GetScore() {
			t.Errorf("got %v without bias (%v), %v with", without.GetScore(), err, with.GetScore())
		}
	})
}
