package feature

import (
	"math"
	"testing"
)

func TestWilder(t *testing.T) {
	repeat := func(n int, changes ...float64) []float64 {
		var all []float64
		for range n {
			all = append(all, changes...)
		}
		return all
	}
	tests := []struct {
		name    string
		changes []float64
		want    float64
	}{
		{"nothing yet", nil, math.NaN()},
		{"thirteen changes are too few", repeat(13, 1), math.NaN()},
		{"no change at all", repeat(14, 0), 50},
		{"gains alone", repeat(14, 1), 100},
		{"losses alone", repeat(14, -1), 0},
		{"as much up as down", repeat(7, 2, -2), 50},
		{"three up, one down", repeat(7, 3, -1), 75},
		{"the fifteenth is smoothed", append(repeat(7, 1, -1), 1), 100 * (13*0.5 + 1) / (13*0.5 + 1 + 13*0.5)},
		{"an unknown change is no change of the averages", append(repeat(7, 3, -1), math.NaN()), 75},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var w wilder
			for _, c := range tt.changes {
				w.push(c)
			}
			if got := w.value(); !same(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}
