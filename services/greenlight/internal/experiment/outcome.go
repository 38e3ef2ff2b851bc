package experiment

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/eval"
	"github.com/greenlight-ml/greenlight/pkg/outcome"
	"github.com/greenlight-ml/greenlight/pkg/train"
)

// QualityPlan is the plan of a live verdict on the model against the baseline, from their out-of-time scores, and how long
// that verdict takes.
type QualityPlan struct {
	outcome.Plan

	PlanDigest string `json:"plan_digest"`
	// Difference is the mean difference in Brier loss out of time; positive if the model was better.
	Difference float64 `json:"offline_difference"`
	// LeastDays is the number of days until a PASS for two equal scorers. ExpectedDays is the number for this model at its
	// out-of-time difference; nil if it would never pass.
	LeastDays    float64  `json:"least_days"`
	ExpectedDays *float64 `json:"expected_days"`
	// Given reports whether the cap or the margin was given instead of computed from out-of-time scores. The expected days are
	// then unknown.
	Given bool `json:"given,omitempty"`
}

// Line describes for people how long a verdict takes.
func (q *QualityPlan) Line() string {
	expected := "at the out-of-time difference it never passes"
	if q.ExpectedDays != nil {
		expected = "about " + outcome.Days(*q.ExpectedDays) + " expected"
	}
	least := "a live verdict against the baseline takes at least " + outcome.Days(q.LeastDays) + " between equal scorers"
	if q.Given {
		return fmt.Sprintf("%s (cap %.3g, margin %.3g)", least, q.DisagreementCap, q.Margin)
	}
	return fmt.Sprintf("%s, %s (cap %.3g, margin %.3g, out-of-time difference %+.4f)", least, expected, q.DisagreementCap, q.Margin, q.Difference)
}

// Pair has the scores of a model and a baseline for the same rows, with their labels, in time order.
type Pair struct {
	// Model and Baseline identify the scorers in the key of the records.
	Model, Baseline string
	Symbol          string
	Source          outcome.LabelSource
	Horizon         time.Duration
	// Rows have both scores, Labels are their outcomes, and Days are their UTC days since 1970-01-01.
	Rows   []outcome.Row
	Labels []bool
	Days   []int
	// ends and answers are the minutes of the market and their labels; nil if labels are reported.
	ends    []int64
	answers []outcome.Answer
}

// Pair returns the out-of-time scores of two runs of the study on the same rows.
func (s *Study) Pair(model, baseline *train.Result) (*Pair, error) {
	ours, minutes := model.Pooled()
	theirs, same := baseline.Pooled()
	if !slices.Equal(minutes, same) {
		return nil, fmt.Errorf("the model and the baseline were not scored on the same rows")
	}
	p := &Pair{
		Symbol: s.Data.Symbol, Source: outcome.Quotes, Horizon: time.Duration(s.Label.Horizon) * time.Minute,
		Rows: make([]outcome.Row, ours.Len()), Labels: ours.Labels, Days: ours.Days,
	}
	if t := s.Data.Table; t != nil {
		p.Source, p.Horizon = outcome.Reported, time.Duration(t.Info.HorizonMinutes*float64(time.Minute))
	} else {
		p.ends, p.answers = make([]int64, s.Frame.Len()), make([]outcome.Answer, s.Frame.Len())
		for i := range p.ends {
			p.ends[i] = s.Frame.End(i)
		}
	}
	for k, i := range minutes {
		p.Rows[k] = outcome.Row{
			ID: strconv.Itoa(i), Symbol: p.Symbol, Time: s.Frame.End(i), Source: outcome.SourceOf(string(s.Data.Source())),
			Baseline: theirs.Scores[k], Shadow: ours.Scores[k],
		}
		if p.answers != nil {
			p.answers[i] = outcome.Negative
			if ours.Labels[k] {
				p.answers[i] = outcome.Positive
			}
		}
	}
	return p, nil
}

// Suggest returns the plan that the scores suggest: see [outcome.Suggest].
func (p *Pair) Suggest() outcome.Plan {
	distances, baseline := make([]float64, len(p.Rows)), make([]float64, len(p.Rows))
	for i := range p.Rows {
		distances[i], baseline[i] = math.Abs(p.Rows[i].Shadow-p.Rows[i].Baseline), p.Rows[i].Baseline
	}
	slices.Sort(distances)
	return outcome.Suggest(distances, eval.Brier(baseline, p.Labels), p.Source, p.Horizon)
}

// Records joins the rows to their labels, and returns the records of all blocks that end within the data.
func (p *Pair) Records(plan outcome.Plan) []outcome.Record {
	j := outcome.NewJoin(outcome.Key{Executor: "offline", Model: p.Model, Baseline: p.Baseline}, plan)
	if p.answers == nil {
		p.report(j)
		return j.Closed()
	}
	feed := outcome.NewFeed(j, p.Symbol, p.ends, p.answers)
	for i := range p.Rows {
		feed.Add(&p.Rows[i])
	}
	feed.Finish()
	return j.Closed()
}

// report passes every row to the join, and its label once it is known.
func (p *Pair) report(j *outcome.Join) {
	horizon, due := p.Horizon.Milliseconds(), 0
	until := func(t int64) {
		for ; due < len(p.Rows) && p.Rows[due].Time+horizon <= t; due++ {
			j.Report(p.Rows[due].ID, p.Labels[due], p.Rows[due].Time+horizon)
		}
	}
	for i := range p.Rows {
		until(p.Rows[i].Time)
		j.Add(&p.Rows[i])
	}
	until(math.MaxInt64)
}

// Plan judges the scores as a live run would, and returns how long it would take.
func (p *Pair) Plan() *QualityPlan {
	plan := p.Suggest()
	v := outcome.Judge(plan, p.Records(plan))
	if plan.Validate() != nil {
		return nil // a baseline without a loss, or a horizon that is too long
	}
	return &QualityPlan{Plan: plan, PlanDigest: plan.Digest(), Difference: v.Difference, LeastDays: v.LeastDays, ExpectedDays: v.ExpectedDays}
}
