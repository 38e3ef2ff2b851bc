package stats_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/stats"
)

// The p-values of Benjamini and Hochberg (1995), table 1 of their example, with what R's p.adjust(p, "BH") makes of them.
func TestBenjaminiHochberg(t *testing.T) {
	p := []float64{.0001, .0004, .0019, .0095, .0201, .0278, .0298, .0344, .0459, .3240, .4262, .5719, .6528, .7590, 1}
	want := []float64{.0015, .003, .0095, .035625, .0603, .06385714, .06385714, .0645, .0765, .486, .58118182, .714875, .75323077, .81321429, 1}
	got := stats.BenjaminiHochberg(p)
	for i := range want {
		if math.Abs(got[i]-want[i]) > 1e-8 {
			t.Errorf("%d: got %v, want %v", i, got[i], want[i])
		}
	}
	// The order of the family does not matter, and the paper's rule, the largest i with p(i) <= 0.05 i/m, finds four.
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
