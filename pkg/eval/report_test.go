package eval_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/eval"
)

func TestMeasure(t *testing.T) {
	m, err := eval.Measure(eval.Sample{
		Scores: []float64{.9, .8, .4, .3, .1},
		Labels: []bool{yes, no, yes, no, no},
		Days:   []int{1, 1, 1, 1, 1},
	})
	if err != nil {
		t.Fatal(err)
	}
	if m.N != 5 || m.Positives != 2 || !same(m.BaseRate, .4) || !same(m.AUC, 5./6) || !same(m.PrecisionAt20, 1) || !same(m.RecallAt20, .5) || !same(m.Lift, 2.5) {
		t.Errorf("got %+v", m)
	}
}

func TestReport(t *testing.T) {
	fold := func(first int, s eval.Sample) eval.Fold {
		return eval.Fold{TrainFrom: first - 28, TrainTo: first, TestFrom: first, TestTo: first + 7, TrainRows: 1000, Threshold: 1.5, Sample: s}
	}
	a, b := clustered(1, 7, 50), clustered(2, 7, 50)
	for i := range b.Days {
		b.Days[i] += 7
	}
	calm := eval.Sample{Scores: []float64{.1, .2}, Labels: []bool{no, no}, Days: []int{16_014, 16_015}}
	r, err := eval.NewReport([]eval.Fold{fold(16_000, a), fold(16_007, b), fold(16_014, calm)}, eval.DefaultBootstrap())
	if err != nil {
		t.Fatal(err)
	}
	pooled, err := eval.Measure(eval.Pool(a, b, calm))
	if err != nil {
		t.Fatal(err)
	}
	if r.Metrics != pooled {
		t.Errorf("pooled: got %+v, want %+v", r.Metrics, pooled)
	}
	first, err := eval.Measure(a)
	if err != nil {
		t.Fatal(err)
	}
	if got := r.Folds[0]; *got.Metrics != first || got.TestFirst != "2013-10-22" || got.TestLast != "2013-10-28" || got.TrainLast != "2013-10-21" {
		t.Errorf("first fold: got %+v", got)
	}
	if got := r.Folds[2]; got.Metrics != nil || got.Problem == "" {
		t.Errorf("a fold of one class: got %+v", got)
	}
	if r.Intervals == nil || r.Intervals.Days != 16 {
		t.Errorf("intervals: got %+v", r.Intervals)
	}
	if in := r.Folds[0].Intervals; in == nil || in.Days != 7 || !(in.AUC.Low < first.AUC && first.AUC < in.AUC.High) {
		t.Errorf("intervals of the first fold: got %+v", in)
	}
	// Both are reported: the interval over days, and the one that assumes independent rows.
	if d := r.DeLong; d == nil || d.AUC != r.AUC || d.Level != 0.95 || !(d.Low < r.AUC && r.AUC < d.High) {
		t.Errorf("DeLong: got %+v", d)
	}
	if r.Comparison, err = eval.Compare(eval.Pool(a, b), blurred(eval.Pool(a, b)), eval.DefaultBootstrap()); err != nil {
		t.Fatal(err)
	}

	// Evidence files must have these keys at the top level, and the report must read back unchanged.
	raw, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var keys map[string]any
	if err := json.Unmarshal(raw, &keys); err != nil {
		t.Fatal(err)
	}
	for _, k := range []string{
		"auc", "precision_at_20", "recall_at_20", "base_rate", "lift", "n", "positives", "brier", "log_loss", "ece",
		"confidence_intervals", "auc_delong", "comparison_with_baseline", "reliability", "folds",
	} {
		if _, ok := keys[k]; !ok {
			t.Errorf("no key %q in %s", k, raw)
		}
	}
	var back eval.Report
	if err := json.Unmarshal(raw, &back); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(&back, r) {
		t.Errorf("read back: got %+v, want %+v", &back, r)
	}
}

func TestReportOfFewDaysHasNoIntervals(t *testing.T) {
	r, err := eval.NewReport([]eval.Fold{{Sample: clustered(1, 4, 50)}}, eval.DefaultBootstrap())
	if err != nil {
		t.Fatal(err)
	}
	if r.Intervals != nil {
		t.Errorf("got %+v, want none", r.Intervals)
	}
}

func TestReportErrors(t *testing.T) {
	if _, err := eval.NewReport(nil, eval.DefaultBootstrap()); !errors.Is(err, eval.ErrOneClass) {
		t.Errorf("no folds: got %v, want %v", err, eval.ErrOneClass)
	}
	bad := eval.DefaultBootstrap()
	bad.Replicates = -1
	if _, err := eval.NewReport([]eval.Fold{{Sample: clustered(1, 6, 50)}}, bad); err == nil {
		t.Error("a bootstrap of -1 replicates: no error")
	}
}
