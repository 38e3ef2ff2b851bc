package shadow

import (
	"math"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
)

// The textbook example of Cohen's kappa: 50 cases, of which both accept 20 and both refuse 15.
func TestAgreement(t *testing.T) {
	type counts = executorv1.DecisionAgreement
	v := func(x float64) *float64 { return &x }
	for name, tt := range map[string]struct {
		counts           *counts
		agreement, kappa *float64
	}{
		"none":                {&counts{}, nil, nil},
		"example":             {&counts{BothAbove: 20, BaselineAbove: 5, ShadowAbove: 10, BothBelow: 15}, v(0.7), v(0.4)},
		"all agree":           {&counts{BothAbove: 5, BothBelow: 7}, v(1), v(1)},
		"all disagree":        {&counts{BaselineAbove: 6, ShadowAbove: 6}, v(0), v(-1)},
		"chance":              {&counts{BothAbove: 4, BaselineAbove: 4, ShadowAbove: 4, BothBelow: 4}, v(0.5), v(0)},
		"all on one side":     {&counts{BothBelow: 9}, v(1), nil},
		"baseline never acts": {&counts{ShadowAbove: 1, BothBelow: 99}, v(0.99), v(0)},
		"large counts":        {&counts{BothAbove: 1 << 52, BothBelow: 1 << 52}, v(1), v(1)},
	} {
		agreement, kappa := Agreement(tt.counts)
		for what, pair := range map[string][2]*float64{"agreement": {agreement, tt.agreement}, "kappa": {kappa, tt.kappa}} {
			got, want := pair[0], pair[1]
			if (got == nil) != (want == nil) || got != nil && math.Abs(*got-*want) > 1e-12 {
				t.Errorf("%s: %s: got %v, want %v", name, what, got, want)
			}
		}
	}
}

// The outcome, the window and the totals follow the tolerance and threshold in the options.
func TestToleranceAndThreshold(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		const tolerance, threshold = 0.2, 0.5
		tr := newTrial(t, enginetest.Options{}, func(o *Options) { o.MatchTolerance, o.DecisionThreshold, o.Window = tolerance, threshold, time.Minute })
		var want executorv1.DecisionAgreement
		matches := uint64(0)
		for i := range 200 {
			r := tr.request()
			r.Baseline = tr.rng.Float64()
			if i == 0 {
				r.Baseline = threshold // counts as above
			}
			got := tr.Wait(t.Context(), r)
			if near := math.Abs(got.Score-r.Baseline) <= tolerance; near != (got.Outcome == Match) || !got.Outcome.Compared() {
				t.Fatalf("got %v for %v and %v", got.Outcome, r.Baseline, got.Score)
			} else if near {
				matches++
			}
			switch {
			case r.Baseline >= threshold && got.Score >= threshold:
				want.BothAbove++
			case r.Baseline >= threshold:
				want.BaselineAbove++
			case got.Score >= threshold:
				want.ShadowAbove++
			default:
				want.BothBelow++
			}
		}
		r := tr.Report()
		d := r.GetWindow().GetDecisions()
		if r.GetMatchTolerance() != tolerance || r.GetDecisionThreshold() != threshold || counts(r.GetOutcomesTotal())[Match] != matches || matches == 0 || matches == 200 {
			t.Errorf("got %v and %d matches, want %v, %v and %d", r, counts(r.GetOutcomesTotal())[Match], tolerance, threshold, matches)
		}
		if d.GetBothAbove() != want.GetBothAbove() || d.GetBaselineAbove() != want.GetBaselineAbove() || d.GetShadowAbove() != want.GetShadowAbove() || d.GetBothBelow() != want.GetBothBelow() {
			t.Errorf("decisions: got %v, want %v", d, &want)
		}
		within(t, "agreement", d.Agreement, float64(want.GetBothAbove()+want.GetBothBelow())/200, 1e-12)
		time.Sleep(2 * time.Minute)
		if d := tr.Report().GetWindow().GetDecisions(); d == nil || d.GetBothAbove() != 0 || d.Agreement != nil || d.Kappa != nil {
			t.Errorf("after the window: got %v, want no decisions", d)
		}
		if n, err := testutil.GatherAndCount(tr.reg, "ml_shadow_decisions_total"); err != nil || n != 4 {
			t.Errorf("%d series of decisions, %v: want 4", n, err)
		}
	})
}

// Without a threshold there is neither an agreement nor a series.
func TestNoThreshold(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		tr := newTrial(t, enginetest.Options{}, nil)
		tr.Wait(t.Context(), tr.request())
		if r := tr.Report(); r.GetWindow().GetDecisions() != nil || r.GetDecisionThreshold() != 0 || r.GetMatchTolerance() != 0.05 {
			t.Errorf("got %v", r)
		}
		if n, err := testutil.GatherAndCount(tr.reg, "ml_shadow_decisions_total"); err != nil || n != 0 {
			t.Errorf("%d series of decisions, %v: want none", n, err)
		}
	})
}

// A state that cannot be scored is rejected without a call, and does not request a probe.
func TestFaultyState(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		tr := newTrial(t, enginetest.Options{}, nil)
		r := tr.request()
		r.Fault = errProject
		if got := tr.Wait(t.Context(), r); got.Outcome != Rejected || got.Err != errProject { //nolint:errorlint // exactly this error
			t.Errorf("got %v, %v", got.Outcome, got.Err)
		}
		if tr.model.rejects() {
			t.Error("it counts as a rejection by the model")
		}
		if calls := tr.engine.Calls(); len(calls) != 0 {
			t.Errorf("%d calls, want none", len(calls))
		}
	})
}
