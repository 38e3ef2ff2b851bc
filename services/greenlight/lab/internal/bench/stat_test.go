package bench

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestSpreadOf(t *testing.T) {
	tests := map[string]struct {
		values []float64
		want   Spread
	}{
		"none": {nil, Spread{}},
		"one":  {[]float64{3}, Spread{3, 3, 3, 1}},
		"odd":  {[]float64{9, 1, 4}, Spread{4, 1, 9, 3}},
		"even": {[]float64{8, 1, 4, 2}, Spread{3, 1, 8, 4}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			before := slices.Clone(tt.values)
			if got := SpreadOf(tt.values); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
			if !slices.Equal(tt.values, before) {
				t.Error("the values were reordered")
			}
		})
	}
}

// The ranks match the tables of the sign test (Conover, Practical Nonparametric Statistics).
func TestInterval(t *testing.T) {
	for n, rank := range map[int]int{1: 1, 5: 1, 6: 1, 8: 1, 9: 2, 11: 2, 12: 3, 15: 4, 20: 6} {
		values := make([]float64, n)
		for i := range values {
			values[n-1-i] = float64(i + 1)
		}
		if low, high := interval(values); low != float64(rank) || high != float64(n+1-rank) {
			t.Errorf("of %d values: got %v..%v, want the %d-th from both ends", n, low, high, rank)
		}
	}
}

// A failed round is not hidden by the others.
func TestSpreadOfWhatIsNoNumber(t *testing.T) {
	for _, v := range []float64{math.NaN(), math.Inf(1)} {
		if s := SpreadOf([]float64{1, 1, 1, v}); !math.IsNaN(s.Median) || reached(">=", s.Median, 0) || reached("<=", s.Median, 2) {
			t.Errorf("with %v: got %+v, want a median that reaches nothing", v, s)
		}
	}
}

func TestRatiosAreOfTheSameRound(t *testing.T) {
	perSecond := func(n ...int64) (s []Sample) {
		for _, calls := range n {
			s = append(s, Sample{calls: calls, took: 2 * time.Second})
		}
		return s
	}
	got := ratios(perSecond(90, 40), perSecond(100, 80), Sample.Throughput)
	if !slices.Equal(got, []float64{0.9, 0.5}) {
		t.Errorf("got %v, want 0.9 and 0.5", got)
	}
	if got := perSecond(90)[0].Throughput(); got != 45 {
		t.Errorf("throughput: got %v, want 45", got)
	}
}

func TestReached(t *testing.T) {
	tests := []struct {
		op        string
		v, target float64
		want      bool
	}{
		{">=", 0.9, 0.9, true},
		{">=", 0.89, 0.9, false},
		{"<=", 1.1, 1.1, true},
		{"<=", 1.11, 1.1, false},
		{"<=", 0, 0, true},
		{"", 1, 1, false},
	}
	for _, tt := range tests {
		if got := reached(tt.op, tt.v, tt.target); got != tt.want {
			t.Errorf("%v %s %v: got %v", tt.v, tt.op, tt.target, got)
		}
	}
}

// A runs as often before B as B before A, within a round and over rounds.
func TestSidesAreMeasuredInTurn(t *testing.T) {
	for round := range 2 {
		var got []string
		err := inTurn(round, 10, []string{"a", "b"}, func(name string, slice int) error {
			got = append(got, name)
			if len(got) != 2*slice+1 && len(got) != 2*slice+2 {
				t.Errorf("round %d: %d measured in slice %d", round, len(got), slice)
			}
			return nil
		})
		want := "abba abba abba abba abba"
		if round == 1 {
			want = "baab baab baab baab baab"
		}
		if want = strings.ReplaceAll(want, " ", ""); err != nil || strings.Join(got, "") != want {
			t.Errorf("round %d: got %v, %v, want %s", round, got, err, want)
		}
	}
	stop := errors.New("stop")
	if err := inTurn(0, 1, []string{"a"}, func(string, int) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("got %v, want %v", err, stop)
	}
}
