package eval_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/eval"
)

const (
	yes = true
	no  = false
)

var nan = math.NaN()

func same(a, b float64) bool {
	if math.IsNaN(a) || math.IsNaN(b) {
		return math.IsNaN(a) && math.IsNaN(b)
	}
	return math.Abs(a-b) <= 1e-12
}

// draw returns n scores with few distinct values, so that ties are common, and labels that depend on them.
func draw(seed uint64, n, distinct int) (scores []float64, labels []bool) {
	rng := rand.New(rand.NewPCG(seed, 0))
	for range n {
		s := float64(rng.IntN(distinct)) / float64(distinct)
		scores = append(scores, s)
		labels = append(labels, rng.Float64() < (s+0.3)/1.6)
	}
	return scores, labels
}

func TestAUC(t *testing.T) {
	tests := []struct {
		name   string
		scores []float64
		labels []bool
		want   float64
	}{
		{"perfect", []float64{.1, .2, .8, .9}, []bool{no, no, yes, yes}, 1},
		{"the wrong way round", []float64{.9, .8, .2, .1}, []bool{no, no, yes, yes}, 0},
		{"all tied", []float64{.5, .5, .5}, []bool{yes, no, no}, .5},
		{"one pair of four wrong", []float64{.1, .4, .35, .8}, []bool{no, no, yes, yes}, .75},
		{"a tie is half", []float64{.1, .4, .4, .8}, []bool{no, no, yes, yes}, .875},
		{"one class", []float64{.1, .4}, []bool{yes, yes}, nan},
		{"nothing", nil, nil, nan},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := eval.AUC(tt.scores, tt.labels); !same(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestAUCAgainstAllPairs(t *testing.T) {
	for seed := range uint64(50) {
		scores, labels := draw(seed, 60, 1+int(seed%20))
		var right, pairs float64
		for i := range scores {
			for j := range scores {
				if !labels[i] || labels[j] {
					continue
				}
				pairs++
				switch {
				case scores[i] > scores[j]:
					right++
				case scores[i] == scores[j]:
					right += 0.5
				}
			}
		}
		got := eval.AUC(scores, labels)
		if !same(got, right/pairs) {
			t.Errorf("seed %d: got %v, want %v", seed, got, right/pairs)
		}
		for i := range scores {
			scores[i] = math.Exp(3*scores[i]) / 100 // any increasing function
		}
		if again := eval.AUC(scores, labels); again != got {
			t.Errorf("seed %d: got %v after a monotone change, want %v", seed, again, got)
		}
	}
}

func TestTopShare(t *testing.T) {
	tests := []struct {
		name              string
		scores            []float64
		labels            []bool
		share             float64
		precision, recall float64
	}{
		{"the best two of ten", []float64{.9, .8, .7, .6, .5, .4, .3, .2, .1, 0}, []bool{yes, no, yes, no, no, no, no, no, no, no}, .2, .5, .5},
		{"k is rounded up: two of six", []float64{.9, .8, .7, .6, .5, .4}, []bool{yes, yes, yes, no, no, no}, .2, 1, 2. / 3},
		{"a fifth of five is one", []float64{.9, .8, .7, .6, .5}, []bool{no, yes, yes, yes, yes}, .2, 0, 0},
		{"a tie at the cut: one place for two rows, one positive", []float64{.9, .8, .8, .7, .6, .5}, []bool{yes, yes, no, no, no, no}, .2, .75, .75},
		{"all tied: the base rate", []float64{.5, .5, .5, .5, .5, .5, .5, .5, .5, .5}, []bool{yes, yes, yes, no, no, no, no, no, no, no}, .2, .3, .2},
		{"everything", []float64{.5, .4, .3}, []bool{yes, no, no}, 1, 1. / 3, 1},
		{"no positives", []float64{.5, .4, .3}, []bool{no, no, no}, .2, 0, nan},
		{"nothing", nil, nil, .2, nan, nan},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := eval.PrecisionAtShare(tt.scores, tt.labels, tt.share); !same(got, tt.precision) {
				t.Errorf("precision: got %v, want %v", got, tt.precision)
			}
			if got := eval.RecallAtShare(tt.scores, tt.labels, tt.share); !same(got, tt.recall) {
				t.Errorf("recall: got %v, want %v", got, tt.recall)
			}
		})
	}
}

// Proportional places equal the average of random tie-breaking, here over all orders of the rows.
func TestTiesAreTheMeanOverAllOrders(t *testing.T) {
	for seed := range uint64(20) {
		const n = 7
		scores, labels := draw(seed, n, 3)
		const k = 2 // ceil(0.2 n)
		var sum, orders float64
		permute(n, func(order []int) {
			for i := 1; i < n; i++ {
				if scores[order[i]] > scores[order[i-1]] {
					return
				}
			}
			orders++
			for _, i := range order[:k] {
				if labels[i] {
					sum++
				}
			}
		})
		if got, want := eval.PrecisionAtShare(scores, labels, 0.2), sum/orders/k; !same(got, want) {
			t.Errorf("seed %d: got %v, want %v", seed, got, want)
		}
	}
}

// permute calls visit with every order of n rows.
func permute(n int, visit func(order []int)) {
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	var place func(i int)
	place = func(i int) {
		if i == n {
			visit(order)
			return
		}
		for j := i; j < n; j++ {
			order[i], order[j] = order[j], order[i]
			place(i + 1)
			order[i], order[j] = order[j], order[i]
		}
	}
	place(0)
}

func TestCutIsExactAtFifths(t *testing.T) {
	for n := 5; n <= 5000; n += 5 {
		scores, labels := make([]float64, n), make([]bool, n)
		for i := range scores {
			scores[i] = 1 - float64(i)/float64(n)
			labels[i] = i < n/5
		}
		if got := eval.PrecisionAtShare(scores, labels, 0.2); got != 1 {
			t.Fatalf("%d rows: got %v, want 1: the cut is not at %d", n, got, n/5)
		}
	}
}

func TestLengthsMustAgree(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	eval.AUC([]float64{1}, nil)
}

func BenchmarkMeasure(b *testing.B) {
	scores, labels := draw(1, 100_000, 1<<30)
	days := make([]int, len(scores))
	for b.Loop() {
		if _, err := eval.Measure(eval.Sample{Scores: scores, Labels: labels, Days: days}); err != nil {
			b.Fatal(err)
		}
	}
}
