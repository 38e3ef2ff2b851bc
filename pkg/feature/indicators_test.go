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
		{"an unknown change leaves the averages alone", append(repeat(7, 3, -1), math.NaN()), 75},
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

func TestCorwinSchultz(t *testing.T) {
	tests := []struct {
		name                     string
		high1, low1, high2, low2 float64
		want                     float64
	}{
		{"no range", 100, 100, 100, 100, 0},
		{"a trend has no spread", 101, 100, 102, 101, 0},
		// Without volatility both bars range from bid to ask, so the estimate is exactly the spread of mid.
		{"bouncing between bid 99.95 and ask 100.05", 100.05, 99.95, 100.05, 99.95, 10},
		{"bouncing wide", 110, 90, 110, 90, 2000},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := CorwinSchultz(tt.high1, tt.low1, tt.high2, tt.low2)
			if math.Abs(got-tt.want) > 1e-9*max(1, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
			if swapped := CorwinSchultz(tt.high2, tt.low2, tt.high1, tt.low1); swapped != got {
				t.Errorf("bars swapped: got %v, want %v", swapped, got)
			}
		})
	}
}
