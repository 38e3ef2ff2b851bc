package shadow

import (
	"fmt"
	"math"
	"testing"
)

const ids = 20_000

func sampled(t *testing.T, salt string, percent float64) map[string]bool {
	t.Helper()
	s, err := NewSampler(salt, percent)
	if err != nil {
		t.Fatal(err)
	}
	in := map[string]bool{}
	for i := range ids {
		if id := fmt.Sprintf("request-%d", i); s.Sampled(id) {
			in[id] = true
		}
	}
	return in
}

func TestSamplerShareIsThePercentage(t *testing.T) {
	for _, percent := range []float64{0, 0.1, 1, 5, 10, 25, 50, 99, 99.9, 100} {
		p := percent / 100
		// Five standard deviations of a binomial: 0 and 100 have none, so those are exact.
		want, bound := p*ids, 5*math.Sqrt(p*(1-p)*ids)
		if got := float64(len(sampled(t, "salt", percent))); math.Abs(got-want) > bound {
			t.Errorf("%v %%: got %v of %d, want %v +- %.0f", percent, got, ids, want, bound)
		}
	}
}

func TestSamplerIsNested(t *testing.T) {
	phases := []float64{1, 5, 10, 25, 50, 100}
	smaller := sampled(t, "salt", phases[0])
	for _, percent := range phases[1:] {
		larger := sampled(t, "salt", percent)
		for id := range smaller {
			if !larger[id] {
				t.Fatalf("%s is in a smaller sample but not in the %v %% sample", id, percent)
			}
		}
		smaller = larger
	}
}

func TestSamplerIsTheSameOnEveryReplica(t *testing.T) {
	first, second := sampled(t, "salt", 10), sampled(t, "salt", 10)
	if len(first) == 0 || len(first) != len(second) {
		t.Fatalf("got %d and %d ids", len(first), len(second))
	}
	for id := range first {
		if !second[id] {
			t.Fatalf("%s is sampled on one replica only", id)
		}
	}
	// Pinned, so that replicas of two releases agree as well.
	s, err := NewSampler("greenlight", 10)
	if err != nil {
		t.Fatal(err)
	}
	got := ""
	for i := range 40 {
		if s.Sampled(fmt.Sprintf("request-%d", i)) {
			got += fmt.Sprintf("%d ", i)
		}
	}
	if want := "12 16 39 "; got != want {
		t.Errorf("sampled of 40: got %q, want %q", got, want)
	}
}

func TestSamplerSaltsAreIndependent(t *testing.T) {
	first, second := sampled(t, "a", 10), sampled(t, "b", 10)
	both := 0.0
	for id := range first {
		if second[id] {
			both++
		}
	}
	// Independent samples of 10 % share 1 %.
	if want, bound := 0.01*ids, 5*math.Sqrt(0.01*0.99*ids); math.Abs(both-want) > bound {
		t.Errorf("in both samples: got %v, want %v +- %.0f", both, want, bound)
	}
}

func TestNewSamplerRefuses(t *testing.T) {
	for _, percent := range []float64{-0.1, 100.1, math.NaN(), math.Inf(1), math.Inf(-1)} {
		if _, err := NewSampler("salt", percent); err == nil {
			t.Errorf("%v: got no error", percent)
		}
	}
}
