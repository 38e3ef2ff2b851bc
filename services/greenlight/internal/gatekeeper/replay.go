package gatekeeper

import (
	"fmt"
	"io"
	"iter"
	"math"
	"slices"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/decide"
	"github.com/greenlight-ml/greenlight/pkg/featurelog"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/shadow"
)

// Replay recomputes the decisions of a feature log.
type Replay struct {
	// Rows counts rows with a decision, Others those without: no gate was set.
	Rows, Others int
	// Decisions counts the rows by who decided: "model", or the baseline by reason.
	Decisions map[string]uint64
	// Taken counts rows whose reason cannot be recomputed, and was only checked for consistency.
	Taken map[string]uint64
	// Different counts the rows that differ, and Differences holds the first of them.
	Different   int
	Differences []Difference

	plan    *Plan
	limits  decide.Limits
	sampler *shadow.Sampler
	// schema is the hash of the model's schema, domain its ranges and scorer its scorer; empty without a model.
	schema string
	domain []decide.Range
	scorer model.Scorer
}

// Difference is a row that contradicts package decide.
type Difference struct {
	Time    time.Time
	Request string
	What    string
}

// maxDifferences is the number of differences kept.
const maxDifferences = 20

// NewReplay returns a replay of the decisions under the plan. salt is the executors' sample salt. a is the model of the plan;
// if it is nil, the log is trusted on which states were outside its training data.
func NewReplay(p *Plan, salt string, a *model.Artifact) (*Replay, error) {
	r := &Replay{
		Decisions: map[string]uint64{}, Taken: map[string]uint64{}, plan: p,
		limits: decide.Limits{Model: p.Model.Digest, Disagreement: p.Quality.DisagreementCap, Low: p.MinScore, High: p.MaxScore},
	}
	var err error
	if r.sampler, err = shadow.NewSampler(salt, p.Percent); err != nil {
		return nil, err
	}
	if a != nil {
		if a.Digest() != p.Model.Digest {
			return nil, fmt.Errorf("%s/%s has digest %.12s, but the plan is for %s", a.Manifest.Name, a.Manifest.Version, a.Digest(), p.Model)
		}
		r.schema, r.scorer = a.Schema.Hash(), a.Scorer
		for _, f := range a.Ranges() {
			r.domain = append(r.domain, decide.Range{Low: f.Low, High: f.High})
		}
	}
	return r, nil
}

// Read replays all rows. progress is called with the number of rows so far; it may be nil.
func (r *Replay) Read(rows iter.Seq2[featurelog.Row, error], progress func(done int)) error {
	for row, err := range rows {
		if err != nil {
			return err
		}
		r.add(&row)
		if n := r.Rows + r.Others; progress != nil && n%4096 == 0 {
			progress(n)
		}
	}
	return nil
}

func (r *Replay) add(row *featurelog.Row) {
	if row.Decision.By == "" {
		r.Others++
		return
	}
	r.Rows++
	key := row.Decision.Reason
	if row.Decision.By == byModel {
		key = byModel
	}
	r.Decisions[key]++
	if what := r.check(row); what != "" {
		r.Different++
		if len(r.Differences) < maxDifferences {
			r.Differences = append(r.Differences, Difference{row.ArrivalTime, row.RequestID, what})
		}
	}
}

// check returns what is wrong with the decision of a row; empty if it matches package decide.
func (r *Replay) check(row *featurelog.Row) string {
	d := row.Decision
	reason, known := decide.ParseReason(d.Reason)
	switch {
	case !known || d.By != byModel && d.By != "baseline" || (d.By == byModel) != (reason == decide.None):
		return fmt.Sprintf("decided by %q for reason %q: there is no such decision", d.By, d.Reason)
	case !d.Score.Present:
		return "has no final score"
	}
	if what := r.rescore(row); what != "" {
		return what
	}
	state := decide.State{Gated: true, Limits: r.limits}
	if reason.OfState() { // the state of the gate is not in the row
		r.Taken[reason.String()]++
		return bits("the baseline's", d.Score.Value, row.BaselineScore)
	}
	if row.ShadowScore.Present && (reason == decide.Deadline || reason == decide.Canceled) { // the row does not tell when it came
		r.Taken[reason.String()]++
	}
	got := decide.Decide(state, r.request(row, reason), advice(row, reason))
	if got.Reason != reason {
		return fmt.Sprintf("%s decided%s; computed: %s%s", d.By, because(reason), by(got), because(got.Reason))
	}
	return bits(by(got)+"'s", d.Score.Value, got.Score)
}

