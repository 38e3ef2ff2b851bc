package gate

import (
	"fmt"
	"math"

	"github.com/greenlight-ml/greenlight/pkg/stats"
)

// Observation is what was measured for one rule.
type Observation struct {
	// Value is the measurement in the rule's unit. NaN and infinities are judged as missing.
	Value float64
	// N is the number of samples behind Value. With 0 samples Value says nothing and is not shown.
	N uint64
	// Missing, if not empty, says why there is no measurement ("prometheus: no such series", "series is frozen").
	// Value is then ignored.
	Missing string
	// Bounds is an optional interval around Value. It is shown beside the value and never decides.
	Bounds *Bounds
}

// Bounds is an interval in the unit of the value that it belongs to.
type Bounds struct {
	Low  float64 `json:"low"`
	High float64 `json:"high"`
}

// Measured is a value on n samples.
func Measured(value float64, n uint64) Observation {
	return Observation{Value: value, N: n}
}

// Missing is the observation of a source that did not answer, and why.
func Missing(reason string) Observation {
	if reason == "" {
		reason = "no reason given"
	}
	return Observation{Missing: reason}
}

// Rate is k successes (or failures) in n trials, with the 95 % Wilson interval for display. No trials yet is too few
// samples and not a missing source: it is judged [Inconclusive]. More successes than trials is a fault of the source.
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
