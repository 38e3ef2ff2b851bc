package stats_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/stats"
)

// wealth computes the wealth trial by trial, as a gambler who stakes the share lambda of each part on the next trial.
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

// Ville's inequality: checked after each of 5,000 trials, the wealth reaches 100 in at most 1 % of runs.
func TestEValueIsValidAtAnyTime(t *testing.T) {
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
	for _, n := range []uint64{400, 1_000_000_000} { // would overflow a float64, and JSON has no infinity
		if got := stats.EValue(n, n, 0.02); got != math.MaxFloat64 {
			t.Errorf("all of %d: got %v, want %v", n, got, math.MaxFloat64)
		}
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

// The bound is where the wealth, computed trial by trial, is 1/alpha. It grows with failures, and the bound of
// successes mirrors it.
func TestAnytimeLower(t *testing.T) {
	const alpha = 0.01
	outcomes := make([]bool, 200)
	for k := range 60 {
		got := stats.AnytimeLower(uint64(k), 200, alpha)
		if before := stats.AnytimeLower(uint64(max(0, k-1)), 200, alpha); got < before || got > float64(k)/200 {
			t.Errorf("%d of 200: got %v after %v", k, got, before)
		}
		if k > 5 {
			if w := wealth(outcomes, got); math.Abs(w*alpha-1) > 1e-6 {
				t.Errorf("%d of 200: the wealth at the bound %v is %v, want %v", k, got, w, 1/alpha)
			}
		}
		outcomes[k] = true
	}
	for _, v := range []struct {
		name  string
		k, n  uint64
		alpha float64
		want  float64
	}{
		{"nothing", 0, 0, alpha, 0},
		{"no failures", 0, 1000, alpha, 0},
		{"impossible", 2, 1, alpha, math.NaN()},
		{"no level", 1, 2, 0, math.NaN()},
		{"level of 1", 1, 2, 1, math.NaN()},
	} {
		if got := stats.AnytimeLower(v.k, v.n, v.alpha); got != v.want && !(math.IsNaN(got) && math.IsNaN(v.want)) {
			t.Errorf("%s: got %v, want %v", v.name, got, v.want)
		}
	}
}

// Checked after each of 2,000 trials, the interval of both bounds misses the true rate in at most 2 % of runs.
func TestAnytimeBoundsAreValidAtAnyTime(t *testing.T) {
	const runs, p, alpha = 1000, 0.2, 0.01
	lost := 0
	for seed := range uint64(runs) {
		rng := rand.New(rand.NewPCG(seed, 2))
		k := uint64(0)
		for n := uint64(1); n <= 2000; n++ {
			if rng.Float64() < p {
				k++
			}
			// The bound is above p if the wealth at p has reached 1/alpha: this is what AnytimeLower inverts.
			if stats.EValue(k, n, p) >= 1/alpha || stats.EValue(n-k, n, 1-p) >= 1/alpha {
				if low, high := stats.AnytimeLower(k, n, alpha), 1-stats.AnytimeLower(n-k, n, alpha); low < p && p < high {
					t.Fatalf("%d of %d: the interval [%v,%v] holds %v, which is rejected", k, n, low, high, p)
				}
				lost++
				break
			}
		}
	}
	if lost > 34 || lost == 0 { // 99.9 % of binomial(1000, 0.02) is at most 34
		t.Errorf("lost in %d of %d runs, want some, and at most 2 %%", lost, runs)
	}
}

// The p-values of Benjamini and Hochberg (1995), table 1 of their example, with the result of R's p.adjust(p, "BH").
func TestBenjaminiHochberg(t *testing.T) {
	p := []float64{.0001, .0004, .0019, .0095, .0201, .0278, .0298, .0344, .0459, .3240, .4262, .5719, .6528, .7590, 1}
	want := []float64{.0015, .003, .0095, .035625, .0603, .06385714, .06385714, .0645, .0765, .486, .58118182, .714875, .75323077, .81321429, 1}
	got := stats.BenjaminiHochberg(p)
	for i := range want {
		if math.Abs(got[i]-want[i]) > 1e-8 {
			t.Errorf("%d: got %v, want %v", i, got[i], want[i])
		}
	}
	// The order of the family does not matter, and the paper's rule (the largest i with p(i) <= 0.05 i/m) finds four.
	rng := rand.New(rand.NewPCG(1, 0))
	order := rng.Perm(len(p))
	shuffled := make([]float64, len(p))
	for i, from := range order {
		shuffled[i] = p[from]
	}
	called := 0
	for i, q := range stats.BenjaminiHochberg(shuffled) {
		if q != got[order[i]] {
			t.Errorf("shuffled %d: got %v, want %v", i, q, got[order[i]])
		}
		if q <= 0.05 {
			called++
		}
	}
	if called != 4 {
		t.Errorf("got %d at 5 %%, want the paper's 4", called)
	}
	if got := stats.BenjaminiHochberg(nil); len(got) != 0 {
		t.Errorf("no family: got %v", got)
	}
	if got := stats.BenjaminiHochberg([]float64{.04, .04}); !slices.Equal(got, []float64{.04, .04}) {
		t.Errorf("ties: got %v", got)
	}
}
