package model_test

import (
	"math"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/model"
	"github.com/greenlight-ml/greenlight/pkg/testkit/enginetest"
)

func twoInputs() model.Logistic {
	return model.Logistic{
		Features: []string{"bias", "rsi14"}, Mean: []float64{1, 50}, SD: []float64{1, 10}, Weight: []float64{0, 0.5},
		Intercept: -1, Clip: 3,
	}
}

func TestLogisticScore(t *testing.T) {
	m := twoInputs()
	for _, tt := range []struct {
		name string
		x    []float64
		z    float64 // log-odds by hand
	}{
		{"at the mean", []float64{1, 50}, -1},
		{"a standard deviation above", []float64{1, 60}, -0.5},
		{"two below", []float64{1, 30}, -2},
		{"clipped above", []float64{1, 1e9}, 0.5},
		{"clipped below", []float64{1, -1e9}, -2.5},
		{"more values than inputs", []float64{1, 60, 7}, -0.5},
	} {
		want := 1 / (1 + math.Exp(-tt.z))
		if got := m.Score(tt.x); math.Abs(got-want) > 1e-15 {
			t.Errorf("%s: got %v, want %v", tt.name, got, want)
		}
	}
	if got := m.Score([]float64{1, math.NaN()}); !math.IsNaN(got) {
		t.Errorf("of NaN: got %v, want NaN rather than a number that looks like a score", got)
	}
	defer func() {
		if recover() == nil {
			t.Error("of a short vector: no panic")
		}
	}()
	m.Score([]float64{1})
}

func TestSigmoid(t *testing.T) {
	for z, want := range map[float64]float64{
		0: 0.5, 800: 1, -800: 0, math.Inf(1): 1, math.Inf(-1): 0, math.MaxFloat64: 1, -math.MaxFloat64: 0, math.Log(3): 0.75,
	} {
		if got := model.Sigmoid(z); math.Abs(got-want) > 1e-15 {
			t.Errorf("sigmoid(%v): got %v, want %v", z, got, want)
		}
	}
	last := 0.0
	for z := -40.0; z <= 40; z += 0.01 {
		s := model.Sigmoid(z)
		if s < last || s > 1 {
			t.Fatalf("sigmoid(%v) = %v after %v: it must rise within [0,1]", z, s, last)
		}
		if mirror := 1 - model.Sigmoid(-z); math.Abs(mirror-s) > 1e-15 {
			t.Fatalf("sigmoid(%v) = %v, but 1 - sigmoid(%v) = %v", z, s, -z, mirror)
		}
		last = s
	}
}

func TestLogisticValidate(t *testing.T) {
	m := twoInputs()
	if err := m.Validate(); err != nil {
		t.Fatalf("a good one: %v", err)
	}
	nan, inf := math.NaN(), math.Inf(1)
	for name, tt := range map[string]struct {
		change func(*model.Logistic)
		want   string
	}{
		"no features":      {func(m *model.Logistic) { *m = model.Logistic{} }, "no features"},
		"a mean too few":   {func(m *model.Logistic) { m.Mean = m.Mean[:1] }, "1 means"},
		"an sd too many":   {func(m *model.Logistic) { m.SD = append(m.SD, 1) }, "3 sds"},
		"no weights":       {func(m *model.Logistic) { m.Weight = nil }, "0 weights"},
		"mean NaN":         {func(m *model.Logistic) { m.Mean[1] = nan }, `feature "rsi14": mean NaN`},
		"weight infinite":  {func(m *model.Logistic) { m.Weight[0] = inf }, `feature "bias"`},
		"sd NaN":           {func(m *model.Logistic) { m.SD[1] = nan }, "sd NaN"},
		"sd infinite":      {func(m *model.Logistic) { m.SD[1] = inf }, "sd +Inf"},
		"sd 0":             {func(m *model.Logistic) { m.SD[1] = 0 }, "sd 0"},
		"intercept NaN":    {func(m *model.Logistic) { m.Intercept = nan }, "intercept NaN"},
		"clip 0":           {func(m *model.Logistic) { m.Clip = 0 }, "clip 0"},
		"clip negative":    {func(m *model.Logistic) { m.Clip = -8 }, "clip -8"},
		"clip is infinite": {func(m *model.Logistic) { m.Clip = inf }, "clip +Inf"},
	} {
		m := twoInputs()
		tt.change(&m)
		if err := m.Validate(); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q in it", name, err, tt.want)
		}
	}
}

// BenchmarkScore scores a logistic model of seven features, and the baseline's four.
func BenchmarkScore(b *testing.B) {
	a := enginetest.Artifact(b, "v1.8.1", "any")
	x := enginetest.Vector(rand.New(rand.NewPCG(1, 1)), a.Schema)
	for name, score := range map[string]func([]float64) float64{"logistic": a.Scorer.Score, "baseline": a.Baseline.Score} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				runtime.KeepAlive(score(x))
			}
		})
	}
}
