package traffic

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"

	"google.golang.org/grpc/status"

	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/text"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

// The evidence schemas of the results.
const (
	SmokeSchema  = "greenlight/smoke/v1"
	ShadowSchema = "greenlight/shadow_smoke/v1"
)

// SmokeResult is the body of smoke_1k.json: ml-engine's answers to varied states.
type SmokeResult struct {
	Total       int     `json:"total"`
	Succeeded   int     `json:"succeeded"`
	SuccessRate float64 `json:"success_rate"`
	Latency     Latency `json:"latency_ms"`
	DurationS   float64 `json:"duration_s"`
	// Answered counts the calls that returned a score, right or wrong. It is the n of the latency.
	Answered int `json:"answered"`
	// Differing counts the answers that differ, in at least one bit, from what the same model computes in process.
	Differing int `json:"differing_scores"`
	// Distinct is the number of different scores.
	Distinct int `json:"distinct_scores"`
	// Errors counts the failures by gRPC code.
	Errors map[string]int `json:"errors"`
	// Examples has the first failure for each code.
	Examples map[string]error `json:"-"`
	SLO      gate.Scorecard   `json:"slo"`
}

// Smoke sends the states to ml-engine, alternating between features by name and vectors. A call succeeds if it returns
// the exact score that the model computes in process, with the model's digest and the request's ID.
func Smoke(ctx context.Context, engine mlenginev1.ScoringServiceClient, a *model.Artifact, states []State, pace Pace) (*SmokeResult, error) {
	r := &SmokeResult{Total: len(states), Errors: map[string]int{}, Examples: map[string]error{}}
	times := newStopwatch()
	distinct := map[uint64]bool{}
	var mu sync.Mutex
	took, err := pace.each(ctx, len(states), func(ctx context.Context, i int) {
		s := states[i]
		req := &mlenginev1.PredictRequest{RequestId: s.ID, Symbol: s.Symbol, EventTime: s.Time, Source: mlenginev1.Source(s.Source)}
		if i%2 == 0 {
			req.Vector = &mlenginev1.FeatureVector{Schema: a.Schema.Name, Values: s.Vector}
		} else {
			req.Features = maps.Collect(pairs(a.Schema, s.Vector))
		}
		resp, err := timed(times, func() (*mlenginev1.PredictResponse, error) { return engine.Predict(ctx, req) })
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			fail(r.Errors, r.Examples, err)
			return
		}
		distinct[math.Float64bits(resp.GetScore())] = true
		if !same(resp.GetScore(), s.Score) || resp.GetModelDigest() != a.Digest() || resp.GetRequestId() != s.ID {
			r.Differing++
			return
		}
		r.Succeeded++
	})
	if err != nil {
		return nil, err
	}
	r.Answered, r.Distinct = times.count(), len(distinct)
	r.SuccessRate, r.Latency, r.DurationS = ratio(r.Succeeded, r.Total), times.latency(), took.Seconds()
	r.SLO = r.Judge()
	return r, nil
}

// fail counts a failure by its code, and keeps the first error of each code.
func fail(counts map[string]int, first map[string]error, err error) {
	code := status.Code(err).String()
	if counts[code]++; counts[code] == 1 {
		first[code] = err
	}
}

// Judge judges the result by its counts.
func (r *SmokeResult) Judge() gate.Scorecard {
	return gate.Judge(slices.Concat(gate.Smoke(), gate.SmokeIntegrity()), r.observations())
}

func (r *SmokeResult) observations() map[string]gate.Observation {
	return map[string]gate.Observation{
		gate.SmokeSuccess:  gate.Rate(uint64(r.Succeeded), uint64(r.Total)),
		gate.SmokeP95:      gate.Measured(r.Latency.P95, uint64(r.Answered)),
		gate.SmokeDiffer:   gate.Measured(float64(r.Differing), uint64(r.Answered)),
		gate.SmokeDistinct: gate.Measured(float64(r.Distinct), uint64(r.Answered)),
	}
}

func ratio(k, n int) float64 {
	if n == 0 {
		return 0
	}
	return float64(k) / float64(n)
}

// String returns the result as a line of text, with more lines, indented, for the calls that failed.
func (r *SmokeResult) String() string {
	return fmt.Sprintf("%s, %.1f %% right, %s, p50 %.2f ms, p95 %.2f ms, p99 %.2f ms: %s%s",
		text.Count(r.Total, "prediction"), 100*r.SuccessRate, text.Count(r.Distinct, "distinct score"), r.Latency.P50, r.Latency.P95, r.Latency.P99,
		r.SLO.Verdict(), failures(r.Errors, r.Examples))
}

// failures describes how many calls failed, and the first failure for each code with a hint.
func failures(counts map[string]int, first map[string]error) string {
	var lines strings.Builder
	for _, code := range slices.Sorted(maps.Keys(counts)) {
		fmt.Fprintf(&lines, "\n          %s failed: %v", text.Count(counts[code], "call"), fleet.Plain(first[code]))
		if hint := fleet.Hint(first[code]); hint != "" {
			fmt.Fprintf(&lines, "\n          hint: %s", hint)
		}
	}
	return lines.String()
}
