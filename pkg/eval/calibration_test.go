package eval_test

import (
	"math"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/eval"
)

func TestCalibration(t *testing.T) {
	tests := []struct {
		name                string
		scores              []float64
		labels              []bool
		brier, logLoss, ece float64
	}{
		{"certain and right", []float64{0, 1}, []bool{no, yes}, 0, 1e-15, 0},
		{"certain and wrong", []float64{0, 1}, []bool{yes, no}, 1, -math.Log(1e-15), 1},
		{"undecided", []float64{.5, .5}, []bool{yes, no}, .25, math.Ln2, 0},
		{"by hand", []float64{.1, .3, .35, .8}, []bool{no, yes, no, yes}, (.01 + .49 + .1225 + .04) / 4, -(math.Log(.9) + math.Log(.3) + math.Log(.65) + math.Log(.8)) / 4, (.1 + 2*.175 + .2) / 4},
		{"nothing", nil, nil, nan, nan, nan},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := eval.Brier(tt.scores, tt.labels); !same(got, tt.brier) {
				t.Errorf("brier: got %v, want %v", got, tt.brier)
			}
			// 1 - (1 - 1e-15) equals 1e-15 to only four digits.
			if got := eval.LogLoss(tt.scores, tt.labels); !same(got, tt.logLoss) && math.Abs(got-tt.logLoss) > 0.01*tt.logLoss {
				t.Errorf("log loss: got %v, want %v", got, tt.logLoss)
			}
			if got := eval.ECE(tt.scores, tt.labels); !same(got, tt.ece) {
				t.Errorf("ece: got %v, want %v", got, tt.ece)
			}
		})
	}
}

func TestReliability(t *testing.T) {
	bins := eval.Reliability([]float64{0, .05, .1, .95, 1}, []bool{no, yes, yes, yes, yes})
	if len(bins) != 10 {
		t.Fatalf("got %d bins, want 10", len(bins))
	}
	want := map[int]eval.Bin{
		0: {Low: 0, High: .1, N: 2, MeanScore: .025, Rate: .5},
		1: {Low: .1, High: .2, N: 1, MeanScore: .1, Rate: 1}, // an edge belongs to the bin above it
		9: {Low: .9, High: 1, N: 2, MeanScore: .975, Rate: 1},
	}
	for i, b := range bins {
		w, ok := want[i]
		if !ok {
			w = eval.Bin{Low: float64(i) / 10, High: float64(i+1) / 10}
		}
		if b.N != w.N || !same(b.Low, w.Low) || !same(b.High, w.High) || !same(b.MeanScore, w.MeanScore) || !same(b.Rate, w.Rate) {
			t.Errorf("bin %d: got %+v, want %+v", i, b, w)
		}
	}
}
