package calibrate

import (
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
)

// The noise of a minute comes from the 15 minutes after it: standard normal, with the correlation (15 - k)/15 over k minutes.
func TestNoise(t *testing.T) {
	x := noise(rand.New(rand.NewPCG(1, 1)), 400_000)
	for _, k := range []int{0, 1, 7, 14, 15, 40} {
		sum := 0.0
		for i := range len(x) - k {
			sum += x[i] * x[i+k]
		}
		got, want := sum/float64(len(x)-k), max(0, float64(15-k)/15)
		if math.Abs(got-want) > 0.02 {
			t.Errorf("correlation over %d minutes: %v, want %v", k, got, want)
		}
	}
}

// A few short runs: the null makes no claim, the better model has its gain, the sabotage is detected, and the seed determines
// the result.
func TestQualities(t *testing.T) {
	o := QualityOptions{Options: quiet(4), Days: 12}
	first, err := Qualities(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Qualities(t.Context(), o)
	if err != nil || !reflect.DeepEqual(first, again) {
		t.Errorf("again: got %+v, %v, want %+v", again, err, first)
	}
	o.Seed = 2
	if other, err := Qualities(t.Context(), o); err != nil || reflect.DeepEqual(first, other) {
		t.Errorf("another seed gives the same, %v", err)
	}
	kinds := map[Kind]int{}
	for _, q := range first {
		kinds[q.Kind]++
		switch {
		case q.Kind == Equal && (q.Either > 1 || math.Abs(q.MeanDifference) > 0.01 || q.Symbols == 1 && q.EProcess < 2):
			t.Errorf("equal scorers: %+v", q)
		case q.Kind == ModelBetter && (q.Better < 4 || q.Wrong > 0 || q.MedianDays == nil || *q.MedianDays > q.MostDays):
			t.Errorf("a better model: %+v", q)
		case q.Kind == ModelWorse && (q.Failed != 4 || q.Wrong > 0 || math.Abs(q.MeanDifference+0.0024+0.098*0.4032) > 0.004):
			t.Errorf("sabotage: %+v", q) // 2 x 0.049 E|y - q|, with E|y - q| = 2 x 0.28 x 0.72
		}
	}
	if want := (map[Kind]int{Equal: 6, EqualOnAverage: 1, ModelBetter: 2, ModelWorse: 1}); !reflect.DeepEqual(kinds, want) {
		t.Errorf("got %v, want %v", kinds, want)
	}
}
