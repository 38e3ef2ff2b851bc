package label_test

import (
	"math"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/label"
	"github.com/greenlight-ml/greenlight/pkg/market"
)

func minute(i int, low, high float64) market.Bar {
	mid := (low + high) / 2
	return market.Bar{Start: int64(i) * market.MinuteMS, Open: mid, High: high, Low: low, Close: mid}
}

func compute(t *testing.T, bars []market.Bar) *feature.Frame {
	t.Helper()
	f, err := feature.Compute(bars)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestRange(t *testing.T) {
	var bars []market.Bar
	for i := range 40 {
		bars = append(bars, minute(i, 100, 100))
	}
	bars[20] = minute(20, 99, 103)
	got := label.Default().Range(compute(t, bars))
	wide := 1e4 * math.Log(103.0/99)
	for i, g := range got {
		var want float64
		switch {
		case i+15 >= 40:
			want = math.NaN()
		case i < 20 && i+15 >= 20: // the window starts after i and ends with i + 15
			want = wide
		}
		if math.IsNaN(g) != math.IsNaN(want) || math.Abs(g-want) > 1e-9 {
			t.Errorf("minute %d: got %v, want %v", i, g, want)
		}
	}
}

func TestRangeAtHoles(t *testing.T) {
	var bars []market.Bar
	for i := range 40 {
		bars = append(bars, minute(i, 100, 101))
	}
	for i := 45; i < 85; i++ { // 5 missing minutes are filled
		bars = append(bars, minute(i, 100, 101))
	}
	for i := 96; i < 130; i++ { // 11 missing minutes are a hole
		bars = append(bars, minute(i, 100, 101))
	}
	f := compute(t, bars)
	for i, g := range label.Default().Range(f) {
		m := f.End(i)/market.MinuteMS - 1
		if want := m+15 <= 84 || m >= 96 && m+15 <= 129; math.IsNaN(g) == want {
			t.Errorf("minute %d: got %v, defined should be %v", m, g, want)
		}
	}
}

func TestZ(t *testing.T) {
	var bars []market.Bar
	for i := range 2 * 1440 {
		price := 100 + float64(i%2)
		bars = append(bars, minute(i, price, price))
	}
	f := compute(t, bars)
	z, r, sigma := label.Default().Z(f), label.Default().Range(f), f.Column("sigma_ref")
	if !math.IsNaN(z[1439]) {
		t.Errorf("z on the first day: got %v, want NaN", z[1439])
	}
	for i := 1440; i < 2*1440-15; i++ {
		if want := r[i] / (sigma[i] * math.Sqrt(15)); math.Abs(z[i]-want) > 1e-12 {
			t.Fatalf("minute %d: got %v, want %v", i, z[i], want)
		}
	}
	// A price that alternates by the same step each minute has a range of one sigma: 1/sqrt 15 of the normal range.
	if got, want := z[2000], 1/math.Sqrt(15); math.Abs(got-want) > 1e-9 {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestThreshold(t *testing.T) {
	nan := math.NaN()
	tests := []struct {
		name string
		z    []float64
		want float64
	}{
		{"undefined rows do not count", []float64{nan, 3, 1, nan, 2, 5, 4, nan}, 3.88}, // 1 + 4*0.72 of 1..5
		{"one row", []float64{7}, 7},
		{"nothing defined", []float64{nan}, nan},
		{"nothing", nil, nan},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := label.Default().Threshold(tt.z); math.IsNaN(got) != math.IsNaN(tt.want) || math.Abs(got-tt.want) > 1e-12 {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// Another horizon and another quantile, against the definition.
func TestRule(t *testing.T) {
	var bars []market.Bar
	price := 100.0
	for i := range 2 * 1440 {
		price *= 1 + 0.001*math.Sin(float64(i*i))
		bars = append(bars, minute(i, price, price*1.0005))
	}
	f := compute(t, bars)
	for _, rule := range []label.Rule{{Horizon: 1, Quantile: 0.5}, {Horizon: 60, Quantile: 0.9}, {Horizon: 240, Quantile: 0.1}} {
		z, sigma := rule.Z(f), f.Column("sigma_ref")
		above, reached, defined, threshold := 0, 0, 0, rule.Threshold(z)
		for i := 1440; i < f.Len(); i++ {
			if i+rule.Horizon >= f.Len() {
				if !math.IsNaN(z[i]) {
					t.Errorf("%+v, minute %d: got %v after the end", rule, i, z[i])
				}
				continue
			}
			high, low := 0.0, math.Inf(1)
			for k := i + 1; k <= i+rule.Horizon; k++ {
				high, low = max(high, bars[k].High), min(low, bars[k].Low)
			}
			if want := 1e4 * math.Log(high/low) / (sigma[i] * math.Sqrt(float64(rule.Horizon))); math.Abs(z[i]-want) > 1e-9 {
				t.Fatalf("%+v, minute %d: got %v, want %v", rule, i, z[i], want)
			}
			defined++
			if z[i] > threshold {
				above++
			}
			if z[i] >= threshold {
				reached++
			}
		}
		// Neighbours share their highest and lowest price, so many values are equal.
		if want := (1 - rule.Quantile) * float64(defined); float64(above) > want+1 || float64(reached) < want-1 {
			t.Errorf("%+v: %d of %d rows are above the threshold, %d reach it: want %.0f between them", rule, above, defined, reached, want)
		}
	}
}

func TestCompleteRule(t *testing.T) {
	if got, err := (label.Rule{}).Complete(); err != nil || got != label.Default() {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, bad := range []label.Rule{{Horizon: -1}, {Horizon: label.MaxHorizon + 1}, {Quantile: 1}, {Quantile: -0.1}, {Quantile: math.NaN()}} {
		if _, err := bad.Complete(); err == nil {
			t.Errorf("%+v was accepted", bad)
		}
	}
}
