package page

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/greenlight-ml/greenlight/pkg/gate"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// Status is the content of the page: the answers, and the figures behind them in the contract's JSON.
type Status struct {
	Time time.Time `json:"time"`
	// Host is the name of the executor's machine; Report has the process's id.
	Host    string          `json:"host"`
	Answers []Answer        `json:"answers"`
	Report  json.RawMessage `json:"report"`
	Rollout json.RawMessage `json:"rollout"`
	// Drift is ml-engine's answer. Until there is one, DriftError is set instead. DriftNote is why there will be none.
	Drift      json.RawMessage `json:"drift,omitempty"`
	DriftError string          `json:"driftError,omitempty"`
	DriftNote  string          `json:"driftNote,omitempty"`
	// Baseline and Shadow are latencies in milliseconds from the arrival of a request, including failed shadows. Delta is the
	// absolute difference of the scores.
	Baseline Distribution `json:"baseline"`
	Shadow   Distribution `json:"shadow"`
	Delta    Distribution `json:"delta"`
	// Bounds are the bounds of the mean difference of the Brier losses over time, at most 200 points. Empty without a verdict.
	Bounds []Bound `json:"bounds"`
	// Gate is the state of the gate. Gate, Decisions and Wait (how long decisions waited for the model, in milliseconds) are set
	// only while a gate or a latch is. Then there is a sixth answer.
	Gate      json.RawMessage `json:"gate,omitempty"`
	Decisions *Decisions      `json:"decisions,omitempty"`
	Wait      *Distribution   `json:"wait,omitempty"`
	// MatchTarget is the promised match rate, in [0,1]. MatchTolerance is the largest difference of a match.
	MatchTarget    float64 `json:"matchTarget"`
	MatchTolerance float64 `json:"matchTolerance"`
	// BudgetWarning is the share of the changes of an hour, in [0,1], above which the page warns.
	BudgetWarning float64 `json:"budgetWarning"`
	// BaselineLimit is the promised latency of the baseline, ShadowLimit how long a shadow may take; in milliseconds.
	BaselineLimit float64 `json:"baselineLimit"`
	ShadowLimit   float64 `json:"shadowLimit"`
}

// MaxBounds is the largest number of bounds in a status.
const MaxBounds = 200

// Bound is the state of the verdict after a block.
type Bound struct {
	Time  time.Time `json:"time"`
	Lower float64   `json:"lower"`
	Upper float64   `json:"upper"`
}

// Distribution is a histogram with its quantiles, which are 0 if it is empty.
type Distribution struct {
	Histogram

	// Seconds is the length of the period before the status; 0 means since the start of the executor.
	Seconds float64 `json:"seconds"`
	P50     float64 `json:"p50"`
	P95     float64 `json:"p95"`
	P99     float64 `json:"p99"`
}

func describe(h Histogram, length time.Duration) Distribution {
	d := Distribution{Histogram: h, Seconds: length.Seconds()}
	if h.N > 0 { // JSON has no NaN
		quantile := func(q float64) float64 { return gate.HistogramQuantile(q, h.Edges, h.Counts) }
		d.P50, d.P95, d.P99 = quantile(.50), quantile(.95), quantile(.99)
	}
	return d
}

// source makes statuses and points of the history. Only the hub's goroutine makes statuses.
type source struct {
	opts   Options
	drift  *drift
	window window
}

func (s *source) status(ctx context.Context) (*Status, error) {
	now := time.Now().UTC()
	report, err := s.opts.Report(ctx, &executorv1.GetShadowReportRequest{})
	if err != nil {
		return nil, err
	}
	rollout, guard := s.opts.Rollout(), s.opts.Gate()
	since, err := gather(s.opts.Metrics)
	if err != nil {
		return nil, err
	}
	since[deciders] = countsOf(guard)
	recent, length := s.window.add(now, since)
	quality, bounds := s.opts.Quality()
	answer, raw, failed := s.drift.latest()
	inHistograms, inWindow := period(length), periodOf(report)
	st := &Status{
		Time: now, Host: s.opts.Host, Drift: raw, MatchTarget: matchRule().Threshold, MatchTolerance: report.GetMatchTolerance(),
		BudgetWarning: gate.BudgetWarning, BaselineLimit: gate.BaselineMS, ShadowLimit: float64(s.opts.ShadowTimeout) / float64(time.Millisecond),
		Baseline: describe(recent[baselineLatency], length), Shadow: describe(recent[shadowLatency], length), Delta: describe(recent[absDelta], length),
		Answers: []Answer{
			affected(recent[baselineLatency]).over(inHistograms), seen(report).over(inWindow),
			agrees(report.GetWindow()).over(inWindow), drifted(answer, failed).over(periodOfDrift(answer)),
			better(quality).over("since the plan"),
		},
		Bounds: bounds,
	}
	if relevant(rollout, guard) {
		wait := describe(recent[gateWait], length)
		st.Wait, st.Decisions = &wait, decisionsOf(recent[deciders], since[deciders], length)
		st.Answers = append(st.Answers, decider(rollout, guard, st.Decisions).over(inHistograms))
		if st.Gate, err = message(guard); err != nil {
			return nil, err
		}
	}
	switch {
	case errors.Is(failed, errNotReported):
		st.DriftNote = failed.Error()
	case failed != nil:
		st.DriftError = failed.Error()
	}
	if st.Report, err = message(report); err != nil {
		return nil, err
	}
	if st.Rollout, err = message(rollout); err != nil {
		return nil, err
	}
	return st, nil
}

func message(m proto.Message) (json.RawMessage, error) {
	return protojson.MarshalOptions{EmitUnpopulated: true}.Marshal(m)
}
