package eval_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/eval"
)

// blurred returns s with less informative scores: their mean with the scores of an unrelated sample.
func blurred(s eval.Sample) eval.Sample {
	noise, _ := draw(99, s.Len(), 1000)
	o := s
	o.Scores = make([]float64, s.Len())
	for i, v := range s.Scores {
		o.Scores[i] = (v + noise[i]) / 2
	}
	return o
}

func TestCompare(t *testing.T) {
	model := clustered(1, 30, 200)
	baseline := blurred(model)
	b := eval.DefaultBootstrap()
	c, err := eval.Compare(model, baseline, b)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := measure(t, model), measure(t, baseline)
	if c.N != ours.N || c.Positives != ours.Positives || c.AUC.Model != ours.AUC || c.AUC.Baseline != theirs.AUC ||
		c.AUC.Difference != ours.AUC-theirs.AUC || c.PrecisionAt20.Difference != ours.PrecisionAt20-theirs.PrecisionAt20 {
		t.Errorf("got %+v, want those of %+v and %+v", c, ours, theirs)
	}
	for name, d := range map[string]eval.Difference{"auc": c.AUC, "precision": c.PrecisionAt20} {
		if d.Interval == nil || !(d.Interval.Low < d.Difference && d.Difference < d.Interval.High) {
			t.Errorf("%s: %v is not in %v", name, d.Difference, d.Interval)
		}
	}
	if c.DeLong == nil || c.DeLong.Difference != c.AUC.Difference || c.DeLong.PValue > 1e-6 {
		t.Errorf("DeLong: got %+v", c.DeLong)
	}
	if want := (eval.Draws{Level: 0.95, Replicates: 1000, Days: 30, Seed: 1}); c.Bootstrap == nil || *c.Bootstrap != want {
		t.Errorf("bootstrap: got %+v, want %+v", c.Bootstrap, want)
	}
	// The day makes both scorers look good or bad, so their difference is known better than either.
	mine, err := b.Intervals(model)
	if err != nil {
		t.Fatal(err)
	}
	if width, apart := c.PrecisionAt20.Interval.High-c.PrecisionAt20.Interval.Low, mine.PrecisionAt20.High-mine.PrecisionAt20.Low; width > 0.8*apart {
		t.Errorf("the difference is %v wide, the model alone %v", width, apart)
	}

	again, err := eval.Compare(model, baseline, b)
	if err != nil || !reflect.DeepEqual(again, c) {
		t.Errorf("again: got %+v, %v, want %+v", again, err, c)
	}
	self, err := eval.Compare(model, model, b)
	if err != nil {
		t.Fatal(err)
	}
	if self.AUC.Difference != 0 || *self.AUC.Interval != (eval.Interval{}) || *self.PrecisionAt20.Interval != (eval.Interval{}) || self.DeLong.PValue != 1 {
		t.Errorf("with itself: got %+v", self)
	}
}

func measure(t *testing.T, s eval.Sample) eval.Metrics {
	t.Helper()
	m, err := eval.Measure(s)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// A draw equals comparing the samples with their days repeated: with one replicate the interval is a point.
func TestCompareOfOneDrawIsOfWholeDays(t *testing.T) {
	model := clustered(2, 2, 40)
	baseline := blurred(model)
	day := func(s eval.Sample, d int) eval.Sample {
		lo, hi := d*40, (d+1)*40
		return eval.Sample{Scores: s.Scores[lo:hi], Labels: s.Labels[lo:hi], Days: s.Days[lo:hi]}
	}
	seen := map[[2]int]bool{}
	for seed := range uint64(20) {
		got, err := eval.Compare(model, baseline, eval.Bootstrap{Replicates: 1, Seed: seed, Level: 0.9, MinDays: 2})
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, draw := range [][2]int{{0, 0}, {0, 1}, {1, 1}} {
			ours := measure(t, eval.Pool(day(model, draw[0]), day(model, draw[1])))
			theirs := measure(t, eval.Pool(day(baseline, draw[0]), day(baseline, draw[1])))
			if same(got.AUC.Interval.Low, ours.AUC-theirs.AUC) && same(got.PrecisionAt20.Interval.High, ours.PrecisionAt20-theirs.PrecisionAt20) {
				found, seen[draw] = true, true
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

func TestCompareKeys(t *testing.T) {
	model := clustered(1, 5, 20)
	full, err := eval.Compare(model, blurred(model), eval.Bootstrap{Replicates: 1, Seed: 1, Level: 0.9, MinDays: 5})
	if err != nil {
		t.Fatal(err)
	}
	few, err := eval.Compare(model, blurred(model), eval.Bootstrap{Replicates: 1, Seed: 1, Level: 0.9, MinDays: 6})
	if err != nil {
		t.Fatal(err)
	}
	if few.Bootstrap != nil || few.AUC.Interval != nil || few.PrecisionAt20.Interval != nil {
		t.Errorf("too few days: got %+v", few)
	}
	tests := []struct {
		name string
		c    *eval.Comparison
		want []string
	}{
		{"full", full, []string{
			"n", "positives", "auc.model", "auc.baseline", "auc.difference", "auc.difference_interval.low",
			"precision_at_20.difference_interval.high", "auc_delong.difference", "auc_delong.standard_error", "auc_delong.z",
			"auc_delong.p_value", "auc_delong.level", "auc_delong.low", "auc_delong.high", "bootstrap.level",
			"bootstrap.replicates", "bootstrap.days", "bootstrap.seed",
		}},
		{"too few days", few, []string{"n", "positives", "auc.difference", "precision_at_20.model", "auc_delong.p_value"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			raw, err := json.Marshal(tt.c)
			if err != nil {
				t.Fatal(err)
			}
			for _, path := range tt.want {
				var at any
				if err := json.Unmarshal(raw, &at); err != nil {
					t.Fatal(err)
				}
				for key := range strings.SplitSeq(path, ".") {
					object, _ := at.(map[string]any)
					at = object[key]
				}
				if _, ok := at.(float64); !ok {
					t.Errorf("no number %s in %s", path, raw)
				}
			}
			var back eval.Comparison
			if err := json.Unmarshal(raw, &back); err != nil || !reflect.DeepEqual(&back, tt.c) {
				t.Errorf("read back: got %+v, %v, want %+v", &back, err, tt.c)
			}
		})
	}
}

func TestCompareErrors(t *testing.T) {
	good := clustered(1, 6, 20)
	otherLabels, otherDays := good, good
	otherLabels.Labels = slices.Clone(good.Labels)
	otherLabels.Labels[3] = !good.Labels[3]
	otherDays.Days = slices.Clone(good.Days)
	otherDays.Days[0]--
	b := eval.DefaultBootstrap()
	tests := []struct {
		name            string
		model, baseline eval.Sample
		b               eval.Bootstrap
		is              error
		mention         string
	}{
		{"other labels", good, otherLabels, b, nil, "different rows"},
		{"other days", good, otherDays, b, nil, "different rows"},
		{"fewer rows", good, clustered(1, 5, 20), b, nil, "different rows"},
		{"no model", eval.Sample{}, good, b, eval.ErrOneClass, "model"},
		{"no baseline", good, eval.Sample{}, b, eval.ErrOneClass, "baseline"},
		{"no replicates", good, good, eval.Bootstrap{Level: 0.9}, nil, "0 replicates"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := eval.Compare(tt.model, tt.baseline, tt.b)
			if err == nil || tt.is != nil && !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.mention) {
				t.Errorf("got %v, want %v that mentions %q", err, tt.is, tt.mention)
			}
		})
	}
}

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
