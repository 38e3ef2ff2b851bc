package traffic

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/evidence"
	"github.com/greenlight-ml/greenlight/pkg/gate"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/oip"
	"github.com/greenlight-ml/greenlight/pkg/shadow"
	"github.com/greenlight-ml/greenlight/pkg/text"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	"github.com/greenlight-ml/greenlight/services/greenlight/internal/fleet"
)

// ShadowResult is the body of shadow_smoke_1k.json and shadow_replay.json: the executor's answers and their shadows.
type ShadowResult struct {
	Total       int     `json:"total"`
	Succeeded   int     `json:"succeeded"`
	SuccessRate float64 `json:"success_rate"`
	// Latency is measured by the client. ShadowLatency is the time from a request's arrival at the executor to its shadow's
	// answer, over the comparisons.
	Latency       Latency `json:"latency_ms"`
	ShadowLatency Latency `json:"shadow_latency_ms"`
	DurationS     float64 `json:"duration_s"`
	// MatchRate is matches / comparisons, in [0,1]. MatchTolerance is the largest difference of a match; files of older
	// versions lack it.
	MatchRate      float64 `json:"match_rate"`
	MatchTolerance float64 `json:"match_tolerance,omitempty"`
	Comparisons    int     `json:"comparisons"`
	// AvgDelta and MaxDelta are the mean and the largest |shadow - baseline|; MeanSignedDelta keeps the sign.
	AvgDelta        float64 `json:"avg_delta"`
	MaxDelta        float64 `json:"max_delta"`
	MeanSignedDelta float64 `json:"mean_signed_delta"`
	// ShadowErrors counts the shadow calls that failed.
	ShadowErrors int `json:"shadow_errors"`
	// Outcomes counts every answer by its outcome; all outcomes are listed.
	Outcomes map[string]int `json:"outcomes"`
	// Unaccounted is 0 if every request of the run has exactly one outcome. It counts requests without an outcome, and
	// the difference between the executor's requests and those of this client.
	Unaccounted int64 `json:"unaccounted"`
	// BaselineChanged counts the answers whose baseline score differs, in at least one bit, from what the baseline computes in
	// process. ShadowDiffering counts the shadow scores that differ from what the model computes.
	BaselineChanged int `json:"baseline_changed"`
	// Baseline is what the answers were compared with; null in files of older versions. BaselineUnchecked counts the answers
	// that could not be compared, because the registry does not have their baseline.
	Baseline          *evidence.Model `json:"baseline,omitempty"`
	BaselineUnchecked int             `json:"baseline_unchecked,omitempty"`
	ShadowDiffering   int             `json:"shadow_differing"`
	// ShadowUnchecked counts the shadow scores of a model server, whose model cannot be recomputed.
	ShadowUnchecked int `json:"shadow_unchecked,omitempty"`
	// Streamed holds the same decisions, requested again over streams as a trader would; nil if they were not.
	Streamed *Answers `json:"streamed,omitempty"`
	// Distinct is the number of different baseline scores.
	Distinct int `json:"distinct_scores"`
	// Errors counts the failed calls, by gRPC code.
	Errors map[string]int `json:"errors"`
	// Examples has the first failure for each code.
	Examples map[string]error `json:"-"`
	SLO      gate.Scorecard   `json:"slo"`
}

