package train_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/eval"
	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/testkit/need"
	"github.com/greenlight-ml/greenlight/pkg/train"
)

// dataDir returns the folder of the real market data; tests that need it skip if it is not set.
func dataDir(tb testing.TB) string {
	tb.Helper()
	return need.Data(tb)
}

// problem draws rows of k standard normal inputs, the first of them constant, with labels from a logistic model.
func problem(seed uint64, n, k int) (names []string, x []float64, y []bool) {
	rng := rand.New(rand.NewPCG(seed, 0))
	for j := range k {
		names = append(names, fmt.Sprintf("x%d", j))
	}
	x, y = make([]float64, n*k), make([]bool, n)
	for i := range n {
		odds := -1.0
		for j := range k {
			v := rng.NormFloat64()
			if j == 0 {
				v = 1
			}
			x[i*k+j] = 100 + v*float64(j+1)
			odds += v * (0.5 - 0.2*float64(j))
		}
		y[i] = rng.Float64() < model.Sigmoid(odds)
	}
	return names, x, y
}

type coefficients struct {
	Intercept float64   `json:"intercept"`
	Coef      []float64 `json:"coef"`
	First     []float64 `json:"p_first10"`
	AUC       float64   `json:"auc"`
	Brier     float64   `json:"brier"`
	Params    []float64 `json:"params"`
}

func TestFitReference(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(dataDir(t), "reference", "logistic.json"))
	if err != nil {
		t.Fatal(err)
	}
	var ref struct {
		X     [][]float64  `json:"X"`
		Y     []int        `json:"y"`
		Mean  []float64    `json:"mean"`
		SD    []float64    `json:"sd_ddof0"`
		One   coefficients `json:"sklearn_C1.0"`
		Small coefficients `json:"sklearn_C0.01"`
		Free  coefficients `json:"statsmodels_unpenalised"`
	}
	if err := json.Unmarshal(raw, &ref); err != nil {
		t.Fatal(err)
	}
	var x []float64
	y := make([]bool, len(ref.Y))
	for i, row := range ref.X {
		x = append(x, row...)
		y[i] = ref.Y[i] == 1
	}
	ref.Free.Intercept, ref.Free.Coef = ref.Free.Params[0], ref.Free.Params[1:]
	tests := []struct {
		name    string
		penalty float64
		want    coefficients
	}{
		{"C = 1", 1, ref.One},
		{"C = 0.01", 100, ref.Small},
		{"no penalty", 0, ref.Free},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := train.DefaultFitOptions()
			o.Penalty = tt.penalty
			m, err := train.Fit([]string{"a", "b", "c", "d", "e", "f"}, x, y, o)
			if err != nil {
				t.Fatal(err)
			}
			if err := m.Validate(); err != nil {
				t.Error(err)
			}
			near(t, "mean", m.Mean, ref.Mean, 1e-9)
			near(t, "sd", m.SD, ref.SD, 1e-9)
			near(t, "intercept", []float64{m.Intercept}, []float64{tt.want.Intercept}, 1e-5)
			near(t, "weights", m.Weight, tt.want.Coef, 1e-5)
			scores := make([]float64, len(y))
			for i := range scores {
				scores[i] = m.Score(x[i*6:])
			}
			if tt.want.First != nil {
				near(t, "scores", scores[:10], tt.want.First, 1e-5)
				near(t, "auc, brier", []float64{eval.AUC(scores, y), eval.Brier(scores, y)}, []float64{tt.want.AUC, tt.want.Brier}, 1e-5)
			}
		})
	}
}

func near(t *testing.T, what string, got, want []float64, tolerance float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: got %d values, want %d", what, len(got), len(want))
	}
	for i := range got {
		if !(math.Abs(got[i]-want[i]) <= tolerance*max(1, math.Abs(want[i]))) {
			t.Errorf("%s %d: got %.12g, want %.12g", what, i, got[i], want[i])
		}
	}
}

// A single binary input without penalty has a closed form: the coefficients follow from the two rates.
func TestFitClosedForm(t *testing.T) {
	var x []float64
	var y []bool
	for i := range 100 {
		x = append(x, float64(i%2))
		y = append(y, i%2 == 1 && i < 80 || i%2 == 0 && i < 20) // 40 of 50 ones, 10 of 50 zeros
	}
	o := train.DefaultFitOptions()
	o.Penalty = 0
	m, err := train.Fit([]string{"x"}, x, y, o)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "scores", []float64{m.Score([]float64{0}), m.Score([]float64{1})}, []float64{0.2, 0.8}, 1e-12)
}

