package gate_test

import (
	"math/rand/v2"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/gate"
)

var verdicts = []gate.Verdict{gate.Pass, gate.Inconclusive, gate.Error, gate.Fail}

func TestWorst(t *testing.T) {
	tests := []struct {
		name string
		in   []gate.Verdict
		want gate.Verdict
	}{
		{"nothing at all", nil, gate.Error},
		{"one pass", []gate.Verdict{gate.Pass}, gate.Pass},
		{"passes", []gate.Verdict{gate.Pass, gate.Pass}, gate.Pass},
		{"too few and a pass", []gate.Verdict{gate.Pass, gate.Inconclusive}, gate.Inconclusive},
		{"a missing source and too few", []gate.Verdict{gate.Inconclusive, gate.Error}, gate.Error},
		{"a miss and a missing source", []gate.Verdict{gate.Error, gate.Fail}, gate.Fail},
		{"all four", []gate.Verdict{gate.Pass, gate.Fail, gate.Inconclusive, gate.Error}, gate.Fail},
		{"the zero verdict", []gate.Verdict{""}, gate.Error},
		{"an unknown word", []gate.Verdict{gate.Pass, "pass"}, gate.Error},
		{"an unknown word and a miss", []gate.Verdict{"OK", gate.Fail}, gate.Fail},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := gate.Worst(tt.in...); got != tt.want {
				t.Errorf("Worst(%q) = %s, want %s", tt.in, got, tt.want)
			}
		})
	}
}

// every calls f with all sequences of up to n verdicts.
func every(n int, f func([]gate.Verdict)) {
	var extend func([]gate.Verdict)
	extend = func(set []gate.Verdict) {
		f(set)
		if len(set) == n {
			return
		}
		for _, v := range verdicts {
			extend(append(set[:len(set):len(set)], v))
		}
	}
	extend(nil)
}

func TestWorstProperties(t *testing.T) {
	sets := 0
	random := rand.New(rand.NewPCG(1, 2))
	every(5, func(set []gate.Verdict) {
		sets++
		overall := gate.Worst(set...)
		onlyPasses := len(set) > 0
		for _, v := range set {
			onlyPasses = onlyPasses && v == gate.Pass
		}
		if overall.OK() != onlyPasses {
			t.Errorf("Worst(%q) = %s, but only passes = %v", set, overall, onlyPasses)
		}
		if len(set) == 0 {
			return
		}
		if got := gate.Worst(append([]gate.Verdict{gate.Pass}, set...)...); got != overall {
			t.Errorf("one more pass turned %q from %s to %s", set, overall, got)
		}
		shuffled := append([]gate.Verdict(nil), set...)
		random.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		if got := gate.Worst(shuffled...); got != overall {
			t.Errorf("order matters: %q is %s, %q is %s", set, overall, shuffled, got)
		}
		if len(set) > 1 { // combining in two steps equals combining at once
			if got := gate.Worst(gate.Worst(set[:1]...), gate.Worst(set[1:]...)); got != overall {
				t.Errorf("%q at once is %s, in two steps %s", set, overall, got)
			}
		}
	})
	if want := 1 + 4 + 16 + 64 + 256 + 1024; sets != want {
		t.Errorf("tried %d sets, want %d", sets, want)
	}
}
