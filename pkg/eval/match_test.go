package eval_test

import (
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/eval"
)

func TestMatchRate(t *testing.T) {
	tests := []struct {
		name string
		a, b []float64
		want float64
	}{
		{"the same", []float64{.1, .9}, []float64{.1, .9}, 1},
		{"either way", []float64{.5, .5, .5, .5}, []float64{.53, .47, .56, .44}, .5},
		{"on the edge", []float64{0}, []float64{.05}, 1},
		{"nothing", nil, nil, nan},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := eval.MatchRate(tt.a, tt.b, .05); !same(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}
