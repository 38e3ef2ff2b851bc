package eval_test

import (
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/eval"
	"github.com/greenlight-ml/greenlight/pkg/stats"
)

// paired is a case of testdata/delong.json, made with pROC by testdata/delong.R.
type paired struct {
	Name         string     `json:"name"`
	Labels       []bool     `json:"labels"`
	A            []float64  `json:"a"`
	B            []float64  `json:"b"`
	AUC          [2]float64 `json:"auc"`
	Variance     [2]float64 `json:"variance"`
	Covariance   float64    `json:"covariance"`
	A95          [2]float64 `json:"a_95"`
	B90          [2]float64 `json:"b_90"`
	Z            float64    `json:"z"`
	P            float64    `json:"p"`
	Difference95 [2]float64 `json:"difference_95"`
}

func TestDeLongAgainstPROC(t *testing.T) {
	raw, err := os.ReadFile("testdata/delong.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []paired
	if err := json.Unmarshal(raw, &cases); err != nil {
		t.Fatal(err)
	}
	if len(cases) == 0 {
		t.Fatal("no cases")
	}
	worst := 0.0
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			check := func(what string, got, want float64) {
				t.Helper()
				off := math.Abs(got - want)
				if math.Abs(want) > 1e-12 { // otherwise 0, by symmetry
					off /= math.Abs(want)
				}
				worst = max(worst, off)
				if !(off <= 1e-9) {
					t.Errorf("%s: got %v, want %v", what, got, want)
				}
			}
			a, err := eval.NewDeLong(c.A, c.Labels, 0.95)
			if err != nil {
				t.Fatal(err)
			}
			b, err := eval.NewDeLong(c.B, c.Labels, 0.90)
			if err != nil {
				t.Fatal(err)
			}
			test, err := eval.NewDeLongTest(c.A, c.B, c.Labels, 0.95)
			if err != nil {
				t.Fatal(err)
			}
			check("AUC of a", a.AUC, c.AUC[0])
			check("AUC of b", b.AUC, c.AUC[1])
			check("variance of a", a.StandardError*a.StandardError, c.Variance[0])
			check("variance of b", b.StandardError*b.StandardError, c.Variance[1])
			check("variance of the difference", test.StandardError*test.StandardError, c.Variance[0]+c.Variance[1]-2*c.Covariance)
			check("low of a", a.Low, c.A95[0])
			check("high of a", a.High, c.A95[1])
			check("low of b", b.Low, c.B90[0])
			check("high of b", b.High, c.B90[1])
			check("z", test.Z, c.Z)
			check("p", test.PValue, c.P)
			check("low of the difference", test.Low, c.Difference95[0])
			check("high of the difference", test.High, c.Difference95[1])
		})
	}
	t.Logf("largest relative error: %.1e", worst)
}

// structural returns the covariance matrix of two areas as DeLong, DeLong and Clarke-Pearson define it, pair by pair.
func structural(a, b []float64, labels []bool) (s [2][2]float64) {
	kernel := func(x, y float64) float64 {
		switch {
		case y < x:
			return 1
		case y == x:
			return 0.5
		}
		return 0
	}
	scores := [2][]float64{a, b}
	for _, class := range []bool{true, false} {
		var v [2][]float64
		for k, score := range scores {
			for i, label := range labels {
				if label != class {
					continue
				}
				sum, n := 0.0, 0.0
				for j, other := range labels {
					switch {
					case other == class:
					case class:
						sum, n = sum+kernel(score[i], score[j]), n+1
					default:
						sum, n = sum+kernel(score[j], score[i]), n+1
					}
				}
				v[k] = append(v[k], sum/n)
			}
		}
		n := float64(len(v[0]))
		for k := range 2 {
			for l := range 2 {
				var product, left, right float64
				for i := range v[k] {
					product += v[k][i] * v[l][i]
					left += v[k][i]
					right += v[l][i]
				}
				s[k][l] += (product - left*right/n) / (n - 1) / n
			}
		}
	}
	return s
}