// At the minimum the gradient of 0.5 penalty |w|^2 + sum log loss is 0, with or without clipping.
func TestFitGradientIsZero(t *testing.T) {
	names, x, y := problem(1, 3000, 5)
	x[7] = 1e6 // an outlier that the clip catches
	o := train.DefaultFitOptions()
	o.Clip, o.Penalty = 2, 10
	m, err := train.Fit(names, x, y, o)
	if err != nil {
		t.Fatal(err)
	}
	k := len(names)
	gradient := make([]float64, k+1)
	for i := range y {
		row := x[i*k : (i+1)*k]
		r := m.Score(row)
		if y[i] {
			r--
		}
		gradient[k] += r
		for j, v := range row {
			gradient[j] += r * max(-2, min(2, (v-m.Mean[j])/m.SD[j]))
		}
	}
	for j, w := range m.Weight {
		gradient[j] += 10 * w
	}
	near(t, "gradient", gradient, make([]float64, k+1), 1e-8)
}

func TestFitConstantInput(t *testing.T) {
	names, x, y := problem(2, 500, 3)
	for i := 0; i < len(x); i += 3 {
		x[i] = 0.1 // its mean is not exactly 0.1
	}
	m, err := train.Fit(names, x, y, train.DefaultFitOptions())
	if err != nil {
		t.Fatal(err)
	}
	if m.SD[0] != 1 || m.Weight[0] != 0 {
		t.Errorf("got sd %v, weight %v, want 1, 0", m.SD[0], m.Weight[0])
	}
	if err := m.Validate(); err != nil {
		t.Error(err)
	}
}

func TestFitSameBitsOnAnyNumberOfCores(t *testing.T) {
	names, x, y := problem(3, 30_000, 7)
	var first *model.Logistic
	for _, cores := range []int{1, 2, 3, 8} {
		before := runtime.GOMAXPROCS(cores)
		m, err := train.Fit(names, x, y, train.DefaultFitOptions())
		runtime.GOMAXPROCS(before)
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = m
		}
		if !reflect.DeepEqual(m, first) {
			t.Errorf("%d cores: got %v, want %v", cores, m, first)
		}
	}
}

func TestFitErrors(t *testing.T) {
	names, x, y := problem(4, 200, 2)
	with := func(i int, v float64) []float64 {
		c := append([]float64(nil), x...)
		c[i] = v
		return c
	}
	options := func(change func(*train.FitOptions)) train.FitOptions {
		o := train.DefaultFitOptions()
		change(&o)
		return o
	}
	separable := make([]bool, len(y))
	for i := range separable {
		separable[i] = x[2*i+1] > 100
	}
	doubled := make([]float64, 0, len(x))
	for i := 0; i < len(x); i += 2 {
		doubled = append(doubled, x[i+1], 2*x[i+1])
	}
	free := options(func(o *train.FitOptions) { o.Penalty = 0 })
	tests := []struct {
		name    string
		names   []string
		x       []float64
		y       []bool
		o       train.FitOptions
		is      error
		mention string
	}{
		{"one class", names, x, make([]bool, len(y)), train.DefaultFitOptions(), eval.ErrOneClass, "0 positive"},
		{"NaN", names, with(7, math.NaN()), y, train.DefaultFitOptions(), nil, "row 3: x1 is NaN"},
		{"infinite", names, with(6, math.Inf(1)), y, train.DefaultFitOptions(), nil, "row 3: x0 is +Inf"},
		{"overflows the variance", names, with(6, 1e300), y, train.DefaultFitOptions(), nil, "x0 has values too large"},
		{"largest number", names, with(7, math.MaxFloat64), y, train.DefaultFitOptions(), nil, "x1 has values too large"},
		{"too few rows", names, x[:6], y[:3], train.DefaultFitOptions(), train.ErrTooFewRows, "3 rows"},
		{"no rows", names, nil, nil, train.DefaultFitOptions(), train.ErrTooFewRows, "0 rows"},
		{"no inputs", nil, nil, y, train.DefaultFitOptions(), nil, "no inputs"},
		{"ragged", names, x[:len(x)-1], y, train.DefaultFitOptions(), nil, "399 values"},
		{"separable", names, x, separable, free, train.ErrNotConverged, ""},
		{"dependent inputs", names, doubled, y, free, train.ErrNotConverged, "singular"},
		{"one iteration", names, x, y, options(func(o *train.FitOptions) { o.MaxIterations = 1 }), train.ErrNotConverged, "1 iterations"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := train.Fit(tt.names, tt.x, tt.y, tt.o)
			if err == nil {
				t.Fatal("got no error")
			}
			if tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("got %v, want %v", err, tt.is)
			}
			if !strings.Contains(err.Error(), tt.mention) {
				t.Errorf("got %q, want it to mention %q", err, tt.mention)
			}
		})
	}
}

func BenchmarkFitMillionRows(b *testing.B) {
	names, x, y := problem(5, 1_000_000, 7)
	b.ResetTimer()
	for b.Loop() {
		if _, err := train.Fit(names, x, y, train.DefaultFitOptions()); err != nil {
			b.Fatal(err)
		}
	}
}
