package calibrate

import (
	"math"
	"reflect"
	"testing"
)

func quiet(trials int) Options {
	return Options{Trials: trials, Seed: 1, Progress: func(int, int) {}}
}

// The index of Student's t with two degrees of freedom at 1.5 times its scale, computed by hand from its quantiles at 0.6,
// 0.7, 0.8 and 0.9 (0.2887, 0.6172, 1.0607, 1.8856): shares of 0.1680, 0.1085, 0.0840, 0.0722 and 0.0674 in the bins of each
// half. For a normal shifted by d, the index in ever finer bins approaches d^2, and deciles keep 95 % of that.
func TestTheory(t *testing.T) {
	all := laws()
	if got := all[2].theory(); math.Abs(got-0.1214) > 5e-4 {
		t.Errorf("Student t: got %v, want 0.1214", got)
	}
	if got := all[0].theory(); !(got < 0.25 && got > 0.95*0.25) {
		t.Errorf("normal: got %v, want a little below 0.25", got)
	}
	for _, l := range all {
		for _, p := range []float64{0.01, 0.3, 0.5, 0.9} {
			if got := l.cdf(l.quantile(p)); math.Abs(got-p) > 1e-9 {
				t.Errorf("%s: cdf(quantile(%v)) = %v", l.change, p, got)
			}
		}
	}
}

// The measured index is what the formulas give, plus the noise of 5,000 rows: (bins - 1)(1/n + 1/m) = 0.0027.
func TestPowers(t *testing.T) {
	all, err := Powers(t.Context(), quiet(30))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		if d := p.MeanPSI - p.TheoryPSI; !(math.Abs(d-0.0027) < 0.004) {
			t.Errorf("%s: measured %v, by the formula %v", p.Change, p.MeanPSI, p.TheoryPSI)
		}
		if p.Trials != 30 || p.Failed > p.Warned || p.Warned > 30 {
			t.Errorf("got %+v", p)
		}
	}
}

func TestFalseAlarms(t *testing.T) {
	pool := AutoregressivePool(50, []float64{0, 0.99}, 3)
	first, err := FalseAlarms(t.Context(), pool, []int{1000, 20_000}, quiet(20))
	if err != nil {
		t.Fatal(err)
	}
	again, err := FalseAlarms(t.Context(), pool, []int{1000, 20_000}, quiet(20))
	if err != nil || !reflect.DeepEqual(first, again) {
		t.Errorf("again: got %+v, %v, want %+v", again, err, first)
	}
	for i, want := range []Alarms{{Rows: 1000, Days: 7}, {Rows: 20_000, Days: 14}} {
		if got := first[i]; got.Rows != want.Rows || got.Days != want.Days || got.Trials != 20 || !(got.MeanPSI > 0 && got.MeanPSI < 0.1) {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	if _, err := FalseAlarms(t.Context(), AutoregressivePool(30, []float64{0}, 3), []int{1000}, quiet(1)); err == nil {
		t.Error("a pool of 30 days: no error")
	}
	row, err := Consecutive(t.Context(), pool, 1, quiet(1))
	if err != nil || row.Trials != 22 || row.Gate != 0 { // one day is never enough for a FAIL
		t.Errorf("a day in a row: got %+v, %v", row, err)
	}
}

// The rows of a draw are evenly spaced over its days, and each is a row of the pool.
func TestRows(t *testing.T) {
	pool := AutoregressivePool(4, []float64{0.5, 0.9}, 3)
	perDay := map[int]int{}
	pool.rows([]int{3, 1}, 100, func(day int, x []float64) {
		perDay[day]++
		if len(x) != 2 {
			t.Fatalf("row of %d values", len(x))
		}
	})
	if !reflect.DeepEqual(perDay, map[int]int{0: 50, 1: 50}) {
		t.Errorf("got %v rows by day", perDay)
	}
	all := 0
	pool.rows([]int{0}, 1_000_000, func(int, []float64) { all++ })
	if all != 1440 {
		t.Errorf("all rows: got %d, want 1440", all)
	}
}
