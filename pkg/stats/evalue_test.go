package stats_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/stats"
)

// The wealth trial by trial, as a gambler has it who stakes the share lambda of each part on the next trial.
func wealth(outcomes []bool, p0 float64) float64 {
	sum := 0.0
	for _, bet := range []float64{0.5, 1, 2, 4} {
		odds := p0 / (1 - p0) * math.Exp(bet)
		p1 := odds / (1 + odds)
		lambda := (p1 - p0) / (p0 * (1 - p0))
		w := 1.0
		for _, failed := range outcomes {
			x := 0.0
			if failed {
				x = 1
			}
			w *= 1 + lambda*(x-p0)
		}
		sum += w
	}
	return sum / 4
}

func TestEValueIsTheWealth(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 0))
	for _, p0 := range []float64{0.02, 0.05, 0.5} {
		var outcomes []bool
		k := uint64(0)
		for n := range uint64(300) {
			if got, want := stats.EValue(k, n, p0), wealth(outcomes, p0); math.Abs(got/want-1) > 1e-9 {
				t.Fatalf("p0 %v, %d of %d: got %v, want %v", p0, k, n, got, want)
			}
			failed := rng.Float64() < 2*p0
			if failed {
				k++
			}
			outcomes = append(outcomes, failed)
		}
	}
}

// By enumeration: at the rate p0 the expected wealth stays 1, below it falls, above it grows.
func TestEValueIsFair(t *testing.T) {
	expected := func(n int, p, p0 float64) float64 {
		sum, weight := 0.0, math.Pow(1-p, float64(n)) // of k = 0
		for k := range n + 1 {
			sum += weight * stats.EValue(uint64(k), uint64(n), p0)
			weight *= float64(n-k) / float64(k+1) * p / (1 - p)
		}
		return sum
	}
	for _, p0 := range []float64{0.02, 0.05, 0.3} {
		for _, n := range []int{1, 7, 40} {
			if got := expected(n, p0, p0); math.Abs(got-1) > 1e-9 {
				t.Errorf("p0 %v, n %d: got %v, want 1", p0, n, got)
			}
			if below, above := expected(n, p0/2, p0), expected(n, 2*p0, p0); !(below < 1 && above > 1) {
				t.Errorf("p0 %v, n %d: below %v, above %v", p0, n, below, above)
			}
		}
	}
}

// Ville: looked at after every one of 5,000 trials, the wealth reaches 100 in at most 1 % of runs.
func TestEValueMayAlwaysBeLookedAt(t *testing.T) {
	const runs = 2000
	reached := 0
	for seed := range uint64(runs) {
		rng := rand.New(rand.NewPCG(seed, 1))
		k := uint64(0)
		for n := uint64(1); n <= 5000; n++ {
			if rng.Float64() < 0.05 {
				k++
			}
			if stats.EValue(k, n, 0.05) >= 100 {
				reached++
				break
			}
		}
	}
	if reached > 34 || reached == 0 { // 99.9 % of binomial(2000, 0.01) is at most 34
		t.Errorf("reached in %d of %d runs, want some, and at most 1 %%", reached, runs)
	}
}

func TestEValueEdges(t *testing.T) {
	if got := stats.EValue(0, 0, 0.05); got != 1 {
		t.Errorf("no trials: got %v, want 1", got)
	}
	before := 0.0
	for k := range uint64(100) {
		if got := stats.EValue(k, 1000, 0.05); !(got > before) {
			t.Errorf("%d of 1000: got %v, not above %v", k, got, before)
		} else {
			before = got
		}
	}
	if got := stats.EValue(1_000_000_000, 1_000_000_000, 0.05); !math.IsInf(got, 1) {
		t.Errorf("all of a billion: got %v", got)
	}
	if got := stats.EValue(0, 1_000_000_000, 0.05); got != 0 {
		t.Errorf("none of a billion: got %v", got)
	}
	for _, v := range []struct {
		k, n uint64
		p0   float64
	}{{2, 1, 0.05}, {0, 1, 0}, {0, 1, 1}, {0, 1, math.NaN()}} {
		if got := stats.EValue(v.k, v.n, v.p0); !math.IsNaN(got) {
			t.Errorf("%+v: got %v, want NaN", v, got)
		}
	}
}