// request rebuilds the request from the row. What the row lacks is inferred from the reason.
func (r *Replay) request(row *featurelog.Row, reason decide.Reason) decide.Request {
	q := decide.Request{
		Baseline: row.BaselineScore, Selected: r.sampler.Sampled(row.RequestID) && (r.plan.AllSymbols || slices.Contains(r.plan.Symbols, row.Symbol)),
		Model: r.plan.Model.Digest,
	}
	switch {
	case row.EventTime.IsZero() && reason == decide.FeaturesStale: // its event_time was impossible, and is not in the row
		r.Taken[reason.String()]++
		q.Age = decide.MaxAge + 1
	case !row.EventTime.IsZero():
		q.Age = row.ArrivalTime.Sub(row.EventTime)
		if off := q.Age - decide.MaxAge; off.Abs() <= rounding { // the log has whole milliseconds
			q.Age = decide.MaxAge
			if reason == decide.FeaturesStale {
				q.Age++
			}
		}
	}
	switch {
	case reason == decide.NotSelected && q.Selected: // a PredictWithShadow, which never decides by the model
		r.Taken[reason.String()]++
		q.Selected = false
	case reason == decide.ModelChanged && row.ModelDigest != r.plan.Model.Digest:
		q.Model = row.ModelDigest
	case reason == decide.ModelChanged: // the model was active again when ml-engine answered
		r.Taken[reason.String()]++
		q.Model = ""
	}
	switch {
	case r.complete(row):
		q.OutOfDomain = decide.Outside(row.Features, r.domain)
	case reason == decide.OutOfDomain:
		r.Taken[reason.String()]++
		q.OutOfDomain = true
	case reason == decide.None: // rows decided by the model contain the features it scored
		q.OutOfDomain = r.schema != ""
	}
	return q
}

// complete reports whether the row has all features of the model.
func (r *Replay) complete(row *featurelog.Row) bool {
	return row.Schema.Hash == r.schema && !slices.ContainsFunc(row.Features, math.IsNaN)
}

// rescore compares the model's score in a row with the score of its features, and returns the difference.
func (r *Replay) rescore(row *featurelog.Row) string {
	if r.scorer == nil || !row.ShadowScore.Present || row.ModelDigest != r.plan.Model.Digest || !r.complete(row) {
		return ""
	}
	if got, want := row.ShadowScore.Value, r.scorer.Score(row.Features); math.Float64bits(got) != math.Float64bits(want) {
		return fmt.Sprintf("the model's score is %v, but its features give %v", got, want)
	}
	return ""
}

// rounding bounds the rounding error of times in the log.
const rounding = 2 * time.Millisecond

// advice returns the model's answer. It is absent if the decision did not wait for it, although the row may still contain it.
func advice(row *featurelog.Row, reason decide.Reason) decide.Advice {
	if reason == decide.Deadline || reason == decide.Canceled {
		return decide.Advice{Failure: reason}
	}
	if row.ShadowScore.Present {
		return decide.Advice{Score: row.ShadowScore.Value, Model: row.ModelDigest}
	}
	if failure, ok := decide.ParseReason(row.Outcome); ok && failure >= decide.BreakerOpen && failure <= decide.InvalidScore {
		return decide.Advice{Failure: failure}
	}
	return decide.Advice{Failure: decide.Internal}
}

// bits compares two scores bit for bit, and returns the difference.
func bits(whose string, got, want float64) string {
	if math.Float64bits(got) == math.Float64bits(want) {
		return ""
	}
	return fmt.Sprintf("the decision is %v, but %s score is %v", got, whose, want)
}

func by(d decide.Decision) string {
	if d.ByModel() {
		return byModel
	}
	return "baseline"
}

func because(r decide.Reason) string {
	if r == decide.None {
		return ""
	}
	return " (" + r.String() + ")"
}

// Text writes the counts and the first differences.
func (r *Replay) Text(out io.Writer) error {
	lines := []string{
		fmt.Sprintf("rows      %d with a decision, %d without a gate", r.Rows, r.Others),
		"decisions " + byReason(r.Decisions),
	}
	for _, reason := range decide.Reasons() {
		if n := r.Taken[reason.String()]; n > 0 {
			lines = append(lines, fmt.Sprintf("taken     %s: %d; not in the row; the score is the baseline's", reason, n))
		}
	}
	for _, d := range r.Differences {
		lines = append(lines, fmt.Sprintf("different %s %s: %s", d.Time.UTC().Format(time.RFC3339Nano), clean(d.Request), d.What))
	}
	lines = append(lines, fmt.Sprintf("different %d of %d", r.Different, r.Rows))
	for _, line := range lines {
		if _, err := fmt.Fprintln(out, line); err != nil {
			return err
		}
	}
	return nil
}