func TestDeLongIsThatOfAllPairs(t *testing.T) {
	worst := 0.0
	for seed := range uint64(60) {
		rows, levels := 30+7*int(seed), 2+int(seed*seed) // from mostly ties to none
		a, labels := draw(seed, rows, levels)
		b, _ := draw(seed+1000, rows, levels)
		for i := range b {
			b[i] = (a[i] + b[i]) / 2
		}
		test, err := eval.NewDeLongTest(a, b, labels, 0.95)
		if errors.Is(err, eval.ErrOneClass) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		one, err := eval.NewDeLong(a, labels, 0.95)
		if err != nil {
			t.Fatal(err)
		}
		s := structural(a, b, labels)
		for _, c := range [][2]float64{
			{one.StandardError * one.StandardError, s[0][0]},
			{test.StandardError * test.StandardError, s[0][0] + s[1][1] - 2*s[0][1]},
		} {
			off := math.Abs(c[0]-c[1]) / c[1]
			worst = max(worst, off)
			if !(off < 1e-9) {
				t.Errorf("seed %d: variance %v, want %v", seed, c[0], c[1])
			}
		}
	}
	t.Logf("largest relative error: %.1e", worst)
}

func TestDeLongProperties(t *testing.T) {
	a, labels := draw(3, 400, 50)
	b, _ := draw(4, 400, 50)
	ab, err := eval.NewDeLongTest(a, b, labels, 0.95)
	if err != nil {
		t.Fatal(err)
	}
	ba, err := eval.NewDeLongTest(b, a, labels, 0.95)
	if err != nil {
		t.Fatal(err)
	}
	if ab.Z != -ba.Z || ab.PValue != ba.PValue || ab.Low != -ba.High {
		t.Errorf("exchanged: %+v and %+v", ab, ba)
	}
	// Only the order of scores matters.
	bent := make([]float64, len(a))
	for i, v := range a {
		bent[i] = v * v * v / 2
	}
	if got, err := eval.NewDeLongTest(bent, b, labels, 0.95); err != nil || *got != *ab {
		t.Errorf("bent: got %+v, %v, want %+v", got, err, ab)
	}
	if got, err := eval.NewDeLongTest(a, bent, labels, 0.95); err != nil || got.Difference != 0 || got.Z != 0 || got.PValue != 1 || got.Low != 0 {
		t.Errorf("against itself: got %+v, %v", got, err)
	}
}

// For independent rows the interval contains the true area as often as its level says.
func TestDeLongCoverage(t *testing.T) {
	// Two normals one standard deviation apart: AUC = Phi(1/sqrt 2).
	want := 0.5 * math.Erfc(-0.5)
	rng := rand.New(rand.NewPCG(5, 0))
	const runs = 1000
	held := 0
	for range runs {
		scores, labels := make([]float64, 200), make([]bool, 200)
		for i := range scores {
			labels[i] = i%3 == 0
			scores[i] = rng.NormFloat64()
			if labels[i] {
				scores[i]++
			}
		}
		got, err := eval.NewDeLong(scores, labels, 0.9)
		if err != nil {
			t.Fatal(err)
		}
		if got.Low <= want && want <= got.High {
			held++
		}
	}
	if low, high := stats.Wilson(uint64(held), runs, 4); low > 0.9 || high < 0.9 {
		t.Errorf("%d of %d intervals hold %v, want 90 %%", held, runs, want)
	}
}

func TestDeLongErrors(t *testing.T) {
	ups, downs := []float64{.1, .2, .8, .9}, []float64{.9, .8, .2, .1}
	labels := []bool{no, no, yes, yes}
	if _, err := eval.NewDeLong(ups, []bool{no, no, no, yes}, 0.95); !errors.Is(err, eval.ErrOneClass) {
		t.Errorf("one positive: got %v", err)
	}
	if _, err := eval.NewDeLongTest(ups, downs, []bool{yes, yes, yes, yes}, 0.95); !errors.Is(err, eval.ErrOneClass) {
		t.Errorf("no negative: got %v", err)
	}
	for _, level := range []float64{0, 1, nan} {
		if _, err := eval.NewDeLong(ups, labels, level); err == nil {
			t.Errorf("level %v: no error", level)
		}
	}
	if _, err := eval.NewDeLongTest(ups, downs, labels, 0.95); !errors.Is(err, eval.ErrNoVariance) {
		t.Errorf("all right against all wrong: got %v", err)
	}
	if got, err := eval.NewDeLong(ups, labels, 0.95); err != nil || got.AUC != 1 || got.StandardError != 0 || got.Low != 1 || got.High != 1 {
		t.Errorf("all right: got %+v, %v", got, err)
	}
}

func BenchmarkDeLongTest(b *testing.B) {
	s, o := clustered(4, 100, 1440), clustered(5, 100, 1440)
	for b.Loop() {
		if _, err := eval.NewDeLongTest(s.Scores, o.Scores, s.Labels, 0.95); err != nil {
			b.Fatal(err)
		}
	}
}
