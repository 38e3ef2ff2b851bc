package gate

import (
	"fmt"
	"math"

	"github.com/greenlight-ml/greenlight/pkg/stats"
)

// Observation is the measurement for one rule.
type Observation struct {
	// Value is the measurement in the rule's unit. NaN and infinities count as missing.
	Value float64
	// N is the number of samples behind Value. With 0 samples Value is meaningless and not shown.
	N uint64
	// Missing, if not empty, is the reason why there is no measurement ("prometheus: no such series", "series is
	// frozen"). Value is then ignored.
	Missing string
	// Bounds is an optional interval around Value. It is displayed but never decides.
	Bounds *Bounds
}

// Bounds is an interval in the unit of its value.
type Bounds struct {
	Low  float64 `json:"low"`
	High float64 `json:"high"`
}

// Measured returns an observation of a value based on n samples.
func Measured(value float64, n uint64) Observation {
	return Observation{Value: value, N: n}
}

// Missing returns an observation for a source that did not answer, with the reason.
func Missing(reason string) Observation {
	if reason == "" {
		reason = "no reason given"
	}
	return Observation{Missing: reason}
}

// Rate returns an observation of k successes (or failures) in n trials, with the 95 % Wilson interval for display.
// Zero trials are too few samples, not a missing source: they are judged [Inconclusive]. More successes than trials
// are an error in the source.
func Rate(k, n uint64) Observation {
	if k > n {
		return Missing(fmt.Sprintf("impossible count: %d of %d", k, n))
	}
	if n == 0 {
		return Observation{}
	}
	low, high := stats.Wilson(k, n, stats.Z95)
	return Observation{Value: float64(k) / float64(n), N: n, Bounds: &Bounds{Low: low, High: high}}
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

// HistogramQuantile returns the q-quantile, q in (0,1), of observations counted in buckets. edges are the ascending
// upper edges; one more bucket counts what lies above the last. It interpolates linearly within a bucket, and returns
// the last edge above it, like Prometheus' histogram_quantile, so that both judge alike. For any threshold that is an
// edge, the quantile is on the correct side. It is NaN without observations.
func HistogramQuantile(q float64, edges []float64, counts []uint64) float64 {
	total := uint64(0)
	for _, n := range counts {
		total += n
	}
	if total == 0 || len(edges) == 0 || len(counts) != len(edges)+1 {
		return math.NaN()
	}
	rank, below := q*float64(total), 0.0
	for i, edge := range edges {
		n := float64(counts[i])
		if below+n >= rank && n > 0 {
			from := 0.0
			if i > 0 {
				from = edges[i-1]
			}
			return from + (edge-from)*(rank-below)/n
		}
		below += n
	}
	return edges[len(edges)-1]
}
