package gate_test

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"slices"
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
		{"no answer, few errors", gate.PhaseCounts{Errors: 1, P95MS: 60}, gate.Inconclusive, "1 samples", ""},
		{"all errors", gate.PhaseCounts{Errors: 10, P95MS: 60}, gate.Inconclusive, "10 samples", "errors: e-value"},
		{"slow", gate.PhaseCounts{Matches: 1000, P95MS: 90}, gate.Fail, "90.0 ms is not < 80 ms", ""},
		{"at the limit", gate.PhaseCounts{Matches: 1000, P95MS: 80}, gate.Fail, "is not < 80", ""},
		{"very slow", gate.PhaseCounts{Matches: 1000, P95MS: 130}, gate.Fail, "", "p95 of 130.0 ms is above 120 ms"},
		{"very slow, few", gate.PhaseCounts{Matches: 400, P95MS: 130}, gate.Inconclusive, "", ""},
		{"errors", gate.PhaseCounts{Matches: 1000, Errors: 15, P95MS: 2}, gate.Fail, "is not < 1 %", ""},
		{"many errors", gate.PhaseCounts{Matches: 970, Errors: 30, P95MS: 2}, gate.Fail, "", "error rate of 3.00 % is above 2 %"},
		{"mismatches", gate.PhaseCounts{Matches: 94_000, Mismatches: 6000, P95MS: 2}, gate.Fail, "is not >= 95 %", ""}, // not by so much that it is stopped for
		{"many mismatches", gate.PhaseCounts{Matches: 890, Mismatches: 110, P95MS: 2}, gate.Fail, "", "match rate of 89.00 % is below 90 %"},
		{"wrong from the start", gate.PhaseCounts{Matches: 10, Mismatches: 10, P95MS: 2}, gate.Inconclusive, "", "mismatches: e-value"},
		{"no number", gate.PhaseCounts{Matches: 1000, P95MS: nan}, gate.Error, "value is NaN", ""},
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
			if _, err := json.Marshal(card); err != nil {
				t.Error(err)
			}
		})
	}
}

// Whatever the counts are, a phase that lacks comparisons never passes, and what aborts never passes by its thresholds.
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

// The quantile is within the bucket of the true one, on its side of every edge, and exact for rows that are even within
// buckets.
func TestHistogramQuantile(t *testing.T) {
	edges := []float64{1, 60, 80, 120}
	rng := rand.New(rand.NewPCG(2, 0))
	for range 500 {
		values := make([]float64, 1+rng.IntN(400))
		counts := make([]uint64, len(edges)+1)
		for i := range values {
			values[i] = 130 * rng.Float64() * rng.Float64()
			bucket, _ := slices.BinarySearch(edges, values[i])
			counts[bucket]++
		}
		slices.Sort(values)
		rank := int(math.Ceil(0.95*float64(len(values)))) - 1
		got, want := gate.HistogramQuantile(0.95, edges, counts), values[rank]
		for _, e := range edges {
			if (got > e) != (want > e) && want <= 120 {
				t.Fatalf("got %v, the true one is %v, on the other side of %v", got, want, e)
			}
		}
	}
	if got := gate.HistogramQuantile(0.95, edges, []uint64{0, 0, 100, 0, 0}); got != 79 {
		t.Errorf("even between 60 and 80: got %v, want 79", got)
	}
	if got := gate.HistogramQuantile(0.95, edges, []uint64{0, 0, 0, 0, 7}); got != 120 {
		t.Errorf("above the last edge: got %v, want 120", got)
	}
	if got := gate.HistogramQuantile(0.95, edges, make([]uint64, 5)); !math.IsNaN(got) {
		t.Errorf("nothing: got %v, want NaN", got)
	}
}
