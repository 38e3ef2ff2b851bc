package drift_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"sync"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/drift"
)

// By hand: two days of ten rows; the first has 4 rows and the second 8 rows with the value 1, the rest 0.
func TestNullExpected(t *testing.T) {
	var values []float64
	var days []int
	for day, ones := range []int{4, 8} {
		for i := range 10 {
			v := 0.0
			if i < ones {
				v = 1
			}
			values, days = append(values, v), append(days, day)
		}
	}
	p := profile(t, []drift.Column{{Name: "x", Values: values}, {Name: "one", Values: make([]float64, 20)}}, days)
	null, err := drift.NewNull(p, 4, 100, 1)
	if err != nil {
		t.Fatal(err)
	}
	// s^2 = 2 0.2^2 = 0.08 in both bins, with shares 0.6 and 0.4; 1/2 + 1/4.
	want := (0.08/0.6 + 0.08/0.4) * 0.75
	if got := null.Features[0].Expected; !same(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := null.Overall.Expected; !same(got, want/2) {
		t.Errorf("overall: got %v, want %v", got, want/2)
	}
	if got := null.Features[1]; got != (drift.Noise{}) {
		t.Errorf("a constant: got %+v, want no noise", got)
	}
}

// With two days there are few possible draws, so the quantiles can be listed.
func TestNullDrawsWholeDays(t *testing.T) {
	values := []float64{0, 0, 0, 1, 0, 1, 1, 1} // the days have 1 and 3 of 4
	p := profile(t, []drift.Column{{Name: "x", Values: values}}, []int{5, 5, 5, 5, 9, 9, 9, 9})
	possible := map[float64]bool{}
	for reference := 1.0; reference <= 3; reference++ { // quarters: 1+1, 1+3, 3+3, halved
		for _, present := range []float64{1, 3} {
			a, b := reference/4, present/4
			possible[math.Round(1e9*drift.PSI([]float64{1 - a, a}, []float64{1 - b, b}))] = true
		}
	}
	for seed := range uint64(50) {
		null, err := drift.NewNull(p, 1, 1, seed)
		if err != nil {
			t.Fatal(err)
		}
		if got := null.Features[0]; got.Q95 != got.Q99 || !possible[math.Round(1e9*got.Q99)] {
			t.Errorf("seed %d: %+v matches no draw of two days and one", seed, got)
		}
	}
}

func TestNullIsSeeded(t *testing.T) {
	columns, days := rows(1, 10, 50)
	p := profile(t, columns, days)
	null := func(days int, seed uint64) *drift.Null {
		n, err := drift.NewNull(p, days, 500, seed)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	a := null(7, 1)
	if b := null(7, 1); !reflect.DeepEqual(a, b) {
		t.Errorf("the same seed: got %+v, want %+v", b, a)
	}
	if b := null(7, 2); a.Overall.Q99 == b.Overall.Q99 {
		t.Errorf("another seed: the same quantile %v", b.Overall.Q99)
	}
	if b := null(28, 1); !(b.Overall.Q99 < a.Overall.Q99 && b.Overall.Expected < a.Overall.Expected) {
		t.Errorf("28 days are no quieter than 7: got %+v, want less than %+v", b.Overall, a.Overall)
	}
	for i, n := range a.Features[:2] {
		if !(0 < n.Q95 && n.Q95 < n.Q99 && n.Expected < n.Q95) {
			t.Errorf("feature %d: %+v is not in order", i, n)
		}
	}
}

// In a market without drift whose days differ, the mean index is the expected one. One index in twenty and in a hundred
// exceeds the quantiles, within the error of estimating them from 28 days.
func TestNullHolds(t *testing.T) {
	const reference, present, perDay, runs = 28, 7, 100, 300
	rng := rand.New(rand.NewPCG(6, 0))
	draw := func(days int) ([]drift.Column, []int) {
		c := []drift.Column{{Name: "x"}}
		var of []int
		for day := range days {
			level := 0.5 * rng.NormFloat64()
			for range perDay {
				c[0].Values, of = append(c[0].Values, level+rng.NormFloat64()), append(of, day)
			}
		}
		return c, of
	}
	var psi, expected float64
	above95, above99, textbook := 0, 0, 0
	for run := range uint64(runs) {
		columns, days := draw(reference)
		p := profile(t, columns, days)
		null, err := drift.NewNull(p, present, 400, run)
		if err != nil {
			t.Fatal(err)
		}
		columns, days = draw(present)
		v, _ := p.PSI(count(p, columns, days))
		psi += v / runs
		expected += null.Overall.Expected / runs
		if v > null.Overall.Q95 {
			above95++
		}
		if v > null.Overall.Q99 {
			above99++
		}
		if v > 0.1 {
			textbook++
		}
	}
	t.Logf("mean index %.4f, expected %.4f; above q95 %.3f, above q99 %.3f, above the textbook's 0.1 %.3f", psi, expected,
		float64(above95)/runs, float64(above99)/runs, float64(textbook)/runs)
	if math.Abs(psi/expected-1) > 0.15 {
		t.Errorf("mean index %v, want about %v", psi, expected)
	}
	if above95 > runs/8 || above99 > runs/25 || above95 == 0 {
		t.Errorf("%d of %d above q95 and %d above q99", above95, runs, above99)
	}
}

func TestNullErrors(t *testing.T) {
	columns, days := rows(1, 1, 20)
	one := profile(t, columns, days)
	columns, days = rows(1, 2, 20)
	two := profile(t, columns, days)
	tests := []struct {
		name             string
		p                *drift.Profile
		days, replicates int
		is               error
	}{
		{"reference of one day", one, 7, 10, drift.ErrTooFewDays},
		{"no present", two, 0, 10, drift.ErrTooFewDays},
		{"no replicates", two, 7, 0, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := drift.NewNull(tt.p, tt.days, tt.replicates, 1); err == nil || tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("got %v, want %v", err, tt.is)
			}
		})
	}
}

