package gatekeeper

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/greenlight-ml/greenlight/pkg/featurelog"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
)

// row returns a row of the request "r", decided by the model, with changes applied.
func row(change func(*featurelog.Row)) featurelog.Row {
	at := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	r := featurelog.Row{
		RequestID: "r", Symbol: "A", ArrivalTime: at, EventTime: at.Add(-time.Minute), Schema: &featurelog.Schema{Hash: "h", Features: []string{"x"}},
		Features: []float64{0.5}, BaselineScore: 0.5, ShadowScore: featurelog.Some(0.52), Outcome: "match", ModelDigest: testModel.Digest,
		Decision: featurelog.Decision{By: "model", Score: featurelog.Some(0.52), Revision: 3},
	}
	if change != nil {
		change(&r)
	}
	return r
}

// baseline turns a row into one decided by the baseline, for a reason.
func baseline(reason string, change func(*featurelog.Row)) featurelog.Row {
	r := row(change)
	r.Decision.By, r.Decision.Reason, r.Decision.Score = "baseline", reason, featurelog.Some(r.BaselineScore)
	return r
}

func failed(outcome string) func(*featurelog.Row) {
	return func(r *featurelog.Row) {
		r.ShadowScore, r.Outcome, r.ModelDigest = featurelog.Optional{}, outcome, ""
	}
}

// replayOf replays one row under a gate for all requests of symbol A, with D 0.05 and scores from 0.1 to 0.9. The training
// range of the model's feature x is 0 to 1.
func replayOf(t *testing.T, r featurelog.Row) *Replay {
	t.Helper()
	p := *testPlan().Plan
	p.Percent, p.ObservePercent, p.AllSymbols, p.Symbols, p.MinScore, p.MaxScore = 100, 100, false, []string{"A"}, 0.1, 0.9
	replay, err := NewReplay(&p, "salt", nil)
	if err != nil {
		t.Fatal(err)
	}
	replay.schema, replay.domain = "h", append(replay.domain, struct{ Low, High float64 }{0, 1})
	if err := replay.Read(one(r, nil), nil); err != nil {
		t.Fatal(err)
	}
	return replay
}

func one(r featurelog.Row, err error) iter.Seq2[featurelog.Row, error] {
	return func(yield func(featurelog.Row, error) bool) { yield(r, err) }
}

// Rows of every reason match the checks. The reasons come from the contract, not from package decide.
func TestReplayHolds(t *testing.T) {
	t.Parallel()
	far := func(r *featurelog.Row) { r.ShadowScore = featurelog.Some(0.56) }
	for name, r := range map[string]featurelog.Row{
		"model": row(nil),
		"model, just within D": row(func(r *featurelog.Row) {
			r.BaselineScore, r.ShadowScore.Value, r.Decision.Score.Value = 0.5, 0.549, 0.549
		}),
		"off":                   baseline("off", nil),
		"lease_lapsed":          baseline("lease_lapsed", nil),
		"killed":                baseline("killed", far),
		"quality_alarm":         baseline("quality_alarm", nil),
		"drift_alarm":           baseline("drift_alarm", nil),
		"budget_spent":          baseline("budget_spent", nil),
		"not_selected":          baseline("not_selected", func(r *featurelog.Row) { r.Symbol = "B" }),
		"PredictWithShadow":     baseline("not_selected", nil),
		"model_changed":         baseline("model_changed", func(r *featurelog.Row) { r.ModelDigest = strings.Repeat("e", 64) }),
		"model_changed, back":   baseline("model_changed", nil),
		"features_stale":        baseline("features_stale", func(r *featurelog.Row) { r.EventTime = r.ArrivalTime.Add(-3 * time.Minute) }),
		"out_of_domain":         baseline("out_of_domain", func(r *featurelog.Row) { r.Features[0] = 1.5 }),
		"an impossible time":    baseline("features_stale", func(r *featurelog.Row) { r.EventTime = time.Time{} }),
		"other schema":          baseline("out_of_domain", func(r *featurelog.Row) { r.Schema.Hash = "i" }),
		"breaker_open":          baseline("breaker_open", failed("breaker_open")),
		"shed":                  baseline("shed", failed("shed")),
		"unavailable":           baseline("unavailable", failed("unavailable")),
		"deadline":              baseline("deadline", failed("deadline")),
		"deadline, came later":  baseline("deadline", nil),
		"deadline, failed then": baseline("deadline", failed("unavailable")),
		"rejected":              baseline("rejected", failed("rejected")),
		"internal":              baseline("internal", failed("internal")),
		"canceled":              baseline("canceled", failed("canceled")),
		"invalid_score":         baseline("invalid_score", failed("invalid_score")),
		"out of the range":      baseline("invalid_score", func(r *featurelog.Row) { r.ShadowScore, r.BaselineScore = featurelog.Some(0.95), 0.93 }),
		"disagreement":          baseline("disagreement", far),
	} {
		replay := replayOf(t, r)
		if replay.Different != 0 || replay.Rows != 1 {
			t.Errorf("%s: %+v", name, replay.Differences)
		}
	}
}

