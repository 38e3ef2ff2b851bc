package drift

import (
	"math"
	"math/rand/v2"
	"testing"
)

// The closed form and the bootstrap give the same noise, for features whose days are alike and for those whose days
// differ, alone and in the mean.
func TestExpectedIsTheMeanOfTheDraws(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 0))
	const days, perDay = 28, 200
	columns := []Column{{Name: "free"}, {Name: "a little"}, {Name: "more"}, {Name: "much"}}
	var of []int
	for day := range days {
		for j, level := range []float64{0, 0.1, 0.3, 0.6} {
			mean := level * rng.NormFloat64()
			for range perDay {
				columns[j].Values = append(columns[j].Values, mean+rng.NormFloat64())
			}
		}
		for range perDay {
			of = append(of, day)
		}
	}
	p, err := NewProfile(columns, of)
	if err != nil {
		t.Fatal(err)
	}
	for _, present := range []int{7, 14, 28} {
		null, err := NewNull(p, present, 2000, 1)
		if err != nil {
			t.Fatal(err)
		}
		agree := func(what string, n Noise, draws []float64) {
			t.Helper()
			mean := 0.0
			for _, v := range draws {
				mean += v / float64(len(draws))
			}
			// Days drawn with replacement vary by (days - 1)/days of the variance in the closed form, which is the
			// first order of a series.
			if want := n.Expected * (days - 1) / days; math.Abs(mean/want-1) > 0.08 {
				t.Errorf("%s, %d days: mean of the draws %v, want about %v", what, present, mean, want)
			}
		}
		for i, draws := range null.features {
			agree(p.Features[i].Name, null.Features[i], draws)
		}
		agree("overall", null.Overall, null.overall)
	}
}