// Shadow sends the states to the executor and waits for their shadows. A call succeeds if its baseline score equals, in
// every bit, what the executor's baseline computes in process.
func Shadow(ctx context.Context, e fleet.Executor, a *model.Artifact, states []State, pace Pace) (*ShadowResult, error) {
	before, err := e.Counters(ctx)
	if err != nil {
		return nil, err
	}
	r := &ShadowResult{Total: len(states), MatchTolerance: before.Tolerance, Outcomes: map[string]int{}, Errors: map[string]int{}, Examples: map[string]error{}}
	for _, o := range shadow.Outcomes() {
		r.Outcomes[o.String()] = 0
	}
	if len(states) > 0 {
		r.Baseline = &states[0].Decides
	}
	calls, shadows := newStopwatch(), newStopwatch()
	distinct := map[uint64]bool{}
	var sum, signed float64
	var mu sync.Mutex
	took, err := pace.each(ctx, len(states), func(ctx context.Context, i int) {
		s := states[i]
		resp, err := timed(calls, func() (*executorv1.PredictWithShadowResponse, error) {
			return e.Decisions.PredictWithShadow(ctx, s.Request())
		})
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			fail(r.Errors, r.Examples, err)
			return
		}
		outcome := shadow.Outcome(resp.GetOutcome())
		r.Outcomes[outcome.String()]++
		distinct[math.Float64bits(resp.GetBaseline().GetScore())] = true
		switch digest := resp.GetBaseline().GetModelDigest(); {
		case digest != s.Decides.Digest, !s.Unchecked && !same(resp.GetBaseline().GetScore(), s.Baseline):
			r.BaselineChanged++
		case s.Unchecked:
			r.BaselineUnchecked++
		default:
			r.Succeeded++
		}
		switch {
		case outcome.Compared():
			if oip.Unpinned(resp.GetShadow().GetModelDigest()) {
				r.ShadowUnchecked++
			} else if !same(resp.GetShadow().GetScore(), s.Score) || resp.GetShadow().GetModelDigest() != a.Digest() {
				r.ShadowDiffering++
			}
			d := resp.GetComparison().GetDelta()
			sum, signed, r.MaxDelta = sum+math.Abs(d), signed+d, max(r.MaxDelta, math.Abs(d))
			shadows.add(time.Duration(resp.GetShadowLatencyMs() * float64(time.Millisecond)))
		case outcome.Failed():
			r.ShadowErrors++
		}
	})
	if err != nil {
		return nil, err
	}
	sent, failed := int64(r.Total), int64(total(r.Errors))
	if pace.Streams {
		pace.Progress = nil
		answers := decide(ctx, e.Decisions, states, len(states), pace)
		r.Streamed = &answers
		sent, failed = sent+int64(answers.Total), failed+int64(answers.Away+answers.Failed)
	}
	after, err := e.Counters(ctx)
	if err != nil {
		return nil, err
	}
	r.Comparisons = r.Outcomes[shadow.Match.String()] + r.Outcomes[shadow.Mismatch.String()]
	if r.Comparisons > 0 {
		r.AvgDelta, r.MeanSignedDelta = sum/float64(r.Comparisons), signed/float64(r.Comparisons)
	}
	r.MatchRate, r.Distinct = ratio(r.Outcomes[shadow.Match.String()], r.Comparisons), len(distinct)
	r.SuccessRate, r.DurationS = ratio(r.Succeeded, r.Total), took.Seconds()
	r.Latency, r.ShadowLatency = calls.latency(), shadows.latency()
	r.Unaccounted = fleet.Unaccounted(before, after, sent, failed)
	r.SLO = r.Judge()
	return r, nil
}

// Request returns the request for a decision on the state. It has the features by name, because a packed vector of a schema
// cannot hold the raw inputs.
func (s State) Request() *executorv1.PredictWithShadowRequest {
	r := &executorv1.PredictWithShadowRequest{RequestId: s.ID, Symbol: s.Symbol, EventTime: s.Time, Features: s.Named, Source: s.Source}
	if s.Sent {
		r.BaselineScore = &s.Baseline
	}
	return r
}

// Judge judges the result by its own counts.
func (r *ShadowResult) Judge() gate.Scorecard {
	return gate.Judge(slices.Concat(gate.Shadow(), gate.ShadowIntegrity()), r.observations())
}

func (r *ShadowResult) observations() map[string]gate.Observation {
	n, lost := uint64(r.Total), r.BaselineChanged+total(r.Errors)
	if s := r.Streamed; s != nil {
		n, lost = n+s.Total, lost+int(s.Changed+s.Away+s.Failed)
	}
	changed := gate.Measured(float64(lost), n)
	if r.BaselineUnchecked > 0 {
		changed = gate.Missing("the executor's baseline is not in the registry: its answers could not be checked")
		if r.Baseline != nil {
			changed = gate.Missing(fmt.Sprintf("the executor's baseline %s is not in the registry: its answers could not be checked", r.Baseline))
		}
	}
	differing := gate.Measured(float64(r.ShadowDiffering), uint64(r.Comparisons))
	if r.ShadowUnchecked > 0 {
		differing = gate.Missing("the scores of a model server could not be checked: its model cannot be recomputed")
	}
	return map[string]gate.Observation{
		gate.ShadowMatch:     gate.Rate(uint64(r.Outcomes[shadow.Match.String()]), uint64(r.Comparisons)),
		gate.ShadowErrorRate: gate.Rate(uint64(r.ShadowErrors), uint64(r.Comparisons+r.ShadowErrors)),
		gate.ShadowP95:       gate.Measured(r.ShadowLatency.P95, uint64(r.Comparisons)),
		gate.BaselineChanged: changed,
		gate.ShadowDiffer:    differing,
		gate.Unaccounted:     gate.Measured(math.Abs(float64(r.Unaccounted)), n),
	}
}

func total(counts map[string]int) (n int) {
	for _, c := range counts {
		n += c
	}
	return n
}

// String returns the result as a line of text, with more lines, indented, for the calls that failed.
func (r *ShadowResult) String() string {
	decisions := text.Count(r.Total, "decision")
	if r.Streamed != nil {
		decisions += fmt.Sprintf(" and %d over streams", r.Streamed.Total)
	}
	return fmt.Sprintf("%s, match rate %.1f %% of %s, %s, shadow p95 %.2f ms: %s%s",
		decisions, 100*r.MatchRate, text.Count(r.Comparisons, "comparison"), text.Count(r.ShadowErrors, "shadow error"),
		r.ShadowLatency.P95, r.SLO.Verdict(), failures(r.Errors, r.Examples))
}