// A changed row is detected, and named.
func TestReplayFindsADifference(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]featurelog.Row{
		"model, another score":    row(func(r *featurelog.Row) { r.Decision.Score.Value = math.Nextafter(0.52, 1) }),
		"model, no score":         row(func(r *featurelog.Row) { r.Decision.Score = featurelog.Optional{} }),
		"model without an answer": row(failed("deadline")),
		"model beyond D":          row(func(r *featurelog.Row) { r.BaselineScore = 0.46 }),
		"model beyond the range": row(func(r *featurelog.Row) {
			r.BaselineScore, r.ShadowScore.Value, r.Decision.Score.Value = 0.05, 0.05, 0.05
		}),
		"model, another model":      row(func(r *featurelog.Row) { r.ModelDigest = strings.Repeat("e", 64) }),
		"model, another symbol":     row(func(r *featurelog.Row) { r.Symbol = "B" }),
		"model, stale":              row(func(r *featurelog.Row) { r.EventTime = r.ArrivalTime.Add(-121 * time.Second) }),
		"model, out of domain":      row(func(r *featurelog.Row) { r.Features[0] = -0.5 }),
		"model, no features":        row(func(r *featurelog.Row) { r.Features[0] = math.NaN() }),
		"model, other schema":       row(func(r *featurelog.Row) { r.Schema.Hash = "i" }),
		"baseline, another score":   baselineScored(baseline("killed", nil), 0.52),
		"baseline for no reason":    baseline("disagreement", nil),
		"baseline, not stale":       baseline("features_stale", nil),
		"baseline, in domain":       baseline("out_of_domain", nil),
		"baseline, other outcome":   baseline("shed", failed("unavailable")),
		"deadline, but stale":       baseline("deadline", func(r *featurelog.Row) { r.EventTime = r.ArrivalTime.Add(-time.Hour) }),
		"deadline, not selected":    baseline("deadline", func(r *featurelog.Row) { r.Symbol = "B" }),
		"a decider that is not":     row(func(r *featurelog.Row) { r.Decision.By = "nobody" }),
		"a reason that is not":      baseline("whim", nil),
		"model with a reason":       row(func(r *featurelog.Row) { r.Decision.Reason = "killed" }),
		"baseline without a reason": baseline("", nil),
	} {
		replay := replayOf(t, r)
		if replay.Different != 1 || replay.Differences[0].Request != "r" {
			t.Errorf("%s: %d differences", name, replay.Different)
			continue
		}
		var out bytes.Buffer
		if err := replay.Text(&out); err != nil || !strings.Contains(out.String(), "2026-11-30T12:00:00Z r: ") || !strings.Contains(out.String(), "different 1 of 1") {
			t.Errorf("%s: %v, %s", name, err, out.String())
		}
	}
}

// With the model, its score is recomputed from the features. For a late answer that is in the row, the log is trusted.
func TestReplayScoresAgain(t *testing.T) {
	t.Parallel()
	a := enginetest.Artifact(t, "v1.8.1", "any")
	g := a.Golden.Vectors[0]
	for i, x := range g.X {
		if r := a.Ranges()[i]; x < r.Low || x > r.High {
			t.Fatalf("feature %d of the vector is out of domain", i)
		}
	}
	p := *testPlan().Plan
	p.Model.Digest, p.Percent, p.ObservePercent, p.AllSymbols, p.Symbols = a.Digest(), 100, 100, true, nil
	of := func(change func(*featurelog.Row)) featurelog.Row {
		return row(func(r *featurelog.Row) {
			r.Schema, r.Features, r.ModelDigest = &featurelog.Schema{Hash: a.Schema.Hash()}, slices.Clone(g.X), a.Digest()
			r.BaselineScore, r.ShadowScore.Value, r.Decision.Score.Value = g.Score, g.Score, g.Score
			change(r)
		})
	}
	late := of(func(r *featurelog.Row) { r.Decision.By, r.Decision.Reason = "baseline", "deadline" })
	other := late
	other.ShadowScore.Value = math.Nextafter(g.Score, 0)
	for name, tt := range map[string]struct {
		row              featurelog.Row
		different, taken int
	}{
		"as it was":      {of(func(*featurelog.Row) {}), 0, 0},
		"too late":       {late, 0, 1},
		"another score":  {other, 1, 0},
		"both scores":    {of(func(r *featurelog.Row) { r.ShadowScore.Value, r.Decision.Score.Value = 0.5, 0.5 }), 1, 0},
		"a feature":      {of(func(r *featurelog.Row) { r.Features[1] /= 2 }), 1, 0},
		"no feature":     {of(func(r *featurelog.Row) { r.Features[1] = math.NaN() }), 1, 0},
		"another schema": {of(func(r *featurelog.Row) { r.Schema = &featurelog.Schema{Hash: "h"} }), 1, 0},
	} {
		replay, err := NewReplay(&p, "salt", a)
		if err != nil {
			t.Fatal(err)
		}
		if err := replay.Read(one(tt.row, nil), nil); err != nil || replay.Different != tt.different || replay.Taken["deadline"] != uint64(tt.taken) {
			t.Errorf("%s: %v, %+v, taken %v", name, err, replay.Differences, replay.Taken)
		}
	}
}

func baselineScored(r featurelog.Row, score float64) featurelog.Row {
	r.Decision.Score = featurelog.Some(score)
	return r
}

// Selection follows the hash: of many ids, the model may decide about the given percentage, and no others.
func TestReplaySelection(t *testing.T) {
	t.Parallel()
	p := *testPlan().Plan
	p.Percent = 20
	replay, err := NewReplay(&p, "greenlight", nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2000 {
		if err := replay.Read(one(row(func(r *featurelog.Row) { r.RequestID = fmt.Sprint(i) }), nil), nil); err != nil {
			t.Fatal(err)
		}
	}
	if off := replay.Different - 1600; off < -100 || off > 100 {
		t.Errorf("%d of 2000 rows differ, want about 1600", replay.Different)
	}
	broken := errors.New("broken")
	if err := replay.Read(one(featurelog.Row{}, broken), nil); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if err := replay.Read(one(featurelog.Row{}, nil), nil); err != nil || replay.Others != 1 {
		t.Errorf("a row without a gate: %v, %d", err, replay.Others)
	}
}
