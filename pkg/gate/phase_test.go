package gate_test

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/gate"
)

func TestJudgePhase(t *testing.T) {
	nan := math.NaN()
	tests := []struct {
		name    string
		c       gate.PhaseCounts
		want    gate.Verdict
		mention string // in a reason
		abort   string // in a reason to abort
	}{
		{"healthy", gate.PhaseCounts{Matches: 990, Mismatches: 10, Errors: 1, P95MS: 2}, gate.Pass, "", ""},
		{"nothing", gate.PhaseCounts{P95MS: nan}, gate.Inconclusive, "0 samples, 500 needed", ""},
		{"too few", gate.PhaseCounts{Matches: 499, P95MS: 2}, gate.Inconclusive, "499 samples", ""},
		{"no answer, few errors", gate.PhaseCounts{Errors: 1, P95MS: 60}, gate.Inconclusive, "1 sample, 500 needed", ""},
		{"all errors", gate.PhaseCounts{Errors: 10, P95MS: 60}, gate.Inconclusive, "10 samples", "errors: e-value"},
		{"slow", gate.PhaseCounts{Matches: 1000, P95MS: 90}, gate.Fail, "90.0 ms is not < 80 ms", ""},
		{"at the limit", gate.PhaseCounts{Matches: 1000, P95MS: 80}, gate.Fail, "is not < 80", ""},
		{"very slow", gate.PhaseCounts{Matches: 1000, P95MS: 130}, gate.Fail, "", "p95 of 130.0 ms is above 120 ms"},
		{"very slow, few", gate.PhaseCounts{Matches: 400, P95MS: 130}, gate.Inconclusive, "", ""},
		{"errors", gate.PhaseCounts{Matches: 1000, Errors: 15, P95MS: 2}, gate.Fail, "is not < 1 %", ""},
		{"many errors", gate.PhaseCounts{Matches: 970, Errors: 30, P95MS: 2}, gate.Fail, "", "error rate of 3.0 % is above 2 % (30 of 1000"},
		{"mismatches", gate.PhaseCounts{Matches: 94_000, Mismatches: 6000, P95MS: 2}, gate.Fail, "is not >= 95 %", ""}, // not enough to abort
		{"many mismatches", gate.PhaseCounts{Matches: 890, Mismatches: 110, P95MS: 2}, gate.Fail, "", "match rate of 89.0 % is below 90 %"},
		{"wrong from the start", gate.PhaseCounts{Matches: 10, Mismatches: 10, P95MS: 2}, gate.Inconclusive, "", "mismatches: e-value"},
		{"no number", gate.PhaseCounts{Matches: 1000, P95MS: nan}, gate.Error, "value is NaN", ""},
		{"just above the limits", gate.PhaseCounts{Matches: 97_990, Errors: 2001, P95MS: 120.001}, gate.Fail, "", "p95 of 120.001 ms is above 120 ms"},
		{"no latency", gate.PhaseCounts{Matches: 1000, P95Missing: "no such series"}, gate.Error, "missing: no such series", ""},
		{"no latency, many errors", gate.PhaseCounts{Matches: 900, Errors: 100, P95MS: 500, P95Missing: "no such series"}, gate.Fail, "", "error rate of 10.0 %"},
		{"endless", gate.PhaseCounts{Matches: 1000, P95MS: math.Inf(1)}, gate.Error, "value is +Inf", ""},
		{"a tenth behind the breaker", gate.PhaseCounts{Matches: 900, Unseen: 100, P95MS: 2}, gate.Fail, "90.0 % is not >= 95 %", ""},
		{"at the limit of coverage", gate.PhaseCounts{Matches: 950, Unseen: 50, P95MS: 2}, gate.Pass, "", ""},
		{"a third unseen", gate.PhaseCounts{Matches: 1000, Unseen: 500, P95MS: 2}, gate.Fail, "", "coverage of 66.7 % is below 80 % (1000 comparisons of 1500"},
		{"all unseen", gate.PhaseCounts{Unseen: 500, P95MS: nan}, gate.Fail, "", "coverage of 0.0 % is below 80 %"},
		{"all unseen, few", gate.PhaseCounts{Unseen: 499, P95MS: nan}, gate.Inconclusive, "499 samples, 500 needed", ""},
		{"no source", gate.PhaseCounts{Matches: 1000, Errors: 900, Missing: "frozen"}, gate.Error, "missing: frozen", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := gate.DefaultPolicy()
			card := p.JudgePhase(tt.c)
			var reasons []string
			for _, r := range card.Results {
				reasons = append(reasons, r.Reason)
			}
			if card.Verdict() != tt.want || !strings.Contains(strings.Join(reasons, "; "), tt.mention) {
				t.Errorf("got %s: %q, want %s with %q", card.Verdict(), reasons, tt.want, tt.mention)
			}
			aborts := strings.Join(p.Aborts(tt.c), "; ")
			if !strings.Contains(aborts, tt.abort) || (aborts == "") != (tt.abort == "") {
				t.Errorf("aborts: got %q, want %q", aborts, tt.abort)
			}
			// Counts kept as evidence can be judged again with the same result.
			raw, err := json.Marshal(tt.c)
			if err != nil {
				t.Fatal(err)
			}
			var again gate.PhaseCounts
			if err := json.Unmarshal(raw, &again); err != nil {
				t.Fatalf("%s: %v", raw, err)
			}
			if got := p.JudgePhase(again); got.Verdict() != tt.want || strings.Join(p.Aborts(again), "; ") != aborts {
				t.Errorf("from %s: got %s, %q", raw, got.Verdict(), p.Aborts(again))
			}
			for _, v := range []any{card, p.Test(tt.c)} {
				if _, err := json.Marshal(v); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// A policy from before coverage was judged has no rule for it, and judges old evidence as before.
func TestOldPolicyHasNoCoverage(t *testing.T) {
	p := gate.DefaultPolicy()
	p.SLO.Coverage, p.Abort.Coverage = 0, 0
	c := gate.PhaseCounts{Matches: 1000, Unseen: 9000, P95MS: 2}
	if card := p.JudgePhase(c); p.Validate() != nil || len(card.Results) != 3 || !card.Verdict().OK() || len(p.Aborts(c)) > 0 {
		t.Errorf("got %s of %d rules, aborts %v, %v", card.Verdict(), len(card.Results), p.Aborts(c), p.Validate())
	}
	if laxer := p.Laxer(gate.DefaultPolicy()); len(laxer) > 0 {
		t.Errorf("laxer: %v", laxer)
	}
}

// For any counts, a phase without enough comparisons never passes, and a phase that aborts never passes by its
// thresholds.
func TestNoDataIsNeverAPass(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 0))
	p := gate.DefaultPolicy()
	for range 20_000 {
		c := gate.PhaseCounts{
			Matches: rng.Uint64N(1500) * rng.Uint64N(2), Mismatches: rng.Uint64N(100) * rng.Uint64N(2), Errors: rng.Uint64N(40) * rng.Uint64N(2),
			P95MS: 200 * rng.Float64(),
		}
		if p.JudgePhase(c).Verdict() == gate.Pass && (c.Comparisons() < 500 || c.P95MS >= 80 || len(p.Aborts(c)) > 0) {
			t.Fatalf("%+v passes; aborts: %v", c, p.Aborts(c))
		}
	}
}

func TestPhaseCountsJSON(t *testing.T) {
	c := gate.PhaseCounts{Matches: 3, Mismatches: 2, Errors: 1, P95MS: 4.5, P95Missing: "stale"}
	raw, err := json.Marshal(c)
	if want := `{"matches":3,"mismatches":2,"errors":1,"p95_missing":"stale","p95_ms":4.5}`; err != nil || string(raw) != want {
		t.Errorf("got %s, %v, want %s", raw, err, want)
	}
	var back gate.PhaseCounts
	if err := json.Unmarshal(raw, &back); err != nil || !reflect.DeepEqual(back, c) {
		t.Errorf("got %+v, %v, want %+v", back, err, c)
	}
	if err := json.Unmarshal([]byte(`{"matches":1}`), &back); err != nil || !math.IsNaN(back.P95MS) || back.Matches != 1 {
		t.Errorf("without a latency: got %+v, %v, want NaN", back, err)
	}
	if err := json.Unmarshal([]byte(`{"matches":-1}`), &back); err == nil {
		t.Error("a negative count was read")
	}
}

// For a dead model the e-value overflows a float64, which must not keep it out of the evidence.
func TestTestOfADeadModel(t *testing.T) {
	p, c := gate.DefaultPolicy(), gate.PhaseCounts{Errors: 100_000, P95MS: 60}
	if raw, err := json.Marshal(p.Test(c)); err != nil {
		t.Errorf("got %s, %v", raw, err)
	}
	if got := p.AbortsByTest(c); len(got) != 1 || !strings.Contains(got[0], "100000 of 100000 shadows, so at least 99.9") {
		t.Errorf("got %q", got)
	}
}

// The tests use any number of samples, the thresholds only those above the floor. Aborts combines both, and one failure
// fewer never adds an abort.
func TestAbortsAreMonotone(t *testing.T) {
	p := gate.DefaultPolicy()
	for _, kind := range []func(n, k uint64) gate.PhaseCounts{
		func(n, k uint64) gate.PhaseCounts { return gate.PhaseCounts{Matches: n - k, Mismatches: k, P95MS: 1} },
		func(n, k uint64) gate.PhaseCounts { return gate.PhaseCounts{Matches: n - k, Errors: k, P95MS: 1} },
	} {
		for _, n := range []uint64{1, 20, 499, 500, 501, 5000} {
			var before gate.PhaseCounts
			for k := range min(n, 700) + 1 {
				c := kind(n, k)
				if n < 500 && len(p.AbortsByThreshold(c)) > 0 {
					t.Fatalf("%+v crosses a threshold below the floor: %v", c, p.AbortsByThreshold(c))
				}
				if k > 0 && (len(p.AbortsByTest(before)) > len(p.AbortsByTest(c)) || len(p.AbortsByThreshold(before)) > len(p.AbortsByThreshold(c))) {
					t.Fatalf("%+v aborts, %+v does not", before, c)
				}
				if got, want := len(p.Aborts(c)), len(p.AbortsByThreshold(c))+len(p.AbortsByTest(c)); got != want {
					t.Fatalf("%+v: %d aborts, want %d", c, got, want)
				}
				before = c
			}
			if len(p.AbortsByTest(before)) == 0 && n > 20 {
				t.Errorf("%+v does not abort", before)
			}
		}
	}
}

// Under improvement no number of mismatches fails or aborts a phase, and every other limit still does.
func TestImprovement(t *testing.T) {
	p := gate.DefaultPolicy()
	p.Kind = gate.Improvement
	differs := gate.PhaseCounts{Matches: 200, Mismatches: 800, P95MS: 2}
	if card := p.JudgePhase(differs); !card.Verdict().OK() || len(card.Results) != 3 {
		t.Errorf("a model that differs: got %+v", card)
	}
	if got := p.Aborts(differs); len(got) != 0 {
		t.Errorf("a model that differs is aborted: %v", got)
	}
	for mention, c := range map[string]gate.PhaseCounts{
		"errors: e-value": {Mismatches: 900, Errors: 100, P95MS: 2}, "p95 of": {Mismatches: 1000, P95MS: 130}, "coverage of": {Mismatches: 500, Unseen: 500, P95MS: 2},
	} {
		if got := strings.Join(p.Aborts(c), "; "); !strings.Contains(got, mention) || p.JudgePhase(c).Verdict() != gate.Fail {
			t.Errorf("got %s and %q, want FAIL and an abort for %s", p.JudgePhase(c).Verdict(), got, mention)
		}
	}
	if got := p.JudgePhase(gate.PhaseCounts{Missing: "frozen"}).Verdict(); got != gate.Error {
		t.Errorf("nothing known: got %s", got)
	}
	agreement := gate.DefaultPolicy()
	if agreement.JudgePhase(differs).Verdict() != gate.Fail || len(agreement.Aborts(differs)) == 0 {
		t.Error("the same counts pass under agreement")
	}
}
