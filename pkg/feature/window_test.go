package feature

import (
	"math"
	"math/rand/v2"
	"testing"
)

// bruteMoments computes mean and population sd of the defined values among the last size values, by definition.
func bruteMoments(values []float64, size int) (n int, mean, sd float64) {
	values = values[max(0, len(values)-size):]
	for _, v := range values {
		if !math.IsNaN(v) {
			n++
			mean += v
		}
	}
	mean /= float64(n)
	for _, v := range values {
		if !math.IsNaN(v) {
			sd += (v - mean) * (v - mean)
		}
	}
	return n, mean, math.Sqrt(sd / float64(n))
}

// same reports whether two numbers agree to a relative 1e-9, or are both NaN.
func same(a, b float64) bool {
	if math.IsNaN(a) || math.IsNaN(b) {
		return math.IsNaN(a) && math.IsNaN(b)
	}
	return math.Abs(a-b) <= 1e-9*max(1, math.Abs(a), math.Abs(b))
}

func TestWindowAgainstBruteForce(t *testing.T) {
	for _, size := range []int{1, 2, 7, 60} {
		rng := rand.New(rand.NewPCG(uint64(size), 0))
		least := (size + 1) / 2
		w := newWindow(size, least)
		var all []float64
		for i := range 20 * size {
			x := 50_000 + rng.NormFloat64()
			if rng.IntN(4) == 0 {
				x = math.NaN()
			}
			all = append(all, x)
			w.push(x)
			n, mean, sd := bruteMoments(all, size)
			wantMean, wantZ := mean, (1-mean)/sd
			if n < least {
				wantMean, wantZ = math.NaN(), math.NaN()
			}
			if n < 2 {
				wantZ = math.NaN() // a single value has no spread
			}
			if !same(w.mean(), wantMean) || !same(w.z(1), wantZ) {
				t.Fatalf("size %d, push %d: got %v, %v, want %v, %v", size, i, w.mean(), w.z(1), wantMean, wantZ)
			}
		}
	}
}

// In a quiet hour after a volatile one, a sum that subtracts departing values has lost its precision.
func TestWindowForgetsExactly(t *testing.T) {
	for phase := range 60 {
		w := newWindow(60, 30)
		for i := range 300 + phase {
			w.push(1e9 * float64(i))
		}
		for i := range 60 {
			w.push(float64(i%2) * 1e-6)
		}
		if got := w.mean(); math.Abs(got-0.5e-6) > 1e-18 {
			t.Errorf("phase %d: mean %v, want 5e-07", phase, got)
		}
		if got := w.z(1e-6); math.Abs(got-1) > 1e-9 {
			t.Errorf("phase %d: z %v, want 1", phase, got)
		}
	}
}

func TestWindowOfEqualValues(t *testing.T) {
	w := newWindow(60, 30)
	for i := range 150 {
		w.push(0.1 + float64(i)/3)
	}
	for i := range 200 {
		w.push(1.0 / 3)
		if z := w.z(1.0 / 3); i >= 59 && !math.IsNaN(z) {
			t.Fatalf("push %d: z of equal values is %v, want NaN", i, z)
		} else if i < 59 && math.IsNaN(z) {
			t.Fatalf("push %d: z is NaN while the values differ", i)
		}
	}
}

func BenchmarkWindowPush(b *testing.B) {
	w := newWindow(1440, 720)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		w.push(float64(i & 1023))
		i++
	}
}
