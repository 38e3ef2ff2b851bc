package stats_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/stats"
)

func TestCorrelation(t *testing.T) {
	// F. J. Anscombe (1973), "Graphs in Statistical Analysis", The American Statistician 27: four sets with equal
	// correlation.
	x := []float64{10, 8, 13, 9, 11, 14, 6, 4, 12, 7, 5}
	x4 := []float64{8, 8, 8, 8, 8, 8, 8, 19, 8, 8, 8}
	y1 := []float64{8.04, 6.95, 7.58, 8.81, 8.33, 9.96, 7.24, 4.26, 10.84, 4.82, 5.68}
	y2 := []float64{9.14, 8.14, 8.74, 8.77, 9.26, 8.10, 6.13, 3.10, 9.13, 7.26, 4.74}
	y4 := []float64{6.58, 5.76, 7.71, 8.84, 8.47, 7.04, 5.25, 12.50, 5.56, 7.91, 6.89}
	// Computed with numpy.corrcoef (1.24.2).
	tests := []struct {
		name string
		a, b []float64
		want float64
	}{
		{"first", x, y1, 0.81642051634484},
		{"second", x, y2, 0.8162365060002428},
		{"fourth", x4, y4, 0.8165214368885028},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := stats.Correlation(tt.a, tt.b); !near(got[0][1], tt.want, 1e-13) || got[1][0] != got[0][1] || got[0][0] != 1 || got[1][1] != 1 {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestCorrelationProperties(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 0))
	a, b := make([]float64, 500), make([]float64, 500)
	for i := range a {
		a[i] = rng.NormFloat64()
		b[i] = a[i] + rng.NormFloat64()
	}
	far, flipped := make([]float64, 500), make([]float64, 500)
	for i, v := range a {
		far[i], flipped[i] = 1e6+0.001*v, -2*v
	}
	r := stats.Correlation(a, b, far, flipped)
	if !near(r[2][1], r[0][1], 1e-6) || !near(r[3][1], -r[0][1], 1e-12) || !near(r[0][3], -1, 1e-14) || r[0][3] < -1 {
		t.Errorf("got %v", r)
	}
}

func TestCorrelationUndefined(t *testing.T) {
	nan := math.NaN()
	r := stats.Correlation([]float64{1, 2, 4}, []float64{.1, .1, .1}, []float64{1, nan, 2}, []float64{1, math.Inf(1), 2}, []float64{2, 1, 1})
	for j := range r {
		for k := range r {
			defined := (j == 0 || j == 4) && (k == 0 || k == 4)
			if math.IsNaN(r[j][k]) == defined {
				t.Errorf("columns %d and %d: got %v", j, k, r[j][k])
			}
		}
	}
	if got := stats.Correlation(); len(got) != 0 {
		t.Errorf("no columns: got %v", got)
	}
	if got := stats.Correlation(nil, nil); !math.IsNaN(got[0][1]) {
		t.Errorf("no rows: got %v", got)
	}
	defer func() {
		if recover() == nil {
			t.Error("columns of different lengths: no panic")
		}
	}()
	stats.Correlation([]float64{1}, nil)
}

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
