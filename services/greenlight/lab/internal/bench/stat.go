package bench

import (
	"cmp"
	"math"
	"slices"
)

// Spread is the median, the minimum and the maximum of the rounds.
type Spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
	// Rounds is the number of rounds.
	Rounds int `json:"rounds"`
}

// SpreadOf summarizes the values; it is the zero Spread if there are none. A value that is not finite makes the median NaN, so
// that the other rounds do not hide a failed one.
func SpreadOf(values []float64) Spread {
	n := len(values)
	if n == 0 {
		return Spread{}
	}
	sorted := slices.SortedFunc(slices.Values(values), cmp.Compare)
	s := Spread{Median: sorted[n/2], Min: sorted[0], Max: sorted[n-1], Rounds: n}
	if n%2 == 0 {
		s.Median = (sorted[n/2-1] + sorted[n/2]) / 2
	}
	for _, v := range values {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			s.Median = math.NaN()
		}
	}
	return s
}

// interval is the 95 % interval of the median, from order statistics: the k-th smallest and the k-th largest value, for the
// largest k such that both tails of the binomial distribution together have at most 5 %.
func interval(values []float64) (low, high float64) {
	n := len(values)
	if n == 0 {
		return 0, 0
	}
	sorted := slices.SortedFunc(slices.Values(values), cmp.Compare)
	k, p := 0, math.Pow(0.5, float64(n)) // p is P(X = k)
	for below := p; below <= 0.025; k++ {
		p *= float64(n-k) / float64(k+1)
		below += p
	}
	k = max(k, 1)
	return sorted[k-1], sorted[n-k]
}

// ratios divides the samples' measure round by round.
func ratios(samples, base []Sample, measure func(Sample) float64) []float64 {
	n := min(len(samples), len(base))
	values := make([]float64, n)
	for i := range n {
		values[i] = measure(samples[i]) / measure(base[i])
	}
	return values
}

// measures applies the measure to each sample.
func measures(samples []Sample, measure func(Sample) float64) []float64 {
	values := make([]float64, len(samples))
	for i, s := range samples {
		values[i] = measure(s)
	}
	return values
}

func p50(s Sample) float64 { return s.Quantile(50) }
func p99(s Sample) float64 { return s.Quantile(99) }

// cpuPerCall returns the server's CPU time per call, in microseconds.
func cpuPerCall(s Sample) float64 { return float64(s.cpu.Nanoseconds()) / 1e3 / float64(s.all) }
