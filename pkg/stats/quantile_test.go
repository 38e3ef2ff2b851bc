package stats_test

import (
	"math"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/stats"
)

func TestQuantile(t *testing.T) {
	nan := math.NaN()
	tests := []struct {
		name   string
		values []float64
		q      float64
		want   float64
	}{
		{"on a value", []float64{1, 2, 3, 4, 5}, 0.5, 3},
		{"between values", []float64{1, 2, 3, 4}, 0.25, 1.75},
		{"the label's", []float64{0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100}, 0.72, 72},
		{"lowest", []float64{-1, 2}, 0, -1},
		{"highest", []float64{-1, 2}, 1, 2},
		{"below the range", []float64{-1, 2}, -3, -1},
		{"above the range", []float64{-1, 2}, 3, 2},
		{"one value", []float64{7}, 0.3, 7},
		{"equal values", []float64{7, 7, 7}, 0.3, 7},
		{"no values", nil, 0.5, nan},
		{"no quantile", []float64{1}, nan, nan},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := stats.Quantile(tt.values, tt.q); math.IsNaN(got) != math.IsNaN(tt.want) || math.Abs(got-tt.want) > 1e-12 {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}