func BenchmarkNull(b *testing.B) {
	columns, days := rows(1, 28, 1440)
	p := profile(b, columns, days)
	for b.Loop() {
		if _, err := drift.NewNull(p, 7, 1000, 1); err != nil {
			b.Fatal(err)
		}
	}
}

// Independent rows count in full; rows that repeat one value all day count as about one per day.
func TestEffectiveRows(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 0))
	const n, perDay = 200, 400
	free, stuck := drift.Column{Name: "free"}, drift.Column{Name: "stuck"}
	var days []int
	for day := range n {
		v := rng.NormFloat64()
		for range perDay {
			free.Values, stuck.Values, days = append(free.Values, rng.NormFloat64()), append(stuck.Values, v), append(days, day)
		}
	}
	columns := []drift.Column{free, stuck}
	p := profile(t, columns, days)
	s, err := p.Snapshot(count(p, columns, days), drift.NewNulls(p, 10, 1), drift.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Features[0].Effective; math.Abs(got/(n*perDay)-1) > 0.1 {
		t.Errorf("independent: got %v of %d", got, n*perDay)
	}
	if got := s.Features[1].Effective; math.Abs(got/n-1) > 0.1 {
		t.Errorf("one value a day: got %v, want about %d", got, n)
	}
}

// A null is computed once. Made returns it without waiting once it is computed.
func TestNulls(t *testing.T) {
	columns, days := rows(1, 6, 50)
	p := profile(t, columns, days)
	nulls := drift.NewNulls(p, 50, 1)
	if got := nulls.Made(4); got != nil {
		t.Errorf("before it was asked for: got %+v", got)
	}
	want, err := drift.NewNull(p, 4, 50, 1)
	if err != nil {
		t.Fatal(err)
	}
	var callers sync.WaitGroup
	for range 4 {
		callers.Go(func() {
			if got, err := nulls.Of(4); err != nil || !reflect.DeepEqual(got, want) || nulls.Made(4) != got {
				t.Errorf("got %+v (%v), want %+v", got, err, want)
			}
		})
	}
	callers.Wait()
	if _, err := nulls.Of(0); !errors.Is(err, drift.ErrTooFewDays) || nulls.Made(0) != nil {
		t.Errorf("no day: got %v", err)
	}
}
