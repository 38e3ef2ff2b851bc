package eval_test

import (
	"reflect"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/eval"
)

func TestROC(t *testing.T) {
	got := eval.ROC([]float64{.1, .4, .4, .8}, []bool{no, no, yes, yes})
	want := []eval.Point{{2, 0, 0}, {.8, 0, .5}, {.4, .5, 1}, {.1, 1, 1}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := eval.ROC([]float64{.1, .2}, []bool{no, no}); got != nil {
		t.Errorf("one class: got %v, want nil", got)
	}
}

func TestROCAreaIsAUC(t *testing.T) {
	for seed := range uint64(30) {
		scores, labels := draw(seed, 200, 1+int(seed)*3)
		curve := eval.ROC(scores, labels)
		area := 0.0
		for i := 1; i < len(curve); i++ {
			a, b := curve[i-1], curve[i]
			area += (b.FalsePositiveRate - a.FalsePositiveRate) * (a.TruePositiveRate + b.TruePositiveRate) / 2
		}
		if want := eval.AUC(scores, labels); !same(area, want) {
			t.Errorf("seed %d: area %v, want %v", seed, area, want)
		}
	}
}

func TestThin(t *testing.T) {
	scores, labels := draw(1, 1000, 1<<30)
	curve := eval.ROC(scores, labels)
	thin := eval.Thin(curve, 100)
	if len(thin) != 100 || thin[0] != curve[0] || thin[99] != curve[len(curve)-1] {
		t.Errorf("got %d points from %v to %v", len(thin), thin[0], thin[len(thin)-1])
	}
	if got := eval.Thin(thin, 100); len(got) != 100 {
		t.Errorf("a short curve is left alone: got %d points", len(got))
	}
}
