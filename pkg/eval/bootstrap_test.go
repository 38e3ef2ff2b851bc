package eval_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/eval"
)

// clustered returns rows whose base rate differs from day to day, which makes rows of a day dependent.
func clustered(seed uint64, days, perDay int) eval.Sample {
	rng := rand.New(rand.NewPCG(seed, 1))
	var s eval.Sample
	for day := range days {
		lift := 0.6 * rng.Float64()
		for range perDay {
			score := rng.Float64()
			s.Scores = append(s.Scores, score)
			s.Labels = append(s.Labels, rng.Float64() < lift+0.4*score)
			s.Days = append(s.Days, 16_000+day)
		}
	}
	return s
}

func TestIntervals(t *testing.T) {
	s := clustered(1, 30, 200)
	m, err := eval.Measure(s)
	if err != nil {
		t.Fatal(err)
	}
	b := eval.DefaultBootstrap()
	got, err := b.Intervals(s)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		in    eval.Interval
		value float64
	}{
		"auc": {got.AUC, m.AUC}, "precision": {got.PrecisionAt20, m.PrecisionAt20}, "recall": {got.RecallAt20, m.RecallAt20},
		"base rate": {got.BaseRate, m.BaseRate}, "brier": {got.Brier, m.Brier}, "log loss": {got.LogLoss, m.LogLoss},
	} {
		if !(c.in.Low < c.value && c.value < c.in.High) {
			t.Errorf("%s: %v is not in %v", name, c.value, c.in)
		}
	}
	if got.Days != 30 || got.Replicates != 1000 || got.Level != 0.95 || got.Seed != 1 {
		t.Errorf("got %+v", got)
	}

	again, err := b.Intervals(s)
	if err != nil || !reflect.DeepEqual(got, again) {
		t.Errorf("the same seed: got %+v, %v, want %+v", again, err, got)
	}
	b.Seed = 2
	if other, err := b.Intervals(s); err != nil || reflect.DeepEqual(got.AUC, other.AUC) {
		t.Errorf("another seed: got the same interval, %v", err)
	}

	// Treats rows as independent by giving each its own day.
	rows := s
	rows.Days = make([]int, s.Len())
	for i := range rows.Days {
		rows.Days[i] = i
	}
	narrow, err := b.Intervals(rows)
	if err != nil {
		t.Fatal(err)
	}
	if days, each := got.BaseRate.High-got.BaseRate.Low, narrow.BaseRate.High-narrow.BaseRate.Low; days < 3*each {
		t.Errorf("width by days %v, by rows %v: want far wider", days, each)
	}
}

// A draw equals measuring the sample with its days repeated: with one replicate the interval is a point.
func TestIntervalsOfOneDrawAreOfWholeDays(t *testing.T) {
	s := clustered(2, 2, 40)
	b := eval.Bootstrap{Replicates: 1, Seed: 0, Level: 0.9, MinDays: 2}
	half := func(day int) eval.Sample {
		lo, hi := day*40, (day+1)*40
		return eval.Sample{Scores: s.Scores[lo:hi], Labels: s.Labels[lo:hi], Days: s.Days[lo:hi]}
	}
	first, second := half(0), half(1)
	seen := map[int]bool{}
	for seed := range uint64(20) {
		b.Seed = seed
		got, err := b.Intervals(s)
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for i, candidate := range []eval.Sample{eval.Pool(first, first), eval.Pool(first, second), eval.Pool(second, second)} {
			m, err := eval.Measure(candidate)
			if err != nil {
				t.Fatal(err)
			}
			if same(got.AUC.Low, m.AUC) && same(got.PrecisionAt20.Low, m.PrecisionAt20) && same(got.RecallAt20.High, m.RecallAt20) &&
				same(got.BaseRate.Low, m.BaseRate) && same(got.Brier.Low, m.Brier) && same(got.LogLoss.Low, m.LogLoss) {
				found, seen[i] = true, true
			}
		}
		if !found {
			t.Errorf("seed %d: %+v matches no draw of two days", seed, got)
		}
	}
	if len(seen) != 3 {
		t.Errorf("20 seeds made %d of 3 draws", len(seen))
	}
}

func TestIntervalsErrors(t *testing.T) {
	good := clustered(3, 6, 20)
	with := func(change func(*eval.Bootstrap)) eval.Bootstrap {
		b := eval.DefaultBootstrap()
		change(&b)
		return b
	}
	tests := []struct {
		name    string
		b       eval.Bootstrap
		s       eval.Sample
		is      error
		mention string
	}{
		{"too few days", eval.DefaultBootstrap(), clustered(3, 4, 20), eval.ErrTooFewDays, "4 days"},
		{"one day", with(func(b *eval.Bootstrap) { b.MinDays = 0 }), clustered(3, 1, 20), eval.ErrTooFewDays, "1 days"},
		{"one class", eval.DefaultBootstrap(), eval.Sample{Scores: []float64{.5}, Labels: []bool{yes}, Days: []int{1}}, eval.ErrOneClass, "1 positive"},
		{"nothing", eval.DefaultBootstrap(), eval.Sample{}, eval.ErrOneClass, "0 rows"},
		{"no replicates", with(func(b *eval.Bootstrap) { b.Replicates = 0 }), good, nil, "0 replicates"},
		{"level", with(func(b *eval.Bootstrap) { b.Level = 1 }), good, nil, "level 1"},
		{"NaN level", with(func(b *eval.Bootstrap) { b.Level = math.NaN() }), good, nil, "level NaN"},
		{"no days", eval.DefaultBootstrap(), eval.Sample{Scores: good.Scores, Labels: good.Labels}, nil, "0 days"},
		{"NaN score", eval.DefaultBootstrap(), eval.Sample{Scores: []float64{nan, 0}, Labels: []bool{yes, no}, Days: []int{1, 2}}, nil, "score NaN of row 0"},
		{"score above 1", eval.DefaultBootstrap(), eval.Sample{Scores: []float64{0, 1.5}, Labels: []bool{yes, no}, Days: []int{1, 2}}, nil, "score 1.5 of row 1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := tt.b.Intervals(tt.s)
			if err == nil || tt.is != nil && !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.mention) {
				t.Errorf("got %v, want %v that mentions %q", err, tt.is, tt.mention)
			}
		})
	}
}

func BenchmarkIntervals(b *testing.B) {
	s := clustered(4, 100, 1440)
	for b.Loop() {
		if _, err := eval.DefaultBootstrap().Intervals(s); err != nil {
			b.Fatal(err)
		}
	}
}
