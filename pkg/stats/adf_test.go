package stats_test

import (
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/stats"
)

// series is a case of testdata/adf.json, made with statsmodels by testdata/adf.py.
type series struct {
	Name string    `json:"name"`
	X    []float64 `json:"x"`
	ADF  []struct {
		Lags      *int       `json:"lags"` // nil: by AIC
		Statistic float64    `json:"statistic"`
		P         float64    `json:"p"`
		Used      int        `json:"used"`
		N         int        `json:"n"`
		Critical  [3]float64 `json:"critical"`
	} `json:"adf"`
}

func TestDickeyFullerAgainstStatsmodels(t *testing.T) {
	worst := 0.0
	for _, c := range vectors[series](t, "testdata/adf.json") {
		t.Run(c.Name, func(t *testing.T) {
			for _, want := range c.ADF {
				test := "AIC"
				got, err := stats.DickeyFuller(c.X)
				if want.Lags != nil {
					test = "fixed"
					got, err = stats.DickeyFullerLags(c.X, *want.Lags)
				}
				if err != nil {
					t.Fatal(err)
				}
				worst = max(worst, off(got.Statistic, want.Statistic))
				if got.Lags != want.Used || got.N != want.N {
					t.Errorf("%s: got %d lags on %d, want %d on %d", test, got.Lags, got.N, want.Used, want.N)
				}
				if !near(got.Statistic, want.Statistic, 1e-9) {
					t.Errorf("%s, %d lags: statistic %v, want %v", test, want.Used, got.Statistic, want.Statistic)
				}
				// A p-value far in the tail magnifies the error of the statistic.
				if !near(got.PValue, want.P, 1e-7) {
					t.Errorf("%s, %d lags: p %v, want %v", test, want.Used, got.PValue, want.P)
				}
				if cr := got.Critical; !near(cr.OnePercent, want.Critical[0], 1e-12) || !near(cr.FivePercent, want.Critical[1], 1e-12) || !near(cr.TenPercent, want.Critical[2], 1e-12) {
					t.Errorf("%s, %d lags: critical %v, want %v", test, want.Used, cr, want.Critical)
				}
			}
		})
	}
	t.Logf("largest relative error of a statistic: %.1e", worst)
}

// A unit root stays a unit root, and the statistic stays the same, whatever the unit and the origin of the series.
func TestDickeyFullerIsInvariant(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 0))
	x := make([]float64, 400)
	for i := 1; i < len(x); i++ {
		x[i] = x[i-1] + rng.NormFloat64()
	}
	want, err := stats.DickeyFuller(x)
	if err != nil {
		t.Fatal(err)
	}
	for i := range x {
		x[i] = 60_000 - 0.01*x[i]
	}
	got, err := stats.DickeyFuller(x)
	if err != nil {
		t.Fatal(err)
	}
	if got.Lags != want.Lags || !near(got.Statistic, want.Statistic, 1e-6) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// Under a unit root a 5 % test rejects about 5 % of series: the critical values and p-values agree with the statistic.
func TestDickeyFullerSize(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 0))
	byValue, byP := 0, 0
	const runs = 2000
	x := make([]float64, 200)
	for range runs {
		for i := 1; i < len(x); i++ {
			x[i] = x[i-1] + rng.NormFloat64()
		}
		got, err := stats.DickeyFullerLags(x, 1)
		if err != nil {
			t.Fatal(err)
		}
		if got.Statistic < got.Critical.FivePercent {
			byValue++
		}
		if got.PValue < 0.05 {
			byP++
		}
	}
	for name, n := range map[string]int{"critical value": byValue, "p": byP} {
		// Three standard errors of a binomial proportion.
		if share := float64(n) / runs; math.Abs(share-0.05) > 0.015 {
			t.Errorf("by %s: %v rejected, want about 0.05", name, share)
		}
	}
}

func TestDickeyFullerErrors(t *testing.T) {
	line := make([]float64, 50)
	for i := range line {
		line[i] = float64(3 * i)
	}
	good := []float64{1, 3, 2, 5, 4, 4, 7, 1, 2, 3, 3, 5}
	tests := []struct {
		name string
		x    []float64
		lags int
		is   error
	}{
		{"nothing", nil, 0, stats.ErrTooShort},
		{"three values", []float64{1, 2, 1}, 0, stats.ErrTooShort},
		{"too many lags", good, 5, stats.ErrTooShort},
		{"constant", slices.Repeat([]float64{0.1}, 50), 0, stats.ErrDegenerate},
		{"straight line", line, 0, stats.ErrDegenerate},
		{"straight line with lags", line, 2, stats.ErrDegenerate},
		{"NaN", append(slices.Clone(good), math.NaN()), 0, nil},
		{"infinity", append(slices.Clone(good), math.Inf(1)), 0, nil},
		{"negative lags", good, -1, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := stats.DickeyFullerLags(tt.x, tt.lags); err == nil || tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("fixed: got %+v, %v, want %v", got, err, tt.is)
			}
			if tt.lags != 0 {
				return
			}
			if got, err := stats.DickeyFuller(tt.x); err == nil || tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("AIC: got %+v, %v, want %v", got, err, tt.is)
			}
		})
	}
	if _, err := stats.DickeyFullerLags(good, 4); err != nil {
		t.Errorf("as many lags as 12 values allow: %v", err)
	}
}

func BenchmarkDickeyFuller(b *testing.B) {
	rng := rand.New(rand.NewPCG(9, 0))
	x := make([]float64, 10_000)
	for i := 1; i < len(x); i++ {
		x[i] = x[i-1] + rng.NormFloat64()
	}
	for b.Loop() {
		if _, err := stats.DickeyFuller(x); err != nil {
			b.Fatal(err)
		}
	}
}

// vectors reads reference values; the script next to the file names their source.
func vectors[T any](t *testing.T, path string) []T {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var v []T
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	if len(v) == 0 {
		t.Fatalf("%s is empty", path)
	}
	return v
}

// near reports whether two numbers are equal within a relative error.
func near(got, want, relative float64) bool {
	return math.Abs(got-want) <= relative*math.Abs(want)
}

// off returns the relative error, for the log.
func off(got, want float64) float64 {
	if got == want {
		return 0
	}
	return math.Abs(got-want) / math.Abs(want)
}
