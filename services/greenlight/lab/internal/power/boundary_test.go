package power

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/gate"
)

// For every count, the boundary agrees with the rules.
func TestBoundariesAreTheRules(t *testing.T) {
	p := gate.DefaultPolicy()
	for kind := range kindEnd {
		b := asked(t, kind, 530) // over the floor of the thresholds
		for _, n := range []int{1, 2, 3, 50, 499, 500, 501, 530} {
			for k := range n + 1 {
				c := kind.counts(p, n, k)
				if got, want := k >= b.test[n], len(p.AbortsByTest(c)) > 0; got != want {
					t.Errorf("tests, %d of %d: got %v, want %v", k, n, got, want)
				}
				if got, want := k >= b.threshold[n], len(p.AbortsByThreshold(c)) > 0; got != want {
					t.Errorf("thresholds, %d of %d: got %v, want %v", k, n, got, want)
				}
			}
		}
	}
}

// A run that evaluates the rules after every shadow ends where one that uses the boundaries does.
func TestRunIsWhatTheRulesSay(t *testing.T) {
	p := gate.DefaultPolicy()
	const shadows = 1500
	for _, truth := range []Truth{{Kind: Mismatch, Rate: 0.1}, {Kind: Failure, Rate: 0.02}, {Kind: Failure, Rate: 0.05}} {
		b := asked(t, truth.Kind, shadows)
		for seed := range uint64(20) {
			e := b.run(truth.Rate, shadows, rand.New(rand.NewPCG(seed, 0)))
			got, want := min(e.test, e.threshold), never
			rng := rand.New(rand.NewPCG(seed, 0))
			failures := 0
			for n := 1; n <= shadows && want == never; n++ {
				if rng.Float64() < truth.Rate {
					failures++
				}
				if len(p.Aborts(truth.Kind.counts(p, n, failures))) > 0 {
					want = n
				}
			}
			if got != want {
				t.Errorf("%s, seed %d: aborted after %d, want %d", truth, seed, got, want)
			}
		}
	}
}

// Tables of the binomial distribution: of 50, P(X >= 5) = 0.1036 and P(X >= 6) = 0.0378 at 5 %, P(X >= 3) = 0.0784 and
// P(X >= 4) = 0.0178 at 2 %; of 100 at 5 %, P(X >= 9) = 0.0631 and P(X >= 10) = 0.0282.
func TestNaiveBoundary(t *testing.T) {
	mismatch, failure := asked(t, Mismatch, 120), asked(t, Failure, 120)
	if mismatch.naive[50] != 6 || failure.naive[50] != 4 || mismatch.naive[100] != 10 {
		t.Errorf("got %d, %d and %d, want 6, 4 and 10", mismatch.naive[50], failure.naive[50], mismatch.naive[100])
	}
	for n, k := range mismatch.naive {
		if looks := n == 50 || n == 100; looks == (k == never) {
			t.Errorf("after %d: got %d, want a look: %v", n, k, looks)
		}
	}
}

func TestBoundariesEndWithTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := newBoundaries(ctx, gate.DefaultPolicy(), Mismatch, 1_000_000); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}
