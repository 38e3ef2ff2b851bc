package feature

import (
	"math"
	"testing"
)

func TestCorwinSchultz(t *testing.T) {
	tests := []struct {
		name                     string
		high1, low1, high2, low2 float64
		want                     float64
	}{
		{"no range", 100, 100, 100, 100, 0},
		{"a trend has no spread", 101, 100, 102, 101, 0},
		// Without volatility both bars range from bid to ask: the estimate is the spread of mid exactly.
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
